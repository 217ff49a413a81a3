"""The backbones and poolings that the registry composes, one explicit tuple of each.

What builds one imports it, so that a gate that only looks names and options up does not pay for torch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import nn

Task = Literal["clip", "frame"]
OptionValue = bool | int | float | str
Options = Mapping[str, OptionValue]
InputKind = Literal["2d", "3d", "embedding"]
# (channels or feature_dim of the input, task, every option with its value) -> module
Build = Callable[[int, Task, Options], "nn.Module"]

TASKS: tuple[Task, ...] = ("clip", "frame")


@dataclass(frozen=True)
class BackboneSpec:
    """One backbone.

    Attributes:
        name: the part of a model's name before the dot.
        input: `2d` runs frame by frame, `3d` on whole clips, `embedding` on cached features.
        build: makes a module that takes clips_BCTHW to features_BTD.
        poolings: names of the poolings that make sense behind it.
        source: citation.
        tasks: what it can serve, with a fitting pooling.
        why_not: what to say of the other tasks.
        options: what may be set, with the default.
    """

    name: str
    input: InputKind
    build: Build
    poolings: tuple[str, ...]
    source: str
    tasks: tuple[Task, ...] = TASKS
    why_not: str = ""
    options: Options = field(default_factory=dict)


@dataclass(frozen=True)
class PoolingSpec:
    """One temporal pooling.

    Attributes:
        name: the part of a model's name after the dot.
        build: makes a module that takes features_BTD to the head's input.
        tasks: what it can serve, behind each kind of backbone.
        source: citation.
        why_not: what to say of the other tasks.
        options: what may be set, with the default.
    """

    name: str
    build: Build
    tasks: Mapping[InputKind, tuple[Task, ...]]
    source: str
    why_not: str = ""
    options: Options = field(default_factory=dict)


def _torchvision_resnet(arch: str, in_channels: int, task: Task, options: Options) -> "nn.Module":
    from kineflow.models.backbones.resnet2d import build_torchvision_resnet

    return build_torchvision_resnet(arch, in_channels=in_channels)


def _tiny_resnet(in_channels: int, task: Task, options: Options) -> "nn.Module":
    from kineflow.models.backbones.resnet2d import build_tiny_resnet

    return build_tiny_resnet(in_channels=in_channels)


def _r3d_18(in_channels: int, task: Task, options: Options) -> "nn.Module":
    from kineflow.models.backbones.resnet3d import build_r3d_18

    return build_r3d_18(in_channels=in_channels)


def _small_r3d(in_channels: int, task: Task, options: Options) -> "nn.Module":
    from kineflow.models.backbones.resnet3d import build_small_r3d

    width = int(options["width"])
    return build_small_r3d(
        in_channels=in_channels,
        widths=(width, 2 * width, 4 * width),
        stem_stride_px=int(options["stem_stride_px"]),
        keep_frames=task == "frame",
    )


def _precomputed(in_channels: int, task: Task, options: Options) -> "nn.Module":
    from kineflow.models.backbones.embedding import PrecomputedFeatures

    return PrecomputedFeatures(feature_dim=in_channels)


def _one_frame(feature_dim: int, task: Task, options: Options) -> "nn.Module":
    from kineflow.models.pooling.average import EveryStep, MiddleFrame

    return MiddleFrame(feature_dim=feature_dim) if task == "clip" else EveryStep(feature_dim=feature_dim)


def _average(feature_dim: int, task: Task, options: Options) -> "nn.Module":
    from kineflow.models.pooling.average import AveragePooling, EveryStep

    return AveragePooling(feature_dim=feature_dim) if task == "clip" else EveryStep(feature_dim=feature_dim)


def _lstm(feature_dim: int, task: Task, options: Options) -> "nn.Module":
    from kineflow.models.pooling.recurrent import LstmPooling

    return LstmPooling(
        feature_dim=feature_dim,
        hidden_dim=int(options["hidden_dim"]),
        num_layers=int(options["num_layers"]),
        bidirectional=bool(options["bidirectional"]),
        dropout=float(options["lstm_dropout"]),
        every_step=task == "frame",
        summary="mean" if options["summary"] == "mean" else "last",
    )


def _bert(feature_dim: int, task: Task, options: Options) -> "nn.Module":
    from kineflow.models.pooling.bert import BertPooling

    return BertPooling(
        feature_dim=feature_dim,
        max_steps=int(options["max_steps"]),
        num_heads=int(options["num_heads"]),
        num_blocks=int(options["num_blocks"]),
        mask_prob=float(options["mask_prob"]),
        dropout=float(options["bert_dropout"]),
        every_step=task == "frame",
    )


_RESNET_SOURCE = "He et al. 2016, Deep residual learning for image recognition; torchvision"
_SMALL_R3D_SOURCE = "kineflow; 3D residual blocks after Hara et al. 2018"
_FRAME_POOLINGS = ("none", "avg", "lstm", "bert")
_ANY_BACKBONE: Mapping[InputKind, tuple[Task, ...]] = {"2d": TASKS, "3d": TASKS, "embedding": TASKS}

BACKBONES: tuple[BackboneSpec, ...] = (
    BackboneSpec(
        name="resnet10_tiny",
        input="2d",
        build=_tiny_resnet,
        poolings=_FRAME_POOLINGS,
        source="kineflow; residual blocks after He et al. 2016",
    ),
    *(
        BackboneSpec(
            name=arch,
            input="2d",
            build=partial(_torchvision_resnet, arch),
            poolings=_FRAME_POOLINGS,
            source=_RESNET_SOURCE,
        )
        for arch in ("resnet18", "resnet34", "resnet50", "resnet101")
    ),
    BackboneSpec(
        name="r3d_mini",
        input="3d",
        build=_small_r3d,
        poolings=("avg",),
        source=_SMALL_R3D_SOURCE,
        options={"width": 16, "stem_stride_px": 2},
    ),
    BackboneSpec(
        name="r3d_tiny",
        input="3d",
        build=_small_r3d,
        poolings=("avg",),
        source=_SMALL_R3D_SOURCE,
        options={"width": 32, "stem_stride_px": 2},
    ),
    BackboneSpec(
        name="r3d_18",
        input="3d",
        build=_r3d_18,
        poolings=("avg",),
        source="Tran et al. 2018, A closer look at spatiotemporal convolutions; torchvision",
        tasks=("clip",),
        why_not="its strides leave one time step for every 8 frames",
    ),
    BackboneSpec(
        name="embedding",
        input="embedding",
        build=_precomputed,
        poolings=_FRAME_POOLINGS,
        source="features cached by the embed stage",
    ),
)

POOLINGS: tuple[PoolingSpec, ...] = (
    PoolingSpec(
        name="none",
        build=_one_frame,
        tasks=_ANY_BACKBONE,
        source="the middle frame of a clip; each frame by itself",
    ),
    PoolingSpec(
        name="avg",
        build=_average,
        tasks={"2d": ("clip",), "3d": TASKS, "embedding": ("clip",)},
        source="Wang et al. 2016, Temporal segment networks",
        why_not="an average over time has one answer for the clip",
    ),
    PoolingSpec(
        name="lstm",
        build=_lstm,
        tasks=_ANY_BACKBONE,
        source="Hochreiter and Schmidhuber 1997; sizes of Kalfaoglu 2020, 3.3.1",
        options={
            "hidden_dim": 512,
            "num_layers": 2,
            "bidirectional": False,
            "lstm_dropout": 0.0,
            "summary": "last",
        },
    ),
    PoolingSpec(
        name="bert",
        build=_bert,
        tasks=_ANY_BACKBONE,
        source="Kalfaoglu 2020, 4.1.1 and 4.2.2",
        options={"max_steps": 16, "num_heads": 8, "num_blocks": 1, "mask_prob": 0.2, "bert_dropout": 0.9},
    ),
)
