"""Temporal shift: a 2D ResNet whose blocks swap some channels with the frames beside, at no cost in arithmetic.

Source: Lin, Gan and Han 2019, TSM: Temporal shift module for efficient video understanding; Kalfaoglu 2020, 2.2.9.
"""

from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from kineflow.models.backbones.resnet2d import FrameByFrame, build_resnet_trunk
from kineflow.models.specs import FRAME_POOLINGS, BackboneSpec, Options, Task

Place = Literal["residual", "in_place", "online"]
SHIFT_DIVISOR = 8  # an eighth of the channels in each direction: a quarter in all


def shift_channels(x_BTCHW: Tensor, *, num_channels: int, before_B1CHW: Tensor | None, both_ways: bool) -> Tensor:
    """Give each frame the first channels of the frame before and, both ways, the next ones of the frame behind.

    Args:
        x_BTCHW: left as it is.
        num_channels: channels that move in each direction.
        before_B1CHW: those that the first frame gets; None: zeros.
        both_ways: else only forwards in time.

    Returns:
        x_BTCHW; the last frame gets zeros from behind.
    """
    forwards = x_BTCHW[:, :, :num_channels]
    first = torch.zeros_like(forwards[:, :1]) if before_B1CHW is None else before_B1CHW.to(forwards.dtype)
    parts = [torch.cat((first, forwards[:, :-1]), dim=1)]
    kept = num_channels
    if both_ways:
        kept = 2 * num_channels
        backwards = x_BTCHW[:, :, num_channels:kept]
        parts.append(torch.cat((backwards[:, 1:], torch.zeros_like(backwards[:, :1])), dim=1))
    return torch.cat((*parts, x_BTCHW[:, :, kept:]), dim=2)


class TemporalShift(nn.Module):
    """Shift channels between the frames of each clip.

    Args:
        divisor: one channel of so many moves in each direction.
        both_ways: else only forwards in time, as frames that come one by one allow.

    Attributes:
        num_frames: T of the clips that pass; the backbone sets it.
        memory: in a stream, the channels that the next frame gets; None outside a stream.
    """

    def __init__(self, *, divisor: int, both_ways: bool) -> None:
        super().__init__()
        self.divisor = divisor
        self.both_ways = both_ways
        self.num_frames = 1
        self.memory: list[object] | None = None

    def forward(self, frames_NCHW: Tensor) -> Tensor:
        """Return frames_NCHW, N = B x T."""
        x_BTCHW = frames_NCHW.unflatten(0, (-1, self.num_frames))
        num_channels = x_BTCHW.shape[2] // self.divisor
        before_B1CHW = None
        if self.memory:
            (remembered,) = self.memory
            assert isinstance(remembered, Tensor)
            before_B1CHW = remembered
        if self.memory is not None:
            self.memory = [x_BTCHW[:, -1:, :num_channels].clone()]
        shifted = shift_channels(
            x_BTCHW, num_channels=num_channels, before_B1CHW=before_B1CHW, both_ways=self.both_ways
        )
        return shifted.flatten(0, 1)


class ShiftedFrames(FrameByFrame):
    """A 2D network with temporal shifts, which need to know the number of frames, and all of them."""

    reads_lengths = False

    def why_no_stream(self) -> str:
        """Return why the backbone cannot go on where a clip ended, or an empty string."""
        shifts = [module for module in self.modules() if isinstance(module, TemporalShift)]
        return "its shift brings features back from the next frame" if shifts[0].both_ways else ""

    def forward(self, clips_BCTHW: Tensor, num_frames_B: Tensor | None = None) -> Tensor:
        """Return maps_BDTHW; each shift lets a frame see one more on each side, or one more before it."""
        for module in self.modules():
            if isinstance(module, TemporalShift):
                module.num_frames = clips_BCTHW.shape[2]
        return super().forward(clips_BCTHW)


def build_tsm_resnet(arch: str, *, in_channels: int, place: Place, divisor: int = SHIFT_DIVISOR) -> ShiftedFrames:
    """Build torchvision's `arch` with a shift in every block; parameters keep torchvision's names.

    Args:
        arch: resnet18, resnet34, ...
        in_channels: C of the clips.
        place: `residual` shifts what the block's convolutions read and leaves the shortcut; `in_place` shifts both;
            `online` is residual, and only forwards in time.
        divisor: one channel of so many moves in each direction.
    """
    trunk, feature_dim = build_resnet_trunk(arch, in_channels=in_channels)
    for name in ("layer1", "layer2", "layer3", "layer4"):
        for block in getattr(trunk, name):
            shift = TemporalShift(divisor=divisor, both_ways=place != "online")
            block.add_module("shift", shift)
            reader = block if place == "in_place" else block.conv1
            reader.register_forward_pre_hook(partial(_shift_input, shift))
    return ShiftedFrames(trunk, feature_dim=feature_dim, first_layer="conv1")


def _shift_input(shift: TemporalShift, module: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    shifted: Tensor = shift(inputs[0])
    return shifted


def _build(arch: str, place: Place, in_channels: int, task: Task, options: Options) -> nn.Module:
    return build_tsm_resnet(arch, in_channels=in_channels, place=place, divisor=int(options["shift_divisor"]))


_SUFFIXES: dict[Place, str] = {"residual": "", "in_place": "_in_place", "online": "_online"}

SPECS = tuple(
    BackboneSpec(
        name=f"tsm_{arch}{suffix}",
        input="2d",
        build=partial(_build, arch, place),
        poolings=FRAME_POOLINGS,
        source="Lin, Gan and Han 2019, TSM: Temporal shift module for efficient video understanding",
        options={"shift_divisor": SHIFT_DIVISOR},
        stated_THW=(8, 224, 224),
        receptive_frames=1 + num_blocks * (1 if place == "online" else 2),
        padded=place == "online",  # padding is behind a clip, and a shift both ways brings it back
    )
    for arch, num_blocks in (("resnet18", 8), ("resnet50", 16))
    for place, suffix in _SUFFIXES.items()
)
