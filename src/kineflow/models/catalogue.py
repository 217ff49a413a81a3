"""What `kineflow models` lists: every backbone and every model with its size and cost at a stated clip.

Backbones are counted once, on the meta device, and poolings behind them, so that hundreds of models take seconds.
"""

import statistics
import time
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache

import torch
from torch import Tensor, nn

from kineflow.models.describe import count_macs
from kineflow.models.heads import LinearHead
from kineflow.models.pooling.average import SpatialAverage
from kineflow.models.registry import create_model, find_model, list_models
from kineflow.models.specs import BackboneSpec, Options, PoolingSpec, Task
from kineflow.models.zoo import BACKBONES, POOLINGS

NUM_CLASSES = 51  # HMDB-51's
EMBEDDING_DIM = 512


@dataclass(frozen=True)
class ModelEntry:
    """A model of the list.

    Attributes:
        name: `backbone.pooling`.
        tasks: the tasks it serves.
        input: `2d`, `3d` or `embedding`.
        input_CTHW: the clip at which it was counted.
        num_parameters: all, with 51 classes.
        macs: multiply-accumulates for that clip: layers with weights, and attention.
        receptive_frames: frames that one time step of the backbone sees; None where nobody has counted.
        padded: it leaves padding out, where it is told the clips' lengths.
        options: every option with its default.
        source: citations.
    """

    name: str
    tasks: tuple[str, ...]
    input: str
    input_CTHW: tuple[int, int, int, int]
    num_parameters: int
    macs: int
    receptive_frames: int | None
    padded: bool
    options: Options
    source: str


@dataclass(frozen=True)
class BackboneEntry:
    """A backbone of the list, without pooling and classes.

    Attributes:
        spec: what it says of itself.
        num_parameters: all.
        macs: for its stated clip: layers with weights, and attention.
        maps_BDTHW: shape of its last activations for that clip.
    """

    spec: BackboneSpec
    num_parameters: int
    macs: int
    maps_BDTHW: tuple[int, int, int, int, int]


def list_backbones() -> tuple[BackboneEntry, ...]:
    """Count every backbone at its stated clip."""
    return tuple(_count_backbone(spec.name, spec.tasks[0], spec.stated_THW[0]) for spec in BACKBONES)


def describe_models(pattern: str = "*") -> tuple[ModelEntry, ...]:
    """Count every model that a pattern names.

    Args:
        pattern: a name, a backbone or a pooling; `*` stands for any letters in it.

    Raises:
        ParamsError: it names no model; the message lists the nearest ones.
    """
    names = [spec.name for spec in list_models() if _matches(spec.name, pattern)]
    return tuple(_describe(name) for name in names or [find_model(pattern).name])


def measure_ms_per_clip(entry: ModelEntry, *, num_runs: int = 3) -> float:
    """Return the median milliseconds of a forward pass of one stated clip here, after one to warm up."""
    _, _, task = _parts(entry.name)
    model = create_model(
        entry.name,
        num_classes=NUM_CLASSES,
        in_channels=entry.input_CTHW[0],
        task=task,
        options=fitting_options(entry.name, task, num_frames=entry.input_CTHW[1]),
    ).eval()
    clip = torch.randn(1, *entry.input_CTHW)
    times_sec = []
    with torch.no_grad():
        for _ in range(num_runs + 1):
            start_sec = time.perf_counter()
            model(clip)
            times_sec.append(time.perf_counter() - start_sec)
    return 1000 * statistics.median(times_sec[1:])


def as_json(entry: ModelEntry) -> dict[str, object]:
    """Return one JSON object of a model."""
    return {
        "model": entry.name,
        "tasks": list(entry.tasks),
        "input": entry.input,
        "input_CTHW": list(entry.input_CTHW),
        "params_M": round(entry.num_parameters / 1e6, 4),
        "macs_G": round(entry.macs / 1e9, 4),
        "receptive_frames": entry.receptive_frames,
        "padded": entry.padded,
        "options": dict(entry.options),
        "source": entry.source,
    }


def fitting_options(name: str, task: Task, *, num_frames: int) -> Options:
    """Return a pooling's options for the steps that its backbone leaves of its stated clip, cut to `num_frames`."""
    backbone, pooling, _ = _parts(name)
    return _options_for(pooling, _count_backbone(backbone.name, task, num_frames).maps_BDTHW[2])


def stated_input(spec: BackboneSpec) -> tuple[int, int, int, int]:
    """Return the shape of the clip at which a backbone is counted: RGB, or cached features."""
    return (EMBEDDING_DIM if spec.input == "embedding" else 3, *spec.stated_THW)


def _matches(name: str, pattern: str) -> bool:
    return any(fnmatch(part, pattern) for part in (name, *name.split(".")))


def _parts(name: str) -> tuple[BackboneSpec, PoolingSpec, Task]:
    backbone_name, _, pooling_name = name.partition(".")
    backbone = next(spec for spec in BACKBONES if spec.name == backbone_name)
    pooling = next(spec for spec in POOLINGS if spec.name == pooling_name)
    tasks = find_model(name).tasks
    return backbone, pooling, "clip" if "clip" in tasks else tasks[0]


def _describe(name: str) -> ModelEntry:
    spec = find_model(name)
    backbone, pooling, task = _parts(name)
    # Without pooling, the clip's other frames are not looked at.
    num_frames = 1 if pooling.name == "none" else backbone.stated_THW[0]
    front = _count_backbone(backbone.name, task, num_frames)
    with torch.device("meta"):
        reader = pooling.build(front.maps_BDTHW[1], task, _options_for(pooling, front.maps_BDTHW[2]))
        feature_dim = int(reader.feature_dim)  # type: ignore[arg-type]
        flatten = nn.Identity() if getattr(reader, "reads_maps", False) else SpatialAverage()
        head = LinearHead(feature_dim=feature_dim, num_classes=NUM_CLASSES, dropout=0.0)
        tail = nn.Sequential(flatten, reader, head)
    counts, _ = count_macs(tail, front.maps_BDTHW)
    return ModelEntry(
        name=name,
        tasks=spec.tasks,
        input=spec.input,
        input_CTHW=stated_input(backbone),
        num_parameters=front.num_parameters + _num_parameters(tail),
        macs=front.macs + sum(counts.values()) - counts["elementwise"],
        receptive_frames=backbone.receptive_frames,
        padded=spec.padded,
        options=spec.options,
        source=spec.source,
    )


def _options_for(pooling: PoolingSpec, num_steps: int) -> Options:
    needed: Options = {"num_steps": num_steps, "max_steps": max(16, num_steps)}
    return {key: needed.get(key, value) for key, value in pooling.options.items()}


@cache
def _count_backbone(name: str, task: Task, num_frames: int) -> BackboneEntry:
    spec = next(spec for spec in BACKBONES if spec.name == name)
    channels, _, height_px, width_px = stated_input(spec)
    with torch.device("meta"):
        backbone = spec.build(channels, task, spec.options)
    counts, maps = count_macs(backbone, (1, channels, num_frames, height_px, width_px))
    assert isinstance(maps, Tensor)
    batch, dim, num_steps, height, width = maps.shape
    return BackboneEntry(
        spec=spec,
        num_parameters=_num_parameters(backbone),
        macs=sum(counts.values()) - counts["elementwise"],
        maps_BDTHW=(batch, dim, num_steps, height, width),
    )


def _num_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
