"""Count every backbone and every model: their size and their cost at a stated clip.

Backbones are counted once, on the meta device, and poolings once for each shape of maps that they read, so that
hundreds of models take seconds. `index` keeps what is counted here.
"""

import statistics
import time
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from kineflow.models.describe import count_macs
from kineflow.models.heads import LinearHead
from kineflow.models.index import BackboneEntry, ModelEntry, PoolingEntry, matches
from kineflow.models.pooling.average import SpatialAverage
from kineflow.models.registry import create_model, find_model, list_models
from kineflow.models.specs import BackboneSpec, Options, PoolingSpec, Task
from kineflow.models.zoo import BACKBONES, POOLINGS

NUM_CLASSES = 51  # HMDB-51's
EMBEDDING_DIM = 512


@dataclass(frozen=True)
class _Counted:
    """A backbone without pooling and classes, and the shape of its last activations for the clip."""

    num_parameters: int
    macs: int
    maps_BDTHW: tuple[int, int, int, int, int]


def count_backbones() -> tuple[BackboneEntry, ...]:
    """Count every backbone at its stated clip."""
    return tuple(_backbone_entry(spec) for spec in BACKBONES)


def describe_poolings() -> tuple[PoolingEntry, ...]:
    """Return what every pooling says of itself."""
    return tuple(
        PoolingEntry(spec.name, {**spec.tasks}, spec.padded, dict(spec.options), spec.source) for spec in POOLINGS
    )


def describe_models(pattern: str = "*") -> tuple[ModelEntry, ...]:
    """Count every model that a pattern names.

    Args:
        pattern: a name, a backbone or a pooling; `*` stands for any letters in it.

    Raises:
        ParamsError: it names no model; the message lists the nearest ones.
    """
    names = [spec.name for spec in list_models() if matches(spec.name, pattern)]
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


def fitting_options(name: str, task: Task, *, num_frames: int) -> Options:
    """Return a pooling's options for the steps that its backbone leaves of its stated clip, cut to `num_frames`."""
    backbone, pooling, _ = _parts(name)
    return _options_for(pooling, _count_backbone(backbone.name, task, num_frames).maps_BDTHW[2])


def stated_input(spec: BackboneSpec) -> tuple[int, int, int, int]:
    """Return the shape of the clip at which a backbone is counted: RGB, or cached features."""
    return (EMBEDDING_DIM if spec.input == "embedding" else 3, *spec.stated_THW)


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
    num_parameters, macs = _count_tail(pooling.name, task, front.maps_BDTHW)
    return ModelEntry(
        name=name,
        tasks=spec.tasks,
        input=spec.input,
        input_CTHW=stated_input(backbone),
        num_parameters=front.num_parameters + num_parameters,
        macs=front.macs + macs,
        receptive_frames=backbone.receptive_frames,
        padded=spec.padded,
        exports=spec.exports,
        options=dict(spec.options),
        source=spec.source,
    )


def _backbone_entry(spec: BackboneSpec) -> BackboneEntry:
    counted = _count_backbone(spec.name, spec.tasks[0], spec.stated_THW[0])
    return BackboneEntry(
        name=spec.name,
        input=spec.input,
        input_CTHW=stated_input(spec),
        maps_BDTHW=counted.maps_BDTHW,
        num_parameters=counted.num_parameters,
        macs=counted.macs,
        receptive_frames=spec.receptive_frames,
        tasks=spec.tasks,
        poolings=spec.poolings,
        source=spec.source,
    )


def _options_for(pooling: PoolingSpec, num_steps: int) -> Options:
    needed: Options = {"num_steps": num_steps, "max_steps": max(16, num_steps)}
    return {key: needed.get(key, value) for key, value in pooling.options.items()}


@cache
def _count_backbone(name: str, task: Task, num_frames: int) -> _Counted:
    spec = next(spec for spec in BACKBONES if spec.name == name)
    channels, _, height_px, width_px = stated_input(spec)
    with torch.device("meta"):
        backbone = spec.build(channels, task, spec.options)
    counts, maps = count_macs(backbone, (1, channels, num_frames, height_px, width_px))
    assert isinstance(maps, Tensor)
    batch, dim, num_steps, height, width = maps.shape
    return _Counted(
        num_parameters=_num_parameters(backbone),
        macs=sum(counts.values()) - counts["elementwise"],
        maps_BDTHW=(batch, dim, num_steps, height, width),
    )


@cache
def _count_tail(pooling_name: str, task: Task, maps_BDTHW: tuple[int, int, int, int, int]) -> tuple[int, int]:
    """Return the parameters and the multiply-accumulates of a pooling and a head that read such maps."""
    pooling = next(spec for spec in POOLINGS if spec.name == pooling_name)
    with torch.device("meta"):
        reader = pooling.build(maps_BDTHW[1], task, _options_for(pooling, maps_BDTHW[2]))
        feature_dim = int(reader.feature_dim)  # type: ignore[arg-type]
        flatten = nn.Identity() if getattr(reader, "reads_maps", False) else SpatialAverage()
        head = LinearHead(feature_dim=feature_dim, num_classes=NUM_CLASSES, dropout=0.0)
        tail = nn.Sequential(flatten, reader, head)
    counts, _ = count_macs(tail, maps_BDTHW)
    return _num_parameters(tail), sum(counts.values()) - counts["elementwise"]


def _num_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
