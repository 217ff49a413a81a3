"""What is named to `kineflow compare`: models, patches, streams and their fusion, each as changes to the params."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from kineflow.errors import ParamsError
from kineflow.experiments.comparison import Contender
from kineflow.models.registry import find_model
from kineflow.params import STREAM_NAMES, Params, StreamName
from kineflow.studies.changed_params import check_keys, read_patch, with_changes

FUSION: Literal["fusion"] = "fusion"


def contenders(params: Params, names: Sequence[str], stream: StreamName, shared: Mapping[str, Any]) -> list[Contender]:
    """What the names stand for.

    A stream, or `fusion` of all that are enabled, is as the params say. A model comes with its own default options and
    those of `shared`; everything else, `weights` too, is as the params say.

    Args:
        stream: of models and patches.
        shared: changes that all of them get.

    Raises:
        ParamsError: a name stands for nothing, is there twice, or what it stands for cannot be.
    """
    found = [_contender(params, name, stream) for name in names]
    repeated = {one.name for i, one in enumerate(found) if one.name in {other.name for other in found[:i]}}
    if repeated:
        raise ParamsError(f"{sorted(repeated)[0]} is compared with itself; give each name once")
    check_keys(params, shared, streams=streams_of(params, found), where="--set")
    found = [replace(one, changes=_together(_of_stream(shared, one.stream), one)) for one in found]
    for one in found:
        with_changes(params, one.changes, where=one.name)
    return found


def parts_of_fusion(params: Params, shared: Mapping[str, Any]) -> list[Contender]:
    """The enabled streams, each as the params say."""
    return [Contender(name, name, _of_stream(shared, name)) for name in params.streams.enabled]


def streams_of(params: Params, found: Sequence[Contender]) -> list[StreamName]:
    """Those that have to be trained."""
    named = {one.stream for one in found}
    return [name for name in STREAM_NAMES if name in named or (FUSION in named and name in params.streams.enabled)]


def _contender(params: Params, name: str, stream: StreamName) -> Contender:
    enabled = params.streams.enabled
    if name == FUSION:
        if len(enabled) < 2:
            raise ParamsError(f"fusion takes two streams or more; enabled in params is {', '.join(enabled)}")
        return Contender(name, FUSION, {})
    of_name = next((known for known in STREAM_NAMES if known == name), stream)
    if of_name not in enabled:
        where = of_name if of_name == name else f"--stream {stream}"
        raise ParamsError(f"{where} is not enabled under streams in params; there are {', '.join(enabled)}")
    if of_name == name:
        return Contender(name, name, {})
    if name.endswith((".yaml", ".yml")):
        changes = read_patch(Path(name))
        check_keys(params, changes, streams=[stream], where=name)
        stem = Path(name).stem
        if stem in (*STREAM_NAMES, FUSION):
            raise ParamsError(f"{name}: a patch is named by its file, and {stem} is a stream; rename the file")
        return Contender(stem, stream, changes)
    find_model(name)
    if stream == "fv":
        raise ParamsError(f"{name} is a network, and --stream fv has none; name fv itself, or a patch of its params")
    return Contender(name, stream, {f"streams.{stream}.model": name, f"streams.{stream}.options": {}})


def _together(shared: Mapping[str, Any], one: Contender) -> dict[str, Any]:
    """The shared changes, then the contender's; of a model the default options come before both."""
    if one.name != one.changes.get(f"streams.{one.stream}.model"):
        return {**shared, **one.changes}
    options = f"streams.{one.stream}.options"
    return {options: one.changes[options], **shared, f"streams.{one.stream}.model": one.name}


def _of_stream(shared: Mapping[str, Any], stream: str) -> dict[str, Any]:
    """The changes that matter to a stream; of the fusion all do."""
    others = tuple(f"streams.{name}." for name in STREAM_NAMES if stream not in (name, FUSION))
    return {key: value for key, value in shared.items() if not key.startswith(others)}
