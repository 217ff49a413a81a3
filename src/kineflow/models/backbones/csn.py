"""Channel-separated networks: 3D ResNets whose 3x3x3 convolutions are depthwise.

Source: Tran et al. 2019, Video classification with channel-separated convolutional networks.
"""

from functools import partial

from torch import nn

from kineflow.models.backbones.bottleneck3d import NUM_BLOCKS, Stage, Triple, build_stage, chain, stem
from kineflow.models.backbones.clip_network import CLIP_POOLINGS, ClipNetwork
from kineflow.models.backbones.resnet2d import initialise_convolutions
from kineflow.models.specs import BackboneSpec, Options, Task


def build_csn(*, depth: int, in_channels: int, preserve_interactions: bool) -> ClipNetwork:
    """Build a channel-separated ResNet.

    Args:
        depth: 50, 101 or 152.
        in_channels: channels of the clips.
        preserve_interactions: ip-CSN, with a 1x1x1 convolution before each depthwise one; else ir-CSN.
    """
    layers = stem(in_channels, kernel_THW=(3, 7, 7), stride_THW=(1, 2, 2))
    layers["maxpool"] = nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))
    build_middle = _interaction_preserving if preserve_interactions else _depthwise
    channels = 64
    for index, num_blocks in enumerate(NUM_BLOCKS[depth]):
        mid = 64 * 2**index
        stage = Stage(num_blocks, mid, 4 * mid, (1, 1, 1) if index == 0 else (2, 2, 2))
        layers[f"layer{index + 1}"] = build_stage(channels, stage, build_middle=build_middle)
        channels = 4 * mid
    network = chain(layers)
    initialise_convolutions(network)
    return ClipNetwork(network, feature_dim=channels, first_layer="conv1", temporal_stride=8)


def _depthwise(channels: int, stride_THW: Triple, index: int) -> nn.Module:
    return nn.Conv3d(channels, channels, 3, stride=stride_THW, padding=1, groups=channels, bias=False)


def _interaction_preserving(channels: int, stride_THW: Triple, index: int) -> nn.Module:
    return nn.Sequential(nn.Conv3d(channels, channels, 1, bias=False), _depthwise(channels, stride_THW, index))


def _build(depth: int, preserve_interactions: bool, in_channels: int, task: Task, options: Options) -> nn.Module:
    return build_csn(depth=depth, in_channels=in_channels, preserve_interactions=preserve_interactions)


SPECS = tuple(
    BackboneSpec(
        name=f"{kind}_csn_{depth}",
        input="3d",
        build=partial(_build, depth, kind == "ip"),
        poolings=CLIP_POOLINGS,
        source="Tran et al. 2019, Video classification with channel-separated convolutional networks",
        tasks=("clip",),
        why_not="its strides leave one time step for every 8 frames",
        stated_THW=(32, 224, 224),
        receptive_frames={50: 107, 101: 243}[depth],
    )
    for depth in (50, 101)
    for kind in ("ip", "ir")
)
