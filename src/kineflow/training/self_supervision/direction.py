"""The arrow of time: does a clip play forwards or backwards?

Source: Pickup et al., Seeing the arrow of time, CVPR 2014; as an extra branch: Toering, Video classification from
scratch, 3.5 and equation 3.4.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kineflow.models.backbones.bottleneck3d import Stage, build_stage, cubic_middle
from kineflow.models.backbones.cpu_convolutions import with_cpu_convolutions
from kineflow.models.backbones.resnet2d import initialise_convolutions
from kineflow.models.orientation import NUM_DIRECTIONS, NUM_FIELDS

NUM_BLOCKS = 3
Kind = Literal["image", "flow", "difference", "orientation"]


class DirectionBranch(nn.Module):
    """Max pooling, a strided stage of bottlenecks, the mean over what is left, one logit.

    Args:
        in_channels: D of the maps that the branch reads; the stage has twice as many.
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        stage = Stage(NUM_BLOCKS, max(8, in_channels // 2), 2 * in_channels, (2, 2, 2))
        self.pool = nn.MaxPool3d(3, stride=2, padding=1)
        self.stage = with_cpu_convolutions(build_stage(in_channels, stage, build_middle=cubic_middle()))
        self.head = nn.Linear(2 * in_channels, 1)
        initialise_convolutions(self)

    def forward(self, maps_BDTHW: Tensor) -> Tensor:
        """The logit of each clip, float32 (B,), that it plays forwards."""
        features_BD = self.stage(self.pool(maps_BDTHW)).mean(dim=(2, 3, 4))
        logits_B1: Tensor = self.head(features_BD)
        return logits_B1[:, 0].float()


def reverse_time(clips_BCTHW: Tensor, *, kind: Kind) -> Tensor:
    """The clips played backwards: the frames in the opposite order, and motion in the opposite direction.

    Args:
        kind: of the channels. Flow and differences change their sign; in each of the three fields of orientations,
            opposite directions change places.
    """
    backwards = clips_BCTHW.flip(2)
    if kind == "image":
        return backwards
    if kind == "orientation":
        fields = backwards.unflatten(1, (NUM_FIELDS, NUM_DIRECTIONS))
        return fields.roll(NUM_DIRECTIONS // 2, dims=2).flatten(1, 2)
    return -backwards


def direction_loss(logits_forward_N: Tensor, logits_backward_M: Tensor) -> Tensor:
    """Mean binary cross-entropy (equation 3.4) of clips that were shown forwards and of others shown backwards."""
    logits = torch.cat([logits_forward_N, logits_backward_M])
    targets = torch.cat([torch.ones_like(logits_forward_N), torch.zeros_like(logits_backward_M)])
    return F.binary_cross_entropy_with_logits(logits, targets)
