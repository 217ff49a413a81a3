"""ResNet-50 with norm and ReLU before each convolution, as Keras has it: the mouse thesis's feature extractor.

It has timm's resnetv2_50 for a cousin, but its strides stand in a stage's last block, where max pooling of one pixel is
the shortcut, and its outer convolutions have biases.

Source: He et al. 2016, Identity mappings in deep residual networks; Keras's ResNet50V2,
https://github.com/keras-team/keras/blob/v3.3.3/keras/src/applications/resnet.py
"""

import torch.nn.functional as F
from torch import Tensor, nn

from kineflow.models.backbones.resnet2d import FrameByFrame, initialise_convolutions
from kineflow.models.specs import FRAME_POOLINGS, BackboneSpec, Options, Task

EPSILON = 1.001e-5  # Keras's
STAGES = ((64, 3, 2), (128, 4, 2), (256, 6, 2), (512, 3, 1))  # width, blocks, stride of the last


class PreactivationBlock(nn.Module):
    """A bottleneck of 1x1, 3x3 and 1x1 convolutions, each behind norm and ReLU.

    Args:
        in_channels: C of the input.
        width: of the two inner convolutions; the output has four times as many.
        stride: of the 3x3 convolution and of the shortcut.
        projects: the shortcut is a convolution of the activated input; else the input itself.
    """

    def __init__(self, in_channels: int, width: int, *, stride: int, projects: bool) -> None:
        super().__init__()
        self.preact_bn = nn.BatchNorm2d(in_channels, eps=EPSILON)
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width, eps=EPSILON)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width, eps=EPSILON)
        self.conv3 = nn.Conv2d(width, 4 * width, 1)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut: nn.Module = nn.Identity()
        if projects:
            self.shortcut = nn.Conv2d(in_channels, 4 * width, 1, stride=stride)
        elif stride > 1:
            self.shortcut = nn.MaxPool2d(1, stride=stride)
        self.projects = projects

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return (N, 4 width, ceil(H / stride), ceil(W / stride))."""
        active = self.relu(self.preact_bn(x_NCHW))
        shortcut = self.shortcut(active if self.projects else x_NCHW)
        residual = self.relu(self.bn1(self.conv1(active)))
        summed: Tensor = shortcut + self.conv3(self.relu(self.bn2(self.conv2(residual))))
        return summed


class ResNet50V2(nn.Module):
    """A 7x7 stem, sixteen preactivation blocks, and a last norm with ReLU."""

    def __init__(self, *, in_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3)
        self.maxpool = nn.MaxPool2d(3, stride=2)
        channels = 64
        stages = []
        for width, num_blocks, stride in STAGES:
            stages.append(
                nn.Sequential(
                    *(
                        PreactivationBlock(
                            channels if index == 0 else 4 * width,
                            width,
                            stride=stride if index + 1 == num_blocks else 1,
                            projects=index == 0,
                        )
                        for index in range(num_blocks)
                    )
                )
            )
            channels = 4 * width
        self.stages = nn.Sequential(*stages)
        self.post_bn = nn.BatchNorm2d(channels, eps=EPSILON)
        self.relu = nn.ReLU(inplace=True)
        initialise_convolutions(self)

    def forward(self, frames_NCHW: Tensor) -> Tensor:
        """Return maps_NDHW, D = 2048."""
        stem_NCHW = F.pad(self.conv1(frames_NCHW), (1, 1, 1, 1))  # zeros take part in the maximum, as in Keras
        maps_NDHW: Tensor = self.relu(self.post_bn(self.stages(self.maxpool(stem_NCHW))))
        return maps_NDHW


def build_resnet50v2(*, in_channels: int) -> FrameByFrame:
    """Build Keras's ResNet50V2 up to its last activations."""
    return FrameByFrame(ResNet50V2(in_channels=in_channels), feature_dim=2048, first_layer="conv1")


def _build(in_channels: int, task: Task, options: Options) -> nn.Module:
    return build_resnet50v2(in_channels=in_channels)


SPECS = (
    BackboneSpec(
        name="resnet50v2",
        input="2d",
        build=_build,
        poolings=FRAME_POOLINGS,
        source="He et al. 2016, Identity mappings in deep residual networks; Keras",
        stated_THW=(16, 224, 224),
        receptive_frames=1,
        padded=True,
    ),
)
