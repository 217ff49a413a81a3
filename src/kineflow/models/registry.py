"""Every model by name, `backbone.pooling`: what it is, what it serves, how it is built.

The backbones and poolings stand in `zoo.py`. A wrong name, combination, task or option is refused with the
reason and with what is known, nearest first.
"""

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from kineflow.errors import ParamsError
from kineflow.models.classifier import VideoClassifier
from kineflow.models.heads import LinearHead
from kineflow.models.specs import (
    TASKS,
    BackboneSpec,
    InputKind,
    Options,
    OptionValue,
    PoolingSpec,
    Task,
)
from kineflow.models.zoo import BACKBONES, POOLINGS

NUM_SHOWN = 8  # of the known names in a message


@dataclass(frozen=True)
class ModelSpec:
    """One model of the registry.

    Attributes:
        name: `backbone.pooling`.
        tasks: the tasks it serves.
        input: `2d` runs frame by frame, `3d` on whole clips, `embedding` on cached features.
        source: citations.
        options: every option that `create_model` takes for it, with the default.
        padded: it answers a padded clip as the clip alone, where `num_frames_B` tells it the clip's length.
        exports: `torch.export` takes it, in eval mode and for any number of clips, and answers alike.
        build: as `create_model`, without the name.
    """

    name: str
    tasks: tuple[Task, ...]
    input: InputKind
    source: str
    options: Options
    padded: bool
    exports: bool
    build: Callable[..., VideoClassifier]


def create_model(
    name: str,
    *,
    num_classes: int,
    in_channels: int,
    task: Task,
    dropout: float = 0.0,
    options: Options | None = None,
) -> VideoClassifier:
    """Build a model by its name, with weights drawn from torch's global generator.

    Args:
        name: `backbone.pooling`, for example `resnet18.bert`; `list_models()` has all.
        num_classes: K, at least 1.
        in_channels: C of the clips (3 for RGB, 2 for flow), or D of cached features for `embedding.*`.
        task: `clip` or `frame`.
        dropout: before the classification layer, in [0, 1).
        options: values for some of the spec's `options`.

    Returns:
        A model on the CPU, in float32 and training mode.

    Raises:
        ParamsError: the name, task or an option is unknown, the two do not go together, or a number is out of
            its range; the message lists what is known, nearest first.
    """
    spec = find_model(name)
    return spec.build(num_classes=num_classes, in_channels=in_channels, task=task, dropout=dropout, options=options)


def list_models() -> tuple[ModelSpec, ...]:
    """Return the spec of every model, by backbone and then by pooling."""
    return _MODELS


def find_model(name: str) -> ModelSpec:
    """Return the spec of a model.

    Raises:
        ParamsError: no such model; the message says whether the backbone, the pooling or their combination is
            unknown.
    """
    for spec in _MODELS:
        if spec.name == name:
            return spec
    known_names = [spec.name for spec in _MODELS]
    backbone_name, dot, pooling_name = name.partition(".")
    backbones = {backbone.name: backbone for backbone in BACKBONES}
    poolings = {pooling.name: pooling for pooling in POOLINGS}
    if not dot:
        problem = "a model is named backbone.pooling"
    elif backbone_name in backbones and pooling_name in poolings:
        fitting = [pooling for pooling in backbones[backbone_name].poolings if pooling in poolings]
        problem = (
            f"{backbone_name} does not go with the pooling {pooling_name}, because "
            f"{_why_apart(backbones[backbone_name], poolings[pooling_name])}; it goes with {', '.join(fitting)}"
        )
        known_names = [f"{backbone_name}.{pooling}" for pooling in fitting]
    elif backbone_name in backbones:
        problem = f"there is no pooling {pooling_name!r}"
    else:
        problem = f"there is no backbone {backbone_name!r}"
    raise ParamsError(f"unknown model {name!r}: {problem}; known: {_nearest_first(name, known_names)}")


def check_model(name: str, *, task: Task, options: Options) -> None:
    """Refuse what `create_model` would refuse of these, without building anything.

    Raises:
        ParamsError: the model is unknown, does not serve the task, or has no such option.
    """
    find_model(name)
    backbone_name, _, pooling_name = name.partition(".")
    backbone = next(spec for spec in BACKBONES if spec.name == backbone_name)
    pooling = next(spec for spec in POOLINGS if spec.name == pooling_name)
    _check_task(name, backbone, pooling, task)
    _merge_options(name, backbone, pooling, options)


def check_padded(name: str) -> None:
    """Refuse a model that cannot leave the padding of short clips out.

    Raises:
        ParamsError: it cannot, or is unknown; says which part of it sees the padding, and what can.
    """
    if find_model(name).padded:
        return
    backbone_name, _, pooling_name = name.partition(".")
    backbone = next(spec for spec in BACKBONES if spec.name == backbone_name)
    reason = f"its pooling {pooling_name} reads" if backbone.padded else f"its backbone {backbone_name} mixes in"
    others = [spec.name for spec in _MODELS if spec.padded]
    raise ParamsError(
        f"{name} cannot leave padding out, because {reason} frames that are no part of the clip; models that can: "
        f"{_nearest_first(name, others)}"
    )


