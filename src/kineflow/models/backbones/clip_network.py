"""What every 3D backbone has in common: its output, its smallest clip, convolutions that are sound."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from kineflow.errors import ParamsError

# What goes behind the maps of a clip, which keep some time steps.
CLIP_POOLINGS = (
    "avg", "concat", "concat_fc", "lstm", "gru", "tcn", "transformer", "bert",
    "nonlocal_avg", "nonlocal_concat", "nonlocal_concat_fc", "conv_gru",
)  # fmt: skip
# Feature reduction with a modified or an added last block (Kalfaoglu 2020, 4.1.2), or none.
Reduction = Literal["", "frmb", "frab"]
FEW_CHANNELS = 32  # of the input in each group; below, one step of a clip was seen to come out wrong


class ClipNetwork(nn.Module):
    """A 3D network up to its last activations.

    Args:
        network: clips_BCTHW -> activations (B, D, T', H', W').
        feature_dim: D.
        first_layer: name of the convolution that reads the input, as in `network.state_dict()`; several where the
            network reads it in several places.
        temporal_stride: frames for each time step; 1 where every frame keeps its own feature.
        min_frames: the fewest frames that leave one time step.
        min_side_px: the smallest height and width that leave one position.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        feature_dim: int,
        first_layer: str | tuple[str, ...],
        temporal_stride: int,
        min_frames: int = 1,
        min_side_px: int = 1,
    ) -> None:
        super().__init__()
        self.network = with_sound_convolutions(network)
        self.feature_dim = feature_dim
        names = (first_layer,) if isinstance(first_layer, str) else first_layer
        self.first_layer = tuple(f"network.{name}" for name in names)
        self.temporal_stride = temporal_stride
        self.min_frames = min_frames
        self.min_side_px = min_side_px

    def forward(self, clips_BCTHW: Tensor) -> Tensor:
        """Return maps (B, D, T', H', W'), T' about T / temporal_stride and at least 1.

        Raises:
            ParamsError: the clips have fewer frames or pixels than the network's strides need.
        """
        num_frames, height_px, width_px = clips_BCTHW.shape[2:]
        if num_frames < self.min_frames or min(height_px, width_px) < self.min_side_px:
            raise ParamsError(
                f"this backbone reads clips of at least {self.min_frames} frames of {self.min_side_px}x"
                f"{self.min_side_px} px, not {num_frames} of {height_px}x{width_px}: use longer or larger clips, or "
                f"a backbone with fewer strides, such as x3d_s"
            )
        maps_BDTHW: Tensor = self.network(clips_BCTHW)
        return maps_BDTHW


class SoundConv3d(nn.Conv3d):
    """A convolution that pads short clips by itself where it runs on a CPU: zeros in the input mean the same.

    Where oneDNN pads them (torch 2.13), values are what happens to be in memory, or the process ends:

    - two steps, a kernel of three: the gradient of the kernel, bf16, AVX512-BF16;
    - one step, an odd and small number of channels in each group: the output, bf16, AMX;
    - five to seven steps, a kernel of seven with stride two: the gradient of the kernel, float32.
    """

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Return what `nn.Conv3d` does."""
        if x_BCTHW.device.type != "cpu" or not self._is_at_risk(x_BCTHW.shape[2]):
            return super().forward(x_BCTHW)
        in_time, *in_space = (int(side) for side in self.padding)
        padded = F.pad(x_BCTHW, (0, 0, 0, 0, in_time, in_time))
        padding = (0, *in_space)
        return F.conv3d(padded, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def _is_at_risk(self, num_steps: int) -> bool:
        if isinstance(self.padding, str) or self.padding_mode != "zeros":
            return False
        if self.padding[0] == 0 or num_steps > self.kernel_size[0]:
            return False
        has_few_channels = self.in_channels // self.groups < FEW_CHANNELS
        return num_steps == 2 or has_few_channels or self.kernel_size[0] > 3


def with_sound_convolutions(network: nn.Module) -> nn.Module:
    """Make every plain 3D convolution of `network` a `SoundConv3d`, in place; names and values stay."""
    for module in network.modules():
        if isinstance(module, nn.Conv3d) and type(module).forward is nn.Conv3d.forward:
            module.__class__ = SoundConv3d
    return network


def set_input_channels(network: nn.Module, first_layer: str, in_channels: int) -> None:
    """Let the convolution `first_layer` read `in_channels`, in place: drawn anew by He's rule where it read others."""
    old = network.get_submodule(first_layer)
    assert isinstance(old, nn.Conv3d)
    if old.in_channels == in_channels:
        return
    new = nn.Conv3d(
        in_channels,
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]
        stride=old.stride,  # type: ignore[arg-type]
        padding=old.padding,  # type: ignore[arg-type]
        bias=old.bias is not None,
    )
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    parent, _, name = first_layer.rpartition(".")
    setattr(network.get_submodule(parent), name, new)
