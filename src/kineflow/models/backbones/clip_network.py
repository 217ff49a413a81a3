"""What every 3D backbone has in common: its output, its smallest clip, its convolutions."""

from typing import Literal

from torch import Tensor, nn

from kineflow.errors import ParamsError
from kineflow.models.backbones.cpu_convolutions import with_cpu_convolutions

# What goes behind the maps of a clip, which keep some time steps.
CLIP_POOLINGS = (
    "avg", "concat", "concat_fc", "lstm", "gru", "tcn", "transformer", "bert",
    "nonlocal_avg", "nonlocal_concat", "nonlocal_concat_fc", "conv_gru",
)  # fmt: skip
# Feature reduction with a modified or an added last block (Kalfaoglu 2020, 4.1.2), or none.
Reduction = Literal["", "frmb", "frab"]


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
        self.network = with_cpu_convolutions(network)
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
