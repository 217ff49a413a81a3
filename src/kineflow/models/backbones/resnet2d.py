"""2D residual networks on single frames: torchvision's ResNets, and a small one for small frames on CPUs."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from kineflow.models.specs import FRAME_POOLINGS, BackboneSpec, Options, Task
from kineflow.models.torchvision_compat import declare_missing_torchvision_ops

TINY_WIDTHS = (16, 32, 64)


class FrameByFrame(nn.Module):
    """Run an image network on every frame of a clip.

    Args:
        network: frames_NCHW -> maps_NDHW.
        feature_dim: D.
        first_layer: name of the convolution that reads the input, as in `network.state_dict()`.
    """

    reads_lengths = True

    def __init__(self, network: nn.Module, *, feature_dim: int, first_layer: str) -> None:
        super().__init__()
        self.network = network
        self.feature_dim = feature_dim
        self.first_layer = f"network.{first_layer}"

    def why_no_stream(self) -> str:
        """Return an empty string: each frame is seen by itself."""
        return ""

    def forward(self, clips_BCTHW: Tensor, num_frames_B: Tensor | None = None) -> Tensor:
        """Return maps_BDTHW; frames do not see each other (but in the statistics of batch norm).

        Frames behind the first `num_frames_B` of a clip are not looked at: their maps are zeros.
        """
        batch_size, _, num_frames = clips_BCTHW.shape[:3]
        frames_NCHW = clips_BCTHW.transpose(1, 2).flatten(0, 1)
        if num_frames_B is None:
            maps_NDHW: Tensor = self.network(frames_NCHW)
        else:
            steps_T = torch.arange(num_frames, device=clips_BCTHW.device)
            real_N = (steps_T < num_frames_B.to(clips_BCTHW.device)[:, None]).flatten()
            real_maps: Tensor = self.network(frames_NCHW[real_N])
            maps_NDHW = real_maps.new_zeros(len(real_N), *real_maps.shape[1:])
            maps_NDHW[real_N] = real_maps
        return maps_NDHW.unflatten(0, (batch_size, num_frames)).transpose(1, 2)


def build_torchvision_resnet(arch: str, *, in_channels: int) -> FrameByFrame:
    """Build torchvision's `arch` (resnet18, resnet34, ...) up to its last activations.

    Parameters carry torchvision's names, which timm's ResNets share. Where `in_channels` is not 3, the first
    convolution is made anew, initialised as torchvision does.

    Source: He et al. 2016, Deep residual learning for image recognition; torchvision.models.resnet.
    """
    network, feature_dim = build_resnet_trunk(arch, in_channels=in_channels)
    return FrameByFrame(network, feature_dim=feature_dim, first_layer="conv1")


def build_resnet_trunk(arch: str, *, in_channels: int) -> tuple[nn.Sequential, int]:
    """Return torchvision's `arch` up to its last activations, and the number of their channels."""
    declare_missing_torchvision_ops()
    import torchvision

    whole = torchvision.models.get_model(arch, weights=None)
    network = nn.Sequential()
    for name in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"):
        network.add_module(name, getattr(whole, name))
    if in_channels != 3:
        network.conv1 = nn.Conv2d(in_channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    feature_dim: int = whole.fc.in_features
    return network, feature_dim


def build_tiny_resnet(*, in_channels: int, widths: Sequence[int] = TINY_WIDTHS) -> FrameByFrame:
    """Build a ResNet of one basic block a stage, for frames of 48 to 112 px on CPUs."""
    return FrameByFrame(
        TinyResNet2d(in_channels=in_channels, widths=widths), feature_dim=widths[-1], first_layer="conv1"
    )


class BasicBlock2d(nn.Module):
    """Two 3x3 convolutions and a shortcut, which is a 1x1 convolution where the shape changes."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        residual = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x_NCHW)))))
        activated: Tensor = self.relu(residual + self.downsample(x_NCHW))
        return activated


class TinyResNet2d(nn.Module):
    """A 5x5 stem with stride 2, then one basic block for each width, each after the first with stride 2.

    Sums to ten weighted layers (stem, three blocks of two, their shortcuts, the classifier) with three widths.
    """

    def __init__(self, *, in_channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, widths[0], 5, stride=2, padding=2, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU(inplace=True)
        self.stages = nn.Sequential(
            *(BasicBlock2d(widths[max(i - 1, 0)], width, stride=1 if i == 0 else 2) for i, width in enumerate(widths))
        )
        initialise_convolutions(self)

    def forward(self, frames_NCHW: Tensor) -> Tensor:
        """Return maps_NDHW, D the last width."""
        maps_NDHW: Tensor = self.stages(self.relu(self.bn1(self.conv1(frames_NCHW))))
        return maps_NDHW


def initialise_convolutions(network: nn.Module) -> None:
    """Draw every convolution's weights by He's rule (fan out), as torchvision's ResNets do."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _build_torchvision(arch: str, in_channels: int, task: Task, options: Options) -> nn.Module:
    return build_torchvision_resnet(arch, in_channels=in_channels)


def _build_tiny(in_channels: int, task: Task, options: Options) -> nn.Module:
    return build_tiny_resnet(in_channels=in_channels)


SPECS = (
    BackboneSpec(
        name="resnet10_tiny",
        input="2d",
        build=_build_tiny,
        poolings=FRAME_POOLINGS,
        source="kineflow; residual blocks after He et al. 2016",
        stated_THW=(16, 64, 64),
        receptive_frames=1,
        padded=True,
    ),
    *(
        BackboneSpec(
            name=arch,
            input="2d",
            build=partial(_build_torchvision, arch),
            poolings=FRAME_POOLINGS,
            source="He et al. 2016, Deep residual learning for image recognition; torchvision",
            stated_THW=(16, 224, 224),
            receptive_frames=1,
            padded=True,
        )
        for arch in ("resnet18", "resnet34", "resnet50", "resnet101")
    ),
)
