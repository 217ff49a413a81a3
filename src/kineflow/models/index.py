"""The list of models, counted once for each version of the code and kept: showing it needs no torch.

What is kept lies in the user's folder for caches. A folder that cannot be written to costs time, and nothing else.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kineflow.atomic import write_text
from kineflow.store import digest, file_sha256

if TYPE_CHECKING:
    from kineflow.models.specs import InputKind

LIBRARIES = ("torch", "torchvision", "timm")  # that the counted networks come from


@dataclass(frozen=True)
class BackboneEntry:
    """A backbone of the list, without pooling and classes.

    Attributes:
        name: the part of a model's name before the dot.
        input: `2d`, `3d` or `embedding`.
        input_CTHW: the clip at which it was counted.
        maps_BDTHW: shape of its last activations for that clip.
        num_parameters: all.
        macs: multiply-accumulates for that clip: layers with weights, and attention.
        receptive_frames: frames that one time step sees; None: the whole clip.
        tasks: what it can serve, with a fitting pooling.
        poolings: names of those that fit.
        source: citation.
    """

    name: str
    input: str
    input_CTHW: Sequence[int]
    maps_BDTHW: Sequence[int]
    num_parameters: int
    macs: int
    receptive_frames: int | None
    tasks: Sequence[str]
    poolings: Sequence[str]
    source: str


@dataclass(frozen=True)
class PoolingEntry:
    """A pooling of the list.

    Attributes:
        name: the part of a model's name after the dot.
        tasks: what it can serve, behind each kind of backbone.
        padded: it leaves padding out, where it is told the clips' lengths.
        options: every option with its default.
        source: citation.
    """

    name: str
    tasks: Mapping["InputKind", Sequence[str]]
    padded: bool
    options: Mapping[str, bool | int | float | str]
    source: str


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
        receptive_frames: frames that one time step of the backbone sees; None: the whole clip.
        padded: it leaves padding out, where it is told the clips' lengths.
        exports: `torch.export` takes it.
        options: every option with its default.
        source: citations.
    """

    name: str
    tasks: Sequence[str]
    input: str
    input_CTHW: Sequence[int]
    num_parameters: int
    macs: int
    receptive_frames: int | None
    padded: bool
    exports: bool
    options: Mapping[str, bool | int | float | str]
    source: str


def list_backbones() -> list[BackboneEntry]:
    """Return every backbone, counted at its stated clip."""

    def count() -> object:
        from kineflow.models.catalogue import count_backbones

        return [asdict(entry) for entry in count_backbones()]

    return [BackboneEntry(**row) for row in _kept("backbones", count)]


def list_poolings() -> list[PoolingEntry]:
    """Return every pooling."""

    def gather() -> object:
        from kineflow.models.catalogue import describe_poolings

        return [asdict(entry) for entry in describe_poolings()]

    return [PoolingEntry(**row) for row in _kept("poolings", gather)]


def list_entries() -> list[ModelEntry]:
    """Return every model, counted at its backbone's stated clip; the first time, that takes half a minute."""

    def count() -> object:
        from kineflow.models.catalogue import describe_models

        return [asdict(entry) for entry in describe_models()]

    return [ModelEntry(**row) for row in _kept("models", count)]


def is_counted() -> bool:
    """Whether `list_entries` answers at once."""
    return _file("models").is_file()


def find_entries(pattern: str) -> list[ModelEntry]:
    """Return the models that a pattern names: all their counts are kept, or these alone are counted now.

    Args:
        pattern: a name, a backbone or a pooling; `*` stands for any letters in it.

    Raises:
        ParamsError: it names no model; the message lists the nearest ones.
    """
    if is_counted():
        found = [entry for entry in list_entries() if matches(entry.name, pattern)]
        if found:
            return found
    from kineflow.models.catalogue import describe_models

    return list(describe_models(pattern))


def matches(name: str, pattern: str) -> bool:
    """Whether a pattern names a model by its name, its backbone or its pooling."""
    return any(fnmatch(part, pattern) for part in (name, *name.split(".")))


def measured_ms() -> dict[str, float]:
    """Return the milliseconds a clip of each model that was measured here, with this version of the code."""
    try:
        speeds: dict[str, float] = json.loads(_file("speeds").read_text())
    except (OSError, ValueError):
        return {}
    return speeds


def keep_measured(ms_per_clip: Mapping[str, float]) -> None:
    """Keep what was measured, beside what was before."""
    _write(_file("speeds"), {**measured_ms(), **ms_per_clip})


def _kept(name: str, count: Callable[[], object]) -> list[dict[str, Any]]:
    try:
        rows: list[dict[str, Any]] = json.loads(_file(name).read_text())
    except (OSError, ValueError):
        text = _write(_file(name), count())
        rows = json.loads(text)
    return rows


def _write(path: Path, value: object) -> str:
    text = json.dumps(value)
    with suppress(OSError):
        write_text(path, text)
    return text


def _file(name: str) -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "kineflow" / "models" / _code_version() / f"{name}.json"


@cache
def _code_version() -> str:
    folder = Path(__file__).parent
    files = {str(path.relative_to(folder)): file_sha256(path) for path in sorted(folder.rglob("*.py"))}
    return digest(files=files, libraries={name: version(name) for name in LIBRARIES})[:16]
