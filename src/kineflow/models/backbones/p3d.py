"""Pseudo-3D residual network: 1x3x3 and 3x1x1 convolutions, combined in three ways, block after block.

Source: Qiu et al. 2017, Learning spatio-temporal representation with pseudo-3D residual networks. Names as in
https://github.com/qijiezhao/pseudo-3d-pytorch/blob/13964317c795df941f1c39f49886fc0f9c852ad1/p3d_model.py
"""

from typing import Literal

from torch import Tensor, nn

from kineflow.models.backbones.bottleneck3d import Triple, chain
from kineflow.models.backbones.clip_network import CLIP_POOLINGS, ClipNetwork
from kineflow.models.backbones.resnet2d import initialise_convolutions
from kineflow.models.specs import BackboneSpec, Options, Task

Order = Literal["A", "B", "C"]
ORDERS: tuple[Order, ...] = ("A", "B", "C")


class PseudoBlock3d(nn.Module):
    """A bottleneck whose middle is a spatial (S) and a temporal (T) convolution.

    Args:
        in_channels: of the input.
        mid_channels: of S and T; the output has four times as many.
        order: `A` is T(S(x)); `B` is S(x) + T(x); `C` is S(x) + T(S(x)).
        stride_THW: of the first convolution.
        project: bring the input to the output's shape by a 1x1x1 convolution.
    """

    def __init__(
        self, in_channels: int, mid_channels: int, *, order: Order, stride_THW: Triple = (1, 1, 1), project: bool
    ) -> None:
        super().__init__()
        out_channels = 4 * mid_channels
        self.order = order
        self.conv1 = nn.Conv3d(in_channels, mid_channels, 1, stride=stride_THW, bias=False)
        self.bn1 = nn.BatchNorm3d(mid_channels)
        self.conv2 = nn.Conv3d(mid_channels, mid_channels, (1, 3, 3), padding=(0, 1, 1), bias=False)
        self.bn2 = nn.BatchNorm3d(mid_channels)
        self.conv3 = nn.Conv3d(mid_channels, mid_channels, (3, 1, 1), padding=(1, 0, 0), bias=False)
        self.bn3 = nn.BatchNorm3d(mid_channels)
        self.conv4 = nn.Conv3d(mid_channels, out_channels, 1, bias=False)
        self.bn4 = nn.BatchNorm3d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _projection(in_channels, out_channels, stride_THW) if project else nn.Identity()

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Return (B, 4 mid_channels, T', H', W')."""
        y_BCTHW = self.relu(self.bn1(self.conv1(x_BCTHW)))
        spatial_BCTHW = self.relu(self.bn2(self.conv2(y_BCTHW)))
        read_BCTHW = y_BCTHW if self.order == "B" else spatial_BCTHW
        temporal_BCTHW = self.relu(self.bn3(self.conv3(read_BCTHW)))
        mixed_BCTHW = temporal_BCTHW if self.order == "A" else temporal_BCTHW + spatial_BCTHW
        activated: Tensor = self.relu(self.bn4(self.conv4(mixed_BCTHW)) + self.downsample(x_BCTHW))
        return activated


class FrameBlock3d(nn.Module):
    """The bottleneck of the last stage, which sees one frame at a time."""

    def __init__(self, in_channels: int, mid_channels: int, *, stride_px: int, project: bool) -> None:
        super().__init__()
        out_channels = 4 * mid_channels
        stride_THW = (1, stride_px, stride_px)
        self.conv1 = nn.Conv3d(in_channels, mid_channels, 1, stride=stride_THW, bias=False)
        self.bn1 = nn.BatchNorm3d(mid_channels)
        self.conv_normal = nn.Conv3d(mid_channels, mid_channels, (1, 3, 3), padding=(0, 1, 1), bias=False)
        self.bn_normal = nn.BatchNorm3d(mid_channels)
        self.conv4 = nn.Conv3d(mid_channels, out_channels, 1, bias=False)
        self.bn4 = nn.BatchNorm3d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _projection(in_channels, out_channels, stride_THW) if project else nn.Identity()

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Return (B, 4 mid_channels, T, H', W')."""
        y_BCTHW = self.relu(self.bn1(self.conv1(x_BCTHW)))
        y_BCTHW = self.relu(self.bn_normal(self.conv_normal(y_BCTHW)))
        activated: Tensor = self.relu(self.bn4(self.conv4(y_BCTHW)) + self.downsample(x_BCTHW))
        return activated


def build_p3d_63(*, in_channels: int) -> ClipNetwork:
    """Build the P3D that a ResNet-50 becomes: 13 pseudo-3D blocks, A, B, C in turn, and three of single frames."""
    layers: dict[str, nn.Module] = {
        "conv1_custom": nn.Conv3d(in_channels, 64, (1, 7, 7), stride=(1, 2, 2), padding=(0, 3, 3), bias=False),
        "bn1": nn.BatchNorm3d(64),
        "relu": nn.ReLU(inplace=True),
        "maxpool": nn.MaxPool3d((2, 3, 3), stride=2, padding=(0, 1, 1)),
    }
    channels, num_built = 64, 0
    for index, num_blocks in enumerate((3, 4, 6)):
        mid = 64 * 2**index
        blocks = []
        for position in range(num_blocks):
            first = position == 0
            blocks.append(
                PseudoBlock3d(
                    channels,
                    mid,
                    order=ORDERS[num_built % len(ORDERS)],
                    stride_THW=(1, 2, 2) if first and index > 0 else (1, 1, 1),
                    project=first,
                )
            )
            channels, num_built = 4 * mid, num_built + 1
        layers[f"layer{index + 1}"] = nn.Sequential(*blocks)
        layers[f"maxpool_{index + 2}"] = nn.MaxPool3d((2, 1, 1))
    layers["layer4"] = nn.Sequential(
        FrameBlock3d(1024, 512, stride_px=2, project=True),
        FrameBlock3d(2048, 512, stride_px=1, project=False),
        FrameBlock3d(2048, 512, stride_px=1, project=False),
    )
    network = chain(layers)
    initialise_convolutions(network)
    return ClipNetwork(network, feature_dim=2048, first_layer="conv1_custom", temporal_stride=16, min_frames=16)


def _projection(in_channels: int, out_channels: int, stride_THW: Triple) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(in_channels, out_channels, 1, stride=stride_THW, bias=False), nn.BatchNorm3d(out_channels)
    )


def _build(in_channels: int, task: Task, options: Options) -> nn.Module:
    return build_p3d_63(in_channels=in_channels)


SPECS = (
    BackboneSpec(
        name="p3d_63",
        input="3d",
        build=_build,
        poolings=CLIP_POOLINGS,
        source="Qiu et al. 2017, Learning spatio-temporal representation with pseudo-3D residual networks",
        tasks=("clip",),
        why_not="its poolings leave one time step for every 16 frames",
        stated_THW=(16, 160, 160),
        receptive_frames=156,
    ),
)
