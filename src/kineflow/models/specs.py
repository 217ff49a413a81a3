"""What a backbone and a pooling say of themselves; every module of both ends with its own `SPECS`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import nn

Task = Literal["clip", "frame"]
OptionValue = bool | int | float | str
Options = Mapping[str, OptionValue]
Choices = Mapping[str, tuple[str, ...]]
InputKind = Literal["2d", "3d", "embedding"]
# (channels or feature_dim of the input, task, every option with its value) -> module
Build = Callable[[int, Task, Options], nn.Module]

TASKS: tuple[Task, ...] = ("clip", "frame")
ANY_BACKBONE: Mapping[InputKind, tuple[Task, ...]] = {"2d": TASKS, "3d": TASKS, "embedding": TASKS}
# What goes behind features of single frames: all that read one vector a frame, and those that read maps.
VECTOR_POOLINGS = (
    "none", "avg", "concat", "concat_fc", "lstm", "fc_lstm", "gru", "tcn", "tcn_ed", "transformer", "bert",
)  # fmt: skip
MAP_POOLINGS = ("nonlocal_avg", "nonlocal_concat", "nonlocal_concat_fc", "conv_gru")
FRAME_POOLINGS = (*VECTOR_POOLINGS, *MAP_POOLINGS)


@dataclass(frozen=True)
class BackboneSpec:
    """One backbone.

    Attributes:
        name: the part of a model's name before the dot.
        input: `2d` runs frame by frame, `3d` on whole clips, `embedding` on cached features.
        build: makes a module that takes clips_BCTHW to maps_BDTHW, its last activations.
        poolings: names of the poolings that make sense behind it.
        source: citation.
        stated_THW: the clip at which the list of models counts, (frames, height, width): as its source states it.
        receptive_frames: frames that one time step of its maps sees, where the clip is long enough; None: all of the
            clip, however long.
        tasks: what it can serve, with a fitting pooling.
        why_not: what to say of the other tasks.
        why_apart: what to say of the other poolings, where these say nothing.
        options: what may be set, with the default.
        choices: the words that an option of type str may be.
        padded: frames that pad a clip do not change the features of the others.
        exports: `torch.export` takes it.
    """

    name: str
    input: InputKind
    build: Build
    poolings: tuple[str, ...]
    source: str
    stated_THW: tuple[int, int, int]
    receptive_frames: int | None
    tasks: tuple[Task, ...] = TASKS
    why_not: str = ""
    why_apart: str = ""
    options: Options = field(default_factory=dict)
    choices: Choices = field(default_factory=dict)
    padded: bool = False
    exports: bool = True


@dataclass(frozen=True)
class PoolingSpec:
    """One temporal pooling.

    Attributes:
        name: the part of a model's name after the dot.
        build: makes a module that takes features_BTD, or maps_BDTHW where it `reads_maps`, to the head's input.
        tasks: what it can serve, behind each kind of backbone.
        source: citation.
        why_not: what to say of the other tasks.
        why_apart: what to say of backbones of each kind that it does not go with.
        options: what may be set, with the default.
        choices: the words that an option of type str may be.
        padded: its module takes `num_steps_B`, and then leaves the steps behind that number out.
        exports: `torch.export` takes it.
    """

    name: str
    build: Build
    tasks: Mapping[InputKind, tuple[Task, ...]]
    source: str
    why_not: str = ""
    why_apart: Mapping[InputKind, str] = field(default_factory=dict)
    options: Options = field(default_factory=dict)
    choices: Choices = field(default_factory=dict)
    padded: bool = False
    exports: bool = True
