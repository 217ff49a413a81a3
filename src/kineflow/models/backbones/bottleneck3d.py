"""The bottleneck block that most deep 3D residual networks are made of; they differ in its middle convolution."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from kineflow.models.backbones.nonlocal3d import NonLocal3d

Triple = tuple[int, int, int]
NUM_BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}  # of the four stages, by depth
# (channels, stride, index of the block in its stage) -> the block's middle convolution
BuildMiddle = Callable[[int, Triple, int], nn.Module]


@dataclass(frozen=True)
class Stage:
    """One stage of a network.

    Attributes:
        num_blocks: bottlenecks, one after the other.
        mid_channels: channels of a block's middle convolution.
        out_channels: channels of a block's output.
        stride_THW: of the first block.
        temporal_first: frames that the first, pointwise convolution of block i sees: entry i, or the last entry.
        nonlocal_after: indices of the blocks that a non-local block follows.
    """

    num_blocks: int
    mid_channels: int
    out_channels: int
    stride_THW: Triple = (1, 1, 1)
    temporal_first: tuple[int, ...] = (1,)
    nonlocal_after: tuple[int, ...] = ()


class Bottleneck3d(nn.Module):
    """Reduce, convolve, expand, and add the input, projected where the shape changes.

    Args:
        in_channels: of the input.
        mid_channels: between the three convolutions.
        out_channels: of the output.
        middle: mid -> mid channels, with the block's stride.
        stride_THW: the middle convolution's, for the projection.
        temporal_first: frames that the first convolution sees; odd.
        nl: what follows the block, such as a non-local one.

    Source: He et al. 2016, Deep residual learning for image recognition. Names as torchvision's ResNets.
    """

    def __init__(
        self,
        in_channels: int,
        mid_channels: int,
        out_channels: int,
        *,
        middle: nn.Module,
        stride_THW: Triple = (1, 1, 1),
        temporal_first: int = 1,
        nl: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(
            in_channels, mid_channels, (temporal_first, 1, 1), padding=(temporal_first // 2, 0, 0), bias=False
        )
        self.bn1 = nn.BatchNorm3d(mid_channels)
        self.conv2 = middle
        self.bn2 = nn.BatchNorm3d(mid_channels)
        self.conv3 = nn.Conv3d(mid_channels, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module = nn.Identity()
        if stride_THW != (1, 1, 1) or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv3d(in_channels, out_channels, 1, stride=stride_THW, bias=False), nn.BatchNorm3d(out_channels)
            )
        self.nl = nl or nn.Identity()

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Return (B, out_channels, T', H', W'), each of the three the input's over its stride, rounded up."""
        y_BCTHW = self.relu(self.bn1(self.conv1(x_BCTHW)))
        y_BCTHW = self.relu(self.bn2(self.conv2(y_BCTHW)))
        activated: Tensor = self.nl(self.relu(self.bn3(self.conv3(y_BCTHW)) + self.downsample(x_BCTHW)))
        return activated


def build_stage(in_channels: int, stage: Stage, *, build_middle: BuildMiddle) -> nn.Sequential:
    """Stack a stage's bottlenecks; only the first strides."""
    blocks = []
    for index in range(stage.num_blocks):
        stride_THW = stage.stride_THW if index == 0 else (1, 1, 1)
        blocks.append(
            Bottleneck3d(
                in_channels if index == 0 else stage.out_channels,
                stage.mid_channels,
                stage.out_channels,
                middle=build_middle(stage.mid_channels, stride_THW, index),
                stride_THW=stride_THW,
                temporal_first=stage.temporal_first[min(index, len(stage.temporal_first) - 1)],
                nl=NonLocal3d(stage.out_channels) if index in stage.nonlocal_after else None,
            )
        )
    return nn.Sequential(*blocks)


def cubic_middle(*, groups: int = 1) -> BuildMiddle:
    """Return the builder of 3x3x3 middle convolutions."""

    def build(channels: int, stride_THW: Triple, index: int) -> nn.Module:
        return nn.Conv3d(channels, channels, 3, stride=stride_THW, padding=1, groups=groups, bias=False)

    return build


def flat_middle(channels: int, stride_THW: Triple, index: int) -> nn.Module:
    """Build a 1x3x3 middle convolution, which sees one frame at a time."""
    return nn.Conv3d(channels, channels, (1, 3, 3), stride=stride_THW, padding=(0, 1, 1), bias=False)


def stem(in_channels: int, *, kernel_THW: Triple, stride_THW: Triple, out_channels: int = 64) -> dict[str, nn.Module]:
    """Return the layers before the first pooling, by torchvision's names."""
    padding = tuple(size // 2 for size in kernel_THW)
    convolution = nn.Conv3d(in_channels, out_channels, kernel_THW, stride=stride_THW, padding=padding, bias=False)  # type: ignore[arg-type]
    return {"conv1": convolution, "bn1": nn.BatchNorm3d(out_channels), "relu": nn.ReLU(inplace=True)}


def chain(layers: dict[str, nn.Module]) -> nn.Sequential:
    """Run layers one after the other, each under its name."""
    network = nn.Sequential()
    for name, layer in layers.items():
        network.add_module(name, layer)
    return network
