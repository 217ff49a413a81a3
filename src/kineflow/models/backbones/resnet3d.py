"""3D residual networks on clips: torchvision's r3d_18, and small ones for little data and CPUs."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from kineflow.models.backbones.resnet2d import initialise_convolutions
from kineflow.models.specs import BackboneSpec, Options, Task
from kineflow.models.torchvision_compat import declare_missing_torchvision_ops


class ClipNetwork(nn.Module):
    """A 3D network up to its last activations.

    Args:
        network: clips_BCTHW -> activations (B, D, T', H', W').
        feature_dim: D.
        first_layer: name of the convolution that reads the input, as in `network.state_dict()`.
        temporal_stride: T over T'; 1 where every frame keeps its own feature.
    """

    def __init__(self, network: nn.Module, *, feature_dim: int, first_layer: str, temporal_stride: int) -> None:
        super().__init__()
        self.network = with_sound_gradients(network)
        self.feature_dim = feature_dim
        self.first_layer = f"network.{first_layer}"
        self.temporal_stride = temporal_stride

    def forward(self, clips_BCTHW: Tensor) -> Tensor:
        """Return maps (B, D, T', H', W'), T' = ceil(T / temporal_stride)."""
        maps_BDTHW: Tensor = self.network(clips_BCTHW)
        return maps_BDTHW


class SoundConv3d(nn.Conv3d):
    """A convolution that pads two time steps by itself where it runs on a CPU.

    oneDNN's gradient of a kernel of three time steps, padded by one, is what happens to be in memory where the input
    has two: under bf16, on processors with AVX512-BF16 (torch 2.13). Zeros in the input mean the same and are sound.
    """

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Return what `nn.Conv3d` does."""
        if self.padding[0] != 1 or x_BCTHW.shape[2] != 2 or x_BCTHW.device.type != "cpu":
            return super().forward(x_BCTHW)
        padded = F.pad(x_BCTHW, (0, 0, 0, 0, 1, 1))
        padding = (0, *self.padding[1:])
        return F.conv3d(padded, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


def with_sound_gradients(network: nn.Module) -> nn.Module:
    """Make every 3D convolution of `network` a `SoundConv3d`, in place; names and values stay."""
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            module.__class__ = SoundConv3d
    return network


def build_r3d_18(*, in_channels: int) -> ClipNetwork:
    """Build torchvision's r3d_18 without its pooling and classification layer, under torchvision's names.

    Source: Tran et al. 2018, A closer look at spatiotemporal convolutions; torchvision.models.video.
    """
    declare_missing_torchvision_ops()
    from torchvision.models.video import r3d_18

    whole = r3d_18(weights=None)
    network = nn.Sequential()
    for name in ("stem", "layer1", "layer2", "layer3", "layer4"):
        network.add_module(name, getattr(whole, name))
    if in_channels != 3:
        first = nn.Conv3d(in_channels, 64, (3, 7, 7), stride=(1, 2, 2), padding=(1, 3, 3), bias=False)
        nn.init.kaiming_normal_(first.weight, mode="fan_out", nonlinearity="relu")
        whole.stem[0] = first
    return ClipNetwork(network, feature_dim=512, first_layer="stem.0", temporal_stride=8)


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


class SmallResNet3d(nn.Module):
    """A 3x5x5 stem, then one basic block for each width."""

    def __init__(self, *, in_channels: int, widths: Sequence[int], stem_stride_px: int, keep_frames: bool) -> None:
        super().__init__()
        stem_stride = (1, stem_stride_px, stem_stride_px)
        self.stem = nn.Sequential(
            nn.Conv3d(in_channels, widths[0], (3, 5, 5), stride=stem_stride, padding=(1, 2, 2), bias=False),
            nn.BatchNorm3d(widths[0]),
            nn.ReLU(inplace=True),
        )
        later_stride = (1, 2, 2) if keep_frames else (2, 2, 2)
        self.stages = nn.Sequential(
            *(
                BasicBlock3d(widths[max(i - 1, 0)], width, stride_THW=(1, 1, 1) if i == 0 else later_stride)
                for i, width in enumerate(widths)
            )
        )
        initialise_convolutions(self)

    def forward(self, clips_BCTHW: Tensor) -> Tensor:
        """Return activations (B, D, T', H', W'), D the last width."""
        activations: Tensor = self.stages(self.stem(clips_BCTHW))
        return activations


def _build_r3d_18(in_channels: int, task: Task, options: Options) -> nn.Module:
    return build_r3d_18(in_channels=in_channels)


def _build_small(in_channels: int, task: Task, options: Options) -> nn.Module:
    width = int(options["width"])
    return build_small_r3d(
        in_channels=in_channels,
        widths=(width, 2 * width, 4 * width),
        stem_stride_px=int(options["stem_stride_px"]),
        keep_frames=task == "frame",
    )


SPECS = (
    *(
        BackboneSpec(
            name=name,
            input="3d",
            build=_build_small,
            poolings=("avg",),
            source="kineflow; 3D residual blocks after Hara et al. 2018",
            options={"width": width, "stem_stride_px": 2},
        )
        for name, width in (("r3d_mini", 16), ("r3d_tiny", 32))
    ),
    BackboneSpec(
        name="r3d_18",
        input="3d",
        build=_build_r3d_18,
        poolings=("avg",),
        source="Tran et al. 2018, A closer look at spatiotemporal convolutions; torchvision",
        tasks=("clip",),
        why_not="its strides leave one time step for every 8 frames",
    ),
)
