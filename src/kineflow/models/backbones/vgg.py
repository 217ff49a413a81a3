"""VGG-13 on single frames."""

from torch import nn

from kineflow.models.backbones.resnet2d import FrameByFrame
from kineflow.models.specs import FRAME_POOLINGS, BackboneSpec, Options, Task
from kineflow.models.torchvision_compat import declare_missing_torchvision_ops


def build_vgg13(*, in_channels: int) -> FrameByFrame:
    """Build torchvision's vgg13 up to its last pooling, under torchvision's names; it has no batch norm.

    Source: Simonyan and Zisserman 2015, Very deep convolutional networks; torchvision.models.vgg.
    """
    declare_missing_torchvision_ops()
    from torchvision.models.vgg import cfgs, make_layers

    features = make_layers(cfgs["B"])
    if in_channels != 3:
        features[0] = nn.Conv2d(in_channels, 64, 3, padding=1)
    for layer in features:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
    network = nn.Sequential()
    network.add_module("features", features)
    return FrameByFrame(network, feature_dim=512, first_layer="features.0")


def _build(in_channels: int, task: Task, options: Options) -> nn.Module:
    return build_vgg13(in_channels=in_channels)


SPECS = (
    BackboneSpec(
        name="vgg13",
        input="2d",
        build=_build,
        poolings=FRAME_POOLINGS,
        source="Simonyan and Zisserman 2015, Very deep convolutional networks; torchvision",
        stated_THW=(16, 224, 224),
        receptive_frames=1,
        padded=True,
    ),
)
