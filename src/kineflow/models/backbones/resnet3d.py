"""Small 3D residual networks, for little data and CPUs."""

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from kineflow.models.backbones.clip_network import CLIP_POOLINGS, ClipNetwork
from kineflow.models.backbones.resnet2d import initialise_convolutions
from kineflow.models.specs import BackboneSpec, Options, Task


def build_small_r3d(*, in_channels: int, widths: Sequence[int], stem_stride_px: int, keep_frames: bool) -> ClipNetwork:
    """Build a 3D ResNet of one basic block a stage.

    Args:
        in_channels: channels of the clips.
        widths: channels of the stages; the second and later stages halve height and width.
        stem_stride_px: the stem's stride over height and width.
        keep_frames: no stride over time, so that each frame keeps its feature; else stages after the first
            halve the number of frames too.
    """
    network = SmallResNet3d(
        in_channels=in_channels, widths=widths, stem_stride_px=stem_stride_px, keep_frames=keep_frames
    )
    stride = 1 if keep_frames else 2 ** (len(widths) - 1)
    return ClipNetwork(network, feature_dim=widths[-1], first_layer="stem.0", temporal_stride=stride)


class BasicBlock3d(nn.Module):
    """Two 3x3x3 convolutions and a shortcut, which is a 1x1x1 convolution where the shape changes."""

    def __init__(self, in_channels: int, out_channels: int, *, stride_THW: tuple[int, int, int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(in_channels, out_channels, 3, stride=stride_THW, padding=1, bias=False)
        self.bn1 = nn.BatchNorm3d(out_channels)
        self.conv2 = nn.Conv3d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm3d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module = nn.Identity()
        if stride_THW != (1, 1, 1) or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv3d(in_channels, out_channels, 1, stride=stride_THW, bias=False),
                nn.BatchNorm3d(out_channels),
            )

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Return (B, out_channels, T', H', W'), each of the three the input's over its stride, rounded up."""
        residual = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x_BCTHW)))))
        activated: Tensor = self.relu(residual + self.downsample(x_BCTHW))
        return activated


class SmallResNet3d(nn.Sequential):
    """A 3x5x5 stem, then one basic block for each width: clips_BCTHW to (B, D, T', H', W'), D the last width."""

    def __init__(self, *, in_channels: int, widths: Sequence[int], stem_stride_px: int, keep_frames: bool) -> None:
        stem_stride = (1, stem_stride_px, stem_stride_px)
        stem = nn.Sequential(
            nn.Conv3d(in_channels, widths[0], (3, 5, 5), stride=stem_stride, padding=(1, 2, 2), bias=False),
            nn.BatchNorm3d(widths[0]),
            nn.ReLU(inplace=True),
        )
        later_stride = (1, 2, 2) if keep_frames else (2, 2, 2)
        stages = nn.Sequential(
            *(
                BasicBlock3d(widths[max(i - 1, 0)], width, stride_THW=(1, 1, 1) if i == 0 else later_stride)
                for i, width in enumerate(widths)
            )
        )
        super().__init__(OrderedDict(stem=stem, stages=stages))
        initialise_convolutions(self)


def _build_small(in_channels: int, task: Task, options: Options) -> nn.Module:
    width = int(options["width"])
    return build_small_r3d(
        in_channels=in_channels,
        widths=(width, 2 * width, 4 * width),
        stem_stride_px=int(options["stem_stride_px"]),
        keep_frames=task == "frame",
    )


SPECS = tuple(
    BackboneSpec(
        name=name,
        input="3d",
        build=_build_small,
        poolings=CLIP_POOLINGS,
        source="kineflow; 3D residual blocks after Hara et al. 2018",
        options={"width": width, "stem_stride_px": 2},
        stated_THW=stated_THW,  # as the presets train
        receptive_frames=25,
    )
    for name, width, stated_THW in (("r3d_mini", 16, (16, 32, 32)), ("r3d_tiny", 32, (16, 48, 64)))
)