def _build(
    backbone: BackboneSpec,
    pooling: PoolingSpec,
    *,
    num_classes: int,
    in_channels: int,
    task: Task,
    dropout: float = 0.0,
    options: Options | None = None,
) -> VideoClassifier:
    name = f"{backbone.name}.{pooling.name}"
    _check_task(name, backbone, pooling, task)
    _check_numbers(name, num_classes=num_classes, in_channels=in_channels, dropout=dropout)
    chosen = _merge_options(name, backbone, pooling, options or {})
    backbone_module = backbone.build(in_channels, task, chosen)
    backbone_dim = int(backbone_module.feature_dim)  # type: ignore[arg-type]
    pooling_module = pooling.build(backbone_dim, task, chosen)
    feature_dim = int(pooling_module.feature_dim)  # type: ignore[arg-type]
    return VideoClassifier(
        name=name,
        task=task,
        backbone=backbone_module,
        pooling=pooling_module,
        head=LinearHead(feature_dim=feature_dim, num_classes=num_classes, dropout=dropout),
        in_channels=in_channels,
        num_classes=num_classes,
        padded=backbone.padded and pooling.padded,
    )


def _check_task(name: str, backbone: BackboneSpec, pooling: PoolingSpec, task: Task) -> None:
    if task not in TASKS:
        raise ParamsError(f"unknown task {task!r}: known are {_nearest_first(str(task), TASKS)}")
    tasks = _served_tasks(backbone, pooling)
    if task in tasks:
        return
    reason = backbone.why_not if task not in backbone.tasks else pooling.why_not
    others = [spec.name for spec in _MODELS if task in spec.tasks]
    raise ParamsError(
        f"{name} does not serve the task {task}: {reason}; models that do: {_nearest_first(name, others)}"
    )


def _check_numbers(name: str, *, num_classes: int, in_channels: int, dropout: float) -> None:
    if num_classes < 1:
        raise ParamsError(f"{name}: num_classes must be 1 or more, not {num_classes}")
    if in_channels < 1:
        raise ParamsError(f"{name}: in_channels must be 1 or more, not {in_channels}")
    if not 0 <= dropout < 1:
        raise ParamsError(f"{name}: dropout must be at least 0 and below 1, not {dropout}")


def _merge_options(name: str, backbone: BackboneSpec, pooling: PoolingSpec, given: Options) -> Options:
    defaults = {**backbone.options, **pooling.options}
    choices = {**backbone.choices, **pooling.choices}
    for key, value in given.items():
        if key not in defaults:
            known = _nearest_first(key, defaults) or "none"
            raise ParamsError(f"{name} has no option {key!r}; known: {known}")
        _check_option(name, key, value, defaults[key], choices.get(key, ()))
    return {**defaults, **given}


def _check_option(name: str, key: str, value: OptionValue, default: OptionValue, choices: tuple[str, ...]) -> None:
    kind = type(default)
    fits = type(value) is kind or (kind is float and type(value) is int)
    if not fits:
        raise ParamsError(f"{name}: option {key} must be {kind.__name__}, not {value!r}")
    if kind is int and value < 1:  # type: ignore[operator]
        raise ParamsError(f"{name}: option {key} must be 1 or more, not {value}")
    if kind is float and not 0 <= value < 1:  # type: ignore[operator]
        raise ParamsError(f"{name}: option {key} must be at least 0 and below 1, not {value}")
    if kind is str and value not in choices:
        raise ParamsError(f"{name}: option {key} must be {' or '.join(choices)}, not {value!r}")


def _why_apart(backbone: BackboneSpec, pooling: PoolingSpec) -> str:
    return pooling.why_apart.get(backbone.input) or backbone.why_apart


def _served_tasks(backbone: BackboneSpec, pooling: PoolingSpec) -> tuple[Task, ...]:
    return tuple(task for task in backbone.tasks if task in pooling.tasks[backbone.input])


def _nearest_first(wanted: str, known: Iterable[str]) -> str:
    def distance(name: str) -> float:
        return -difflib.SequenceMatcher(None, wanted, name).ratio()

    names = sorted(known, key=distance)
    rest = [f"{len(names) - NUM_SHOWN} more in `kineflow models`"] if len(names) > NUM_SHOWN else []
    return ", ".join([*names[:NUM_SHOWN], *rest])


_MODELS: tuple[ModelSpec, ...] = tuple(
    ModelSpec(
        name=f"{backbone.name}.{pooling.name}",
        tasks=_served_tasks(backbone, pooling),
        input=backbone.input,
        source=f"{backbone.source}; {pooling.source}",
        options={**backbone.options, **pooling.options},
        padded=backbone.padded and pooling.padded,
        exports=backbone.exports and pooling.exports,
        build=partial(_build, backbone, pooling),
    )
    for backbone in BACKBONES
    for pooling in POOLINGS
    if pooling.name in backbone.poolings
)
