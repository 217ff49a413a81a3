"""The inflated ResNet-50 of the thesis that trains from scratch: a 2D ResNet-50 on every frame, in 3D form.

Its backbone ends after conv4, which does not stride, so that tracking and direction branches can share its maps;
the classification branch goes on with 3x3x3 convolutions. A ResNet-50 of images loads with `weights`.

Source: Toering 2018, Video classification from scratch, 3.1 to 3.3.
"""

from torch import nn

from kineflow.errors import ParamsError
from kineflow.models.backbones.bottleneck3d import Stage, build_stage, chain, cubic_middle, flat_middle, stem
from kineflow.models.backbones.clip_network import CLIP_POOLINGS, ClipNetwork
from kineflow.models.backbones.resnet2d import initialise_convolutions
from kineflow.models.specs import BackboneSpec, Options, Task

_BACKBONE = (
    Stage(3, 64, 256),
    Stage(4, 128, 512, (1, 2, 2)),
    Stage(6, 256, 1024),
)
_CLASSIFICATION = Stage(3, 512, 2048, (2, 2, 2))


def build_inflated_resnet50(*, in_channels: int, classification_branch: bool = False) -> ClipNetwork:
    """Build it.

    Args:
        in_channels: channels of the clips.
        classification_branch: go on with max pooling and conv5, which leave 2048 channels and a quarter of the
            frames; else the maps are the backbone's, 1024 channels at every frame (13x30x30 of 13x240x240).
    """
    layers = stem(in_channels, kernel_THW=(1, 7, 7), stride_THW=(1, 2, 2))
    layers["maxpool"] = nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))
    channels = 64
    for index, stage in enumerate(_BACKBONE, start=1):
        layers[f"layer{index}"] = build_stage(channels, stage, build_middle=flat_middle)
        channels = stage.out_channels
    if classification_branch:
        layers["branch_maxpool"] = nn.MaxPool3d(3, stride=2, padding=1)
        layers["layer4"] = build_stage(channels, _CLASSIFICATION, build_middle=cubic_middle())
        channels = _CLASSIFICATION.out_channels
    network = chain(layers)
    initialise_convolutions(network)
    stride = 4 if classification_branch else 1
    return ClipNetwork(network, feature_dim=channels, first_layer="conv1", temporal_stride=stride)


def _build(in_channels: int, task: Task, options: Options) -> nn.Module:
    classification_branch = bool(options["classification_branch"])
    if task == "frame" and classification_branch:
        raise ParamsError(
            "inflated_resnet50: with classification_branch one time step is left for every 4 frames, which does not "
            "serve the task frame: set the option to false"
        )
    return build_inflated_resnet50(in_channels=in_channels, classification_branch=classification_branch)


SPECS = (
    BackboneSpec(
        name="inflated_resnet50",
        input="3d",
        build=_build,
        poolings=CLIP_POOLINGS,
        source="Carreira and Zisserman 2017 (inflation); Toering 2018, Video classification from scratch, 3.2",
        options={"classification_branch": False},
        stated_THW=(13, 240, 240),
        receptive_frames=1,  # its kernels over time are in the branch that classifies
    ),
)
