"""3D ResNets and ResNeXts of 50 and 101 layers, as published with weights of Kinetics; and their feature reduction.

Source: Hara, Kataoka and Satoh 2018, Can spatiotemporal 3D CNNs retrace the history of 2D CNNs and ImageNet? Key
names and sizes of
https://github.com/kenshohara/3D-ResNets-PyTorch/blob/26632d5326ff13389855262188c47eaa8690a4e8/models/resnext.py
"""

from functools import partial

from torch import nn

from kineflow.models.backbones.bottleneck3d import (
    NUM_BLOCKS,
    Bottleneck3d,
    Stage,
    build_stage,
    chain,
    cubic_middle,
    stem,
)
from kineflow.models.backbones.clip_network import CLIP_POOLINGS, ClipNetwork, Reduction
from kineflow.models.backbones.resnet2d import initialise_convolutions
from kineflow.models.specs import BackboneSpec, Options, Task

CARDINALITY = 32
REDUCED_DIM = 512


def build_resnet3d(*, depth: int, in_channels: int, cardinality: int = 1, reduction: Reduction = "") -> ClipNetwork:
    """Build a 3D ResNet, or a ResNeXt where `cardinality` is above 1.

    Args:
        depth: 50 or 101.
        in_channels: channels of the clips.
        cardinality: groups of the 3x3x3 convolutions.
        reduction: `frmb` replaces the last block by one that leaves 512 channels, `frab` adds such a block.

    Source: Hara et al. 2018; reductions of Kalfaoglu 2020, 4.1.2.
    """
    width, expansion = (64, 4) if cardinality == 1 else (128, 2)
    layers = stem(in_channels, kernel_THW=(7, 7, 7), stride_THW=(1, 2, 2))
    layers["maxpool"] = nn.MaxPool3d(3, stride=2, padding=1)
    channels = 64
    for index, num_blocks in enumerate(NUM_BLOCKS[depth]):
        mid = width * 2**index
        stride = (1, 1, 1) if index == 0 else (2, 2, 2)
        stage = Stage(num_blocks, mid, mid * expansion, stride)
        layers[f"layer{index + 1}"] = build_stage(channels, stage, build_middle=cubic_middle(groups=cardinality))
        channels = mid * expansion
    feature_dim = channels
    if reduction:
        reducer = build_reduction_block(channels, cardinality=cardinality)
        last_stage = layers["layer4"]
        assert isinstance(last_stage, nn.Sequential)
        if reduction == "frmb":
            last_stage[-1] = reducer
        else:
            layers["reduction"] = reducer
        feature_dim = REDUCED_DIM
    network = chain(layers)
    initialise_convolutions(network)
    return ClipNetwork(network, feature_dim=feature_dim, first_layer="conv1", temporal_stride=16)


def build_reduction_block(in_channels: int, *, cardinality: int = 1, out_channels: int = REDUCED_DIM) -> Bottleneck3d:
    """Build the block that leaves few channels for BERT: a bottleneck of half its output, with a learned shortcut.

    The thesis shows it in a figure alone; its author's code has these sizes, at
    https://github.com/artest08/LateTemporalModeling3DCNN/blob/9ead09e41b38fb681be020e1924c6845bca426ed/models/rgb_resneXt3D.py

    Source: Kalfaoglu 2020, 4.1.2 (FRMB and FRAB).
    """
    mid = out_channels // 2
    middle = cubic_middle(groups=cardinality)(mid, (1, 1, 1), 0)
    return Bottleneck3d(in_channels, mid, out_channels, middle=middle)


def _build(
    depth: int, cardinality: int, reduction: Reduction, in_channels: int, task: Task, options: Options
) -> nn.Module:
    return build_resnet3d(depth=depth, in_channels=in_channels, cardinality=cardinality, reduction=reduction)


_VARIANTS: tuple[tuple[str, int, int, Reduction, int], ...] = (
    ("resnet50_3d", 50, 1, "", 217),
    ("resnet101_3d", 101, 1, "", 489),
    ("resnext101_3d", 101, CARDINALITY, "", 489),
    ("resnext101_3d_frmb", 101, CARDINALITY, "frmb", 489),
    ("resnext101_3d_frab", 101, CARDINALITY, "frab", 521),
)

SPECS = tuple(
    BackboneSpec(
        name=name,
        input="3d",
        build=partial(_build, depth, cardinality, reduction),
        poolings=CLIP_POOLINGS,
        source="Hara et al. 2018, Can spatiotemporal 3D CNNs retrace the history of 2D CNNs and ImageNet?"
        + ("; Kalfaoglu 2020, 4.1.2" if reduction else ""),
        tasks=("clip",),
        why_not="its strides leave one time step for every 16 frames",
        stated_THW=(64, 112, 112) if cardinality > 1 else (16, 112, 112),
        receptive_frames=receptive_frames,
    )
    for name, depth, cardinality, reduction, receptive_frames in _VARIANTS
)
