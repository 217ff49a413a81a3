"""Tracking by cycle consistency: a patch is followed into the past and back, and should end where it began.

From the last frame of a clip a patch is cut. Its features are found again `gap` frames earlier, those `gap` frames
before, and so on for i steps, then forwards again; after each such cycle the patch that was found in the last frame
should have the features that the search started with. Finding it means: compare every place of the patch with every
place of the frame, let a small network read the place, the scale and the angle from these affinities, and sample there.

Source: Wang et al., Learning correspondence from the cycle-consistency of time, CVPR 2019; beside classification:
Toering, Video classification from scratch, 3.4 and equation 3.3.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LAMBDA = 0.1  # of the two distances, beside the similarity (equation 3.3)
HIDDEN = 64
Encode = Callable[[Tensor], Tensor]  # clips_BCTHW -> maps_BDTHW of the layers before the branch


@dataclass(frozen=True)
class TrackingRule:
    """What is tracked, and how far back.

    Attributes:
        patch_fraction: side of the patch, of the side of the image (thesis: 80 of 240 pixels).
        num_past: k, the longest cycle in steps (thesis: 3).
        gap: f, frames from one step to the next (thesis: 4).
    """

    patch_fraction: float
    num_past: int
    gap: int

    @property
    def min_frames(self) -> int:
        """The shortest clip that holds the longest cycle."""
        return self.num_past * self.gap + 1


class TrackingBranch(nn.Module):
    """Follow one patch of each clip through its past and back.

    Args:
        rule: what is tracked.
        maps_HW: height and width of the maps that the branch reads.
    """

    def __init__(self, rule: TrackingRule, *, maps_HW: tuple[int, int]) -> None:
        super().__init__()
        self.rule = rule
        self.patch_HW = tuple(max(2, round(rule.patch_fraction * side)) for side in maps_HW)
        num_places = self.patch_HW[0] * self.patch_HW[1]
        self.localiser = nn.Sequential(
            nn.Conv2d(num_places, HIDDEN, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(HIDDEN, HIDDEN, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(16 * HIDDEN, 3),
        )
        last = self.localiser[-1]
        assert isinstance(last, nn.Linear)
        nn.init.normal_(last.weight, std=1e-2)  # begins at the middle of the frame, upright
        nn.init.zeros_(last.bias)

    def forward(self, clips_BCTHW: Tensor, maps_BDTHW: Tensor, encode: Encode) -> Tensor:
        """The loss of equation 3.3, its mean over the clips.

        Args:
            clips_BCTHW: as the network saw them; at least `rule.min_frames` frames.
            maps_BDTHW: of those clips, one time step a frame.
            encode: what made them; it is given the patch as a clip of one frame.
        """
        start_BDHW = F.normalize(self._resized(encode(self._cut(clips_BCTHW))[:, :, 0]).float(), dim=1)
        maps_BDTHW = F.normalize(maps_BDTHW.float(), dim=1)
        last_BDHW = maps_BDTHW[:, :, -1]
        losses = []
        for num_steps in range(1, self.rule.num_past + 1):
            backwards = [-1 - step * self.rule.gap for step in range(1, num_steps + 1)]
            long_BDHW = start_BDHW
            for frame in [*backwards, *backwards[-2::-1], -1]:
                long_BDHW = self._find(long_BDHW, maps_BDTHW[:, :, frame])
            leap_BDHW = self._find(start_BDHW, maps_BDTHW[:, :, backwards[-1]])
            skip_BDHW = self._find(leap_BDHW, last_BDHW)
            distances_B = _distance(start_BDHW, long_BDHW) + _distance(start_BDHW, skip_BDHW)
            losses.append((LAMBDA * distances_B - _similarity(start_BDHW, leap_BDHW)).mean())
        return torch.stack(losses).sum()

    def _cut(self, clips_BCTHW: Tensor) -> Tensor:
        """A random place of the last frame of each clip, (B, C, 1, h, w)."""
        num_clips, _, _, height, width = clips_BCTHW.shape
        patch_h, patch_w = (max(1, round(self.rule.patch_fraction * side)) for side in (height, width))
        fractions_B2 = torch.rand(num_clips, 2).tolist()
        patches = []
        for clip_CTHW, (down, right) in zip(clips_BCTHW, fractions_B2, strict=True):
            top, left = int(down * (height - patch_h + 1)), int(right * (width - patch_w + 1))
            patches.append(clip_CTHW[:, -1:, top : top + patch_h, left : left + patch_w])
        return torch.stack(patches)

    def _resized(self, maps_BDHW: Tensor) -> Tensor:
        if tuple(maps_BDHW.shape[2:]) == self.patch_HW:
            return maps_BDHW
        return F.interpolate(maps_BDHW, self.patch_HW, mode="bilinear", align_corners=False)

    def _find(self, patch_BDHW: Tensor, map_BDHW: Tensor) -> Tensor:
        """Where the patch is in a frame: the frame's features there, in the patch's shape."""
        theta_B3 = self.localiser(affinity(patch_BDHW, map_BDHW))
        angle_B = torch.tanh(theta_B3[:, 2]) * (torch.pi / 6)
        scale_h, scale_w = (patch / side for patch, side in zip(self.patch_HW, map_BDHW.shape[2:], strict=True))
        room_y, room_x = 1 - scale_h, 1 - scale_w  # so that an upright patch stays inside
        cos_B, sin_B = angle_B.cos(), angle_B.sin()
        rows = [
            torch.stack([cos_B * scale_w, -sin_B * scale_h, torch.tanh(theta_B3[:, 0]) * room_x], dim=1),
            torch.stack([sin_B * scale_w, cos_B * scale_h, torch.tanh(theta_B3[:, 1]) * room_y], dim=1),
        ]
        shape = [len(patch_BDHW), map_BDHW.shape[1], *self.patch_HW]
        grid = F.affine_grid(torch.stack(rows, dim=1), shape, align_corners=False).nan_to_num()
        found = F.grid_sample(map_BDHW, grid, mode="bilinear", padding_mode="border", align_corners=False)
        # at a place that is nan it would read and write anywhere: now the loss is nan, and the training ends in words
        return F.normalize(found, dim=1) + 0 * theta_B3.sum(dim=1)[:, None, None, None]


def affinity(patch_BDHW: Tensor, map_BDHW: Tensor) -> Tensor:
    """How like each place of a frame each place of a patch is: (B, places of the patch, H, W).

    A softmax over the places of the frame, of the products of features of length one, over the root of their number.
    """
    height, width = map_BDHW.shape[2:]
    products_BPN = patch_BDHW.flatten(2).transpose(1, 2) @ map_BDHW.flatten(2)
    temperature = map_BDHW.shape[1] ** -0.5
    shares_BPN = (products_BPN / temperature).softmax(dim=2)
    return shares_BPN.unflatten(2, (height, width)) * (height * width)


def _similarity(first_BDHW: Tensor, second_BDHW: Tensor) -> Tensor:
    """Inner product of the features at each place of two patches, its mean over the places: (B,), in [-1, 1]."""
    return (first_BDHW * second_BDHW).sum(dim=1).mean(dim=(1, 2))


def _distance(first_BDHW: Tensor, second_BDHW: Tensor) -> Tensor:
    """Euclidean distance of the features at each place of two patches, its mean over the places: (B,)."""
    return (first_BDHW - second_BDHW).square().sum(dim=1).add(1e-12).sqrt().mean(dim=(1, 2))
