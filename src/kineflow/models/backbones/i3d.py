"""I3D: Inception-v1, inflated to three dimensions; and its feature reduction.

Source: Carreira and Zisserman 2017, Quo vadis, action recognition? Names, sizes and padding as in
https://github.com/piergiaj/pytorch-i3d/blob/b49fadf943fc9b6fdadb29c677443ea95fbda9b0/pytorch_i3d.py
"""

from functools import partial

import torch
from torch import Tensor, nn

from kineflow.models.backbones.bottleneck3d import chain
from kineflow.models.backbones.clip_network import CLIP_POOLINGS, ClipNetwork, Reduction
from kineflow.models.backbones.resnet2d import initialise_convolutions
from kineflow.models.backbones.same_padding import SameConv3d, SameMaxPool3d
from kineflow.models.specs import BackboneSpec, Options, Task

# Channels: 1x1x1; 1x1x1 before 3x3x3, twice; 1x1x1 after pooling.
Widths = tuple[int, int, int, int, int, int]
_MIXED: dict[str, Widths] = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
_POOL_BEFORE = {
    "Mixed_3b": ("MaxPool3d_3a_3x3", (1, 3, 3), (1, 2, 2)),
    "Mixed_4b": ("MaxPool3d_4a_3x3", (3, 3, 3), (2, 2, 2)),
    "Mixed_5b": ("MaxPool3d_5a_2x2", (2, 2, 2), (2, 2, 2)),
}
# Of https://github.com/artest08/LateTemporalModeling3DCNN/blob/9ead09e41b38fb681be020e1924c6845bca426ed/models/rgb_I3D.py
_REDUCED: Widths = (192, 96, 192, 24, 64, 64)


class Unit3d(nn.Module):
    """Convolution padded `same`, batch norm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, *, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv3d: nn.Conv3d
        if stride == 1:
            self.conv3d = nn.Conv3d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False)
        else:
            self.conv3d = SameConv3d(in_channels, out_channels, (kernel,) * 3, (stride,) * 3)
        self.bn = nn.BatchNorm3d(out_channels, eps=1e-3, momentum=0.01)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Return (B, out_channels, ceil(T / stride), ceil(H / stride), ceil(W / stride))."""
        activated: Tensor = self.relu(self.bn(self.conv3d(x_BCTHW)))
        return activated


class InceptionBlock3d(nn.Module):
    """Four branches side by side: 1x1x1; 3x3x3 behind 1x1x1, wide and narrow; 1x1x1 behind max pooling."""

    def __init__(self, in_channels: int, widths: Widths) -> None:
        super().__init__()
        self.b0 = Unit3d(in_channels, widths[0], kernel=1)
        self.b1a = Unit3d(in_channels, widths[1], kernel=1)
        self.b1b = Unit3d(widths[1], widths[2], kernel=3)
        self.b2a = Unit3d(in_channels, widths[3], kernel=1)
        self.b2b = Unit3d(widths[3], widths[4], kernel=3)
        self.b3a = nn.MaxPool3d(3, stride=1, padding=1)
        self.b3b = Unit3d(in_channels, widths[5], kernel=1)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Return the branches' channels one after the other."""
        branches = (
            self.b0(x_BCTHW),
            self.b1b(self.b1a(x_BCTHW)),
            self.b2b(self.b2a(x_BCTHW)),
            self.b3b(self.b3a(x_BCTHW)),
        )
        return torch.cat(branches, dim=1)


def num_channels(widths: Widths) -> int:
    """Return the output channels of an Inception block."""
    return widths[0] + widths[2] + widths[4] + widths[5]


def build_i3d(*, in_channels: int, reduction: Reduction = "") -> ClipNetwork:
    """Build I3D.

    Args:
        in_channels: 3 for RGB, 2 for flow.
        reduction: `frmb` replaces the last Inception block by one that leaves 512 channels, `frab` adds such a block
            (Kalfaoglu 2020, 4.1.2).
    """
    layers: dict[str, nn.Module] = {
        "Conv3d_1a_7x7": Unit3d(in_channels, 64, kernel=7, stride=2),
        "MaxPool3d_2a_3x3": SameMaxPool3d((1, 3, 3), (1, 2, 2)),
        "Conv3d_2b_1x1": Unit3d(64, 64, kernel=1),
        "Conv3d_2c_3x3": Unit3d(64, 192, kernel=3),
    }
    channels = 192
    blocks = dict(_MIXED)
    if reduction == "frmb":
        blocks["Mixed_5c"] = _REDUCED
    elif reduction == "frab":
        blocks["reduction"] = _REDUCED
    for name, widths in blocks.items():
        if name in _POOL_BEFORE:
            pool_name, kernel, stride = _POOL_BEFORE[name]
            layers[pool_name] = SameMaxPool3d(kernel, stride)
        layers[name] = InceptionBlock3d(channels, widths)
        channels = num_channels(widths)
    network = chain(layers)
    initialise_convolutions(network)
    return ClipNetwork(network, feature_dim=channels, first_layer="Conv3d_1a_7x7.conv3d", temporal_stride=8)


def _build(reduction: Reduction, in_channels: int, task: Task, options: Options) -> nn.Module:
    return build_i3d(in_channels=in_channels, reduction=reduction)


_VARIANTS: tuple[tuple[str, Reduction], ...] = (("i3d", ""), ("i3d_frmb", "frmb"), ("i3d_frab", "frab"))

SPECS = tuple(
    BackboneSpec(
        name=name,
        input="3d",
        build=partial(_build, reduction),
        poolings=CLIP_POOLINGS,
        source="Carreira and Zisserman 2017, Quo vadis, action recognition?"
        + ("; Kalfaoglu 2020, 4.1.2" if reduction else ""),
        tasks=("clip",),
        why_not="its strides leave one time step for every 8 frames",
        stated_THW=(64, 224, 224),
        receptive_frames=115 if reduction == "frab" else 99,
    )
    for name, reduction in _VARIANTS
)
