"""MFNet: residual blocks cut into sixteen fibers, joined by a small multiplexer.

Source: Chen et al. 2018, Multi-fiber networks for video recognition. Names as in
https://github.com/cypw/PyTorch-MFNet/blob/c195f5f45f78920d6c4b4cadbb04d9d138444282/network/mfnet_3d.py
"""

from torch import Tensor, nn

from kineflow.models.backbones.bottleneck3d import Triple, chain
from kineflow.models.backbones.clip_network import CLIP_POOLINGS, ClipNetwork
from kineflow.models.backbones.resnet2d import initialise_convolutions
from kineflow.models.specs import BackboneSpec, Options, Task

NUM_FIBERS = 16
_STAGES: tuple[tuple[int, int, Triple], ...] = (
    (3, 96, (2, 1, 1)),
    (4, 192, (1, 2, 2)),
    (6, 384, (1, 2, 2)),
    (3, 768, (1, 2, 2)),
)


class NormThenConv3d(nn.Module):
    """Batch norm, ReLU, convolution."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_THW: Triple = (1, 1, 1),
        stride_THW: Triple = (1, 1, 1),
        groups: int = 1,
    ) -> None:
        super().__init__()
        padding_THW = (kernel_THW[0] // 2, kernel_THW[1] // 2, kernel_THW[2] // 2)
        self.bn = nn.BatchNorm3d(in_channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Conv3d(
            in_channels,
            out_channels,
            kernel_THW,
            stride=stride_THW,
            padding=padding_THW,
            groups=groups,
            bias=False,
        )

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Return (B, out_channels, T', H', W')."""
        convolved: Tensor = self.conv(self.relu(self.bn(x_BCTHW)))
        return convolved


class MultiFiberUnit(nn.Module):
    """A multiplexer that mixes all channels, then two convolutions within the fibers, and a shortcut.

    Args:
        in_channels: of the input.
        channels: of the middle and of the output.
        stride_THW: of the first convolution of the fibers.
        first: the first unit of a stage: its second convolution is pointwise over all channels, and so is its
            shortcut.
    """

    def __init__(self, in_channels: int, channels: int, *, stride_THW: Triple = (1, 1, 1), first: bool) -> None:
        super().__init__()
        self.conv_i1 = NormThenConv3d(in_channels, channels // 4)
        self.conv_i2 = NormThenConv3d(channels // 4, in_channels)
        self.conv_m1 = NormThenConv3d(
            in_channels, channels, kernel_THW=(3, 3, 3), stride_THW=stride_THW, groups=NUM_FIBERS
        )
        self.conv_w1: nn.Module
        if first:
            self.conv_m2 = NormThenConv3d(channels, channels)
            self.conv_w1 = NormThenConv3d(in_channels, channels, stride_THW=stride_THW)
        else:
            self.conv_m2 = NormThenConv3d(channels, channels, kernel_THW=(1, 3, 3), groups=NUM_FIBERS)
            self.conv_w1 = nn.Identity()

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Return (B, channels, T', H', W')."""
        mixed_BCTHW = x_BCTHW + self.conv_i2(self.conv_i1(x_BCTHW))
        answer: Tensor = self.conv_m2(self.conv_m1(mixed_BCTHW)) + self.conv_w1(x_BCTHW)
        return answer


def build_mfnet_3d(*, in_channels: int) -> ClipNetwork:
    """Build MFNet; it halves the frames once."""
    layers: dict[str, nn.Module] = {
        "conv1": chain(
            {
                "conv": nn.Conv3d(in_channels, 16, (3, 5, 5), stride=(1, 2, 2), padding=(1, 2, 2), bias=False),
                "bn": nn.BatchNorm3d(16),
                "relu": nn.ReLU(inplace=True),
            }
        ),
        "maxpool": nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),
    }
    before = 16
    for number, (num_units, channels, stride_THW) in enumerate(_STAGES, start=2):
        units: dict[str, nn.Module] = {"B01": MultiFiberUnit(before, channels, stride_THW=stride_THW, first=True)}
        for index in range(2, num_units + 1):
            units[f"B{index:02d}"] = MultiFiberUnit(channels, channels, first=False)
        layers[f"conv{number}"] = chain(units)
        before = channels
    layers["tail"] = chain({"bn": nn.BatchNorm3d(before), "relu": nn.ReLU(inplace=True)})
    network = chain(layers)
    initialise_convolutions(network)
    return ClipNetwork(network, feature_dim=before, first_layer="conv1.conv", temporal_stride=2)


def _build(in_channels: int, task: Task, options: Options) -> nn.Module:
    return build_mfnet_3d(in_channels=in_channels)


SPECS = (
    BackboneSpec(
        name="mfnet_3d",
        input="3d",
        build=_build,
        poolings=CLIP_POOLINGS,
        source="Chen et al. 2018, Multi-fiber networks for video recognition",
        tasks=("clip",),
        why_not="its stride leaves one time step for every 2 frames",
        stated_THW=(16, 224, 224),
        receptive_frames=65,
    ),
)
