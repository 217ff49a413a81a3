"""X3D-XS and X3D-S: narrow and deep 3D networks of depthwise convolutions, light enough for CPUs.

Both are one network; XS is meant for 4 frames and S for 13, of 160x160 px. No stride over time, so every frame keeps
its own feature. The published head is `x3d_s.avg_fc`.

Source: Feichtenhofer 2020, X3D: expanding architectures for efficient video recognition. Sizes as in
https://github.com/facebookresearch/pytorchvideo/blob/124e1323b52231c3bf6d14b2957fbad9ca8313b9/pytorchvideo/models/x3d.py
"""

from torch import Tensor, nn

from kineflow.models.backbones.bottleneck3d import Triple, chain
from kineflow.models.backbones.clip_network import CLIP_POOLINGS, ClipNetwork
from kineflow.models.backbones.resnet2d import initialise_convolutions
from kineflow.models.specs import BackboneSpec, Options, Task

STEM_CHANNELS = 24
STAGES = ((3, 24), (5, 48), (11, 96), (7, 192))  # blocks, channels
WIDENING = 2.25
SQUEEZE_RATIO = 1 / 16
FEATURE_DIM = 432


class SqueezeExcitation3d(nn.Module):
    """Weigh channels by what their means over the whole clip say."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.reduce = nn.Conv3d(channels, squeezed, 1)
        self.relu = nn.ReLU(inplace=True)
        self.expand = nn.Conv3d(squeezed, channels, 1)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Return (B, C, T, H, W)."""
        mean_BC111 = x_BCTHW.mean(dim=(2, 3, 4), keepdim=True)
        weights_BC111: Tensor = self.expand(self.relu(self.reduce(mean_BC111))).sigmoid()
        return x_BCTHW * weights_BC111


class InvertedBlock3d(nn.Module):
    """Widen, convolve each channel by itself, narrow, and add the input.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        stride_px: of the depthwise convolution.
        squeeze: weigh channels after the depthwise convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride_px: int, squeeze: bool) -> None:
        super().__init__()
        inner = int(WIDENING * out_channels)
        stride_THW: Triple = (1, stride_px, stride_px)
        self.conv1 = nn.Conv3d(in_channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(inner)
        self.conv2 = nn.Conv3d(inner, inner, 3, stride=stride_THW, padding=1, groups=inner, bias=False)
        self.bn2 = nn.BatchNorm3d(inner)
        self.se = SqueezeExcitation3d(inner, squeezed_channels(inner)) if squeeze else nn.Identity()
        self.swish = nn.SiLU()
        self.conv3 = nn.Conv3d(inner, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        shortcut: dict[str, nn.Module] = {}
        if stride_px != 1 or in_channels != out_channels:
            shortcut["0"] = nn.Conv3d(in_channels, out_channels, 1, stride=stride_THW, bias=False)
        if in_channels != out_channels:  # the published first block strides without a norm
            shortcut["1"] = nn.BatchNorm3d(out_channels)
        self.downsample = chain(shortcut)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Return (B, out_channels, T, ceil(H / stride), ceil(W / stride))."""
        y_BCTHW = self.relu(self.bn1(self.conv1(x_BCTHW)))
        y_BCTHW = self.swish(self.se(self.bn2(self.conv2(y_BCTHW))))
        activated: Tensor = self.relu(self.bn3(self.conv3(y_BCTHW)) + self.downsample(x_BCTHW))
        return activated


def squeezed_channels(channels: int) -> int:
    """Return a sixteenth, rounded to a multiple of 8, not below 8 nor below nine tenths of it."""
    wanted = channels * SQUEEZE_RATIO
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


def build_x3d(*, in_channels: int) -> ClipNetwork:
    """Build X3D of the width and depth that XS, S and M share, up to its last convolution, 432 channels."""
    stem_space = nn.Conv3d(in_channels, STEM_CHANNELS, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1), bias=False)
    stem_time = nn.Conv3d(STEM_CHANNELS, STEM_CHANNELS, (5, 1, 1), padding=(2, 0, 0), groups=STEM_CHANNELS, bias=False)
    layers: dict[str, nn.Module] = {
        "stem_space": stem_space,
        "stem_time": stem_time,
        "stem_bn": nn.BatchNorm3d(STEM_CHANNELS),
        "stem_relu": nn.ReLU(inplace=True),
    }
    channels = STEM_CHANNELS
    for number, (num_blocks, width) in enumerate(STAGES, start=1):
        blocks = []
        for index in range(num_blocks):
            stride_px = 2 if index == 0 else 1
            blocks.append(InvertedBlock3d(channels, width, stride_px=stride_px, squeeze=index % 2 == 0))
            channels = width
        layers[f"layer{number}"] = nn.Sequential(*blocks)
    layers["conv5"] = nn.Conv3d(channels, FEATURE_DIM, 1, bias=False)
    layers["bn5"] = nn.BatchNorm3d(FEATURE_DIM)
    layers["relu5"] = nn.ReLU(inplace=True)
    network = chain(layers)
    initialise_convolutions(network)
    return ClipNetwork(network, feature_dim=FEATURE_DIM, first_layer="stem_space", temporal_stride=1)


def _build(in_channels: int, task: Task, options: Options) -> nn.Module:
    return build_x3d(in_channels=in_channels)


SPECS = tuple(
    BackboneSpec(
        name=name,
        input="3d",
        build=_build,
        poolings=("avg_fc", *CLIP_POOLINGS),
        source="Feichtenhofer 2020, X3D: expanding architectures for efficient video recognition",
        stated_THW=(num_frames, 160, 160),
        receptive_frames=None,  # squeeze and excitation average over the clip
    )
    for name, num_frames in (("x3d_xs", 4), ("x3d_s", 13))
)
