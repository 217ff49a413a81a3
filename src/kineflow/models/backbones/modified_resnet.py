"""The ResNet-50 of the non-local networks, inflated only where it pays ("Modified ResNet50" of the BERT thesis).

Source: Wang et al. 2018, Non-local neural networks; Kalfaoglu 2020, 2.2.5. Names, strides and kernels as in
https://github.com/artest08/LateTemporalModeling3DCNN/blob/9ead09e41b38fb681be020e1924c6845bca426ed/models/non_local/models/resnet.py
"""

from functools import partial

from torch import nn

from kineflow.models.backbones.bottleneck3d import Stage, build_stage, chain, flat_middle, stem
from kineflow.models.backbones.clip_network import CLIP_POOLINGS, ClipNetwork
from kineflow.models.backbones.nonlocal3d import NonLocal3d
from kineflow.models.backbones.resnet2d import initialise_convolutions
from kineflow.models.specs import BackboneSpec, Options, Task


def build_modified_resnet50(*, in_channels: int, non_local: bool) -> ClipNetwork:
    """Build it; with `non_local`, five blocks attend, two in the second stage and three in the third."""
    stages = (
        Stage(3, 64, 256, temporal_first=(3,)),
        Stage(4, 128, 512, (1, 2, 2), (3, 1, 3, 1), (1, 3) if non_local else ()),
        Stage(6, 256, 1024, (1, 2, 2), (3, 1, 3, 1, 3, 1), (1, 3, 5) if non_local else ()),
        Stage(3, 512, 2048, (1, 2, 2), (1, 3, 1)),
    )
    layers = stem(in_channels, kernel_THW=(5, 7, 7), stride_THW=(2, 2, 2))
    layers["maxpool1"] = nn.MaxPool3d((2, 3, 3), stride=2)
    channels = 64
    for index, stage in enumerate(stages, start=1):
        layers[f"layer{index}"] = build_stage(channels, stage, build_middle=flat_middle)
        if index == 1:
            layers["maxpool2"] = nn.MaxPool3d((2, 1, 1))
        channels = stage.out_channels
    network = chain(layers)
    initialise_convolutions(network)
    for module in network.modules():
        if isinstance(module, NonLocal3d):
            module.initialise()
    return ClipNetwork(
        network,
        feature_dim=channels,
        first_layer="conv1",
        temporal_stride=8,
        min_frames=7,
        min_side_px=21 if non_local else 5,
    )


def _build(non_local: bool, in_channels: int, task: Task, options: Options) -> nn.Module:
    return build_modified_resnet50(in_channels=in_channels, non_local=non_local)


SPECS = tuple(
    BackboneSpec(
        name=name,
        input="3d",
        build=partial(_build, non_local),
        poolings=CLIP_POOLINGS,
        source="Wang et al. 2018, Non-local neural networks; Kalfaoglu 2020, 2.2.5",
        tasks=("clip",),
        why_not="its strides leave one time step for every 8 frames",
        stated_THW=(32, 224, 224),
        receptive_frames=None if non_local else 131,
    )
    for name, non_local in (("modified_resnet50", False), ("modified_resnet50_nl", True))
)
