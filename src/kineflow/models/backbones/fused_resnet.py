"""2D ResNets whose features come from several depths, or whose last block leaves fewer of them."""

from functools import partial

import torch
from torch import Tensor, nn

from kineflow.models.backbones.resnet2d import FrameByFrame, build_resnet_trunk, initialise_convolutions
from kineflow.models.specs import FRAME_POOLINGS, VECTOR_POOLINGS, BackboneSpec, Options, Task

# conv5_x alone is no fusion; each kind adds the stage before.
FUSIONS = {"dual": 2, "triple": 3, "quadruple": 4}
ARCHS = ("resnet18", "resnet34", "resnet50", "resnet101")
REDUCED_DIM = 512


class FusedStages(nn.Module):
    """Average the activations of the last stages over the image, and join them.

    Args:
        trunk: torchvision's layers by their names, conv1 to layer4.
        num_stages: the last ones, 1 to 4, of conv2_x to conv5_x.

    Source: Kalfaoglu 2020, 3.3.2.
    """

    def __init__(self, trunk: nn.Sequential, *, num_stages: int) -> None:
        super().__init__()
        for name, layer in trunk.named_children():
            self.add_module(name, layer)
        self.fused = ("layer1", "layer2", "layer3", "layer4")[-num_stages:]
        self.average = nn.AdaptiveAvgPool2d(1)

    def forward(self, frames_NCHW: Tensor) -> Tensor:
        """Return features (N, D, 1, 1): the stages' channels in the order of depth."""
        averages = []
        x_NCHW = frames_NCHW
        for name, layer in self.named_children():
            if name != "average":
                x_NCHW = layer(x_NCHW)
            if name in self.fused:
                averages.append(self.average(x_NCHW))
        return torch.cat(averages, dim=1)


class ReductionBlock2d(nn.Module):
    """A bottleneck that leaves fewer channels: 1x1, 3x3 and 1x1 convolutions, and a 1x1 shortcut."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        mid = out_channels // 2
        self.conv1 = nn.Conv2d(in_channels, mid, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(mid)
        self.conv2 = nn.Conv2d(mid, mid, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(mid)
        self.conv3 = nn.Conv2d(mid, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)
        )
        initialise_convolutions(self)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return (N, out_channels, H, W)."""
        residual = self.relu(self.bn1(self.conv1(x_NCHW)))
        residual = self.bn3(self.conv3(self.relu(self.bn2(self.conv2(residual)))))
        activated: Tensor = self.relu(residual + self.downsample(x_NCHW))
        return activated


def build_fused_resnet(arch: str, *, in_channels: int, num_stages: int) -> FrameByFrame:
    """Build torchvision's `arch` with features of its last `num_stages` stages, under torchvision's names."""
    trunk, _ = build_resnet_trunk(arch, in_channels=in_channels)
    network = FusedStages(trunk, num_stages=num_stages)
    widths = {"resnet18": 64, "resnet34": 64, "resnet50": 256, "resnet101": 256}
    feature_dim = sum(widths[arch] << stage for stage in range(4 - num_stages, 4))
    return FrameByFrame(network, feature_dim=feature_dim, first_layer="conv1")


def build_reduced_resnet(arch: str, *, in_channels: int) -> FrameByFrame:
    """Build torchvision's `arch` with its last block replaced by one that leaves 512 channels (FRMB).

    Source: Kalfaoglu 2020, 4.1.2 and C.4; the block has the sizes of the same author's 3D one,
    https://github.com/artest08/LateTemporalModeling3DCNN/blob/9ead09e41b38fb681be020e1924c6845bca426ed/models/rgb_resneXt3D.py
    """
    trunk, feature_dim = build_resnet_trunk(arch, in_channels=in_channels)
    last_stage = trunk.layer4
    assert isinstance(last_stage, nn.Sequential)
    last_stage[-1] = ReductionBlock2d(feature_dim, REDUCED_DIM)
    return FrameByFrame(trunk, feature_dim=REDUCED_DIM, first_layer="conv1")


def _build_fused(arch: str, num_stages: int, in_channels: int, task: Task, options: Options) -> nn.Module:
    return build_fused_resnet(arch, in_channels=in_channels, num_stages=num_stages)


def _build_reduced(in_channels: int, task: Task, options: Options) -> nn.Module:
    return build_reduced_resnet("resnet101", in_channels=in_channels)


SPECS = (
    *(
        BackboneSpec(
            name=f"{arch}_{fusion}",
            input="2d",
            build=partial(_build_fused, arch, num_stages),
            poolings=VECTOR_POOLINGS,
            why_apart="its features are means over the image, without places",
            source="He et al. 2016, Deep residual learning for image recognition; fusion of Kalfaoglu 2020, 3.3.2",
            stated_THW=(16, 224, 224),
            receptive_frames=1,
            padded=True,
        )
        for arch in ARCHS
        for fusion, num_stages in FUSIONS.items()
    ),
    BackboneSpec(
        name="resnet101_frmb",
        input="2d",
        build=_build_reduced,
        poolings=FRAME_POOLINGS,
        source="He et al. 2016, Deep residual learning for image recognition; FRMB of Kalfaoglu 2020, 4.1.2 and C.4",
        stated_THW=(16, 224, 224),
        receptive_frames=1,
        padded=True,
    ),
)
