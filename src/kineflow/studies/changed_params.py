"""Params with other values for a few keys of training, and patches: files that hold such values.

A patch is a YAML mapping of dotted keys, for example `streams.rgb.lr: 0.001`. A whole section is a value too:
`streams.rgb.finetune: null`. Keys are changed in the order in which they stand.
"""

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from kineflow.atomic import write_text
from kineflow.errors import ParamsError
from kineflow.params import STREAM_NAMES, Params, StreamName, as_json, parse_params
from kineflow.setup.yaml_text import in_one_line

RESOURCES = ("threads_per_fold", "workers_per_fold", "gpus_per_fold", "max_failures", "cache_gb")


def with_changes(params: Params, changes: Mapping[str, Any], *, where: str) -> Params:
    """`params` with other values, checked like a file of params.

    Raises:
        ParamsError: a value is of the wrong type, impossible together with the others, or of a section that is null.
    """
    values = as_json(params)
    for key, value in changes.items():
        *parents, last = key.split(".")
        section: Any = values
        for i, parent in enumerate(parents):
            section = section.get(parent)
            if not isinstance(section, dict):
                parent_key = ".".join(parents[: i + 1])
                raise ParamsError(
                    f"{where}: {key}: {parent_key} is {json.dumps(section)}; write all of it as one value"
                )
        section[last] = deepcopy(value)  # a later key may be inside it
    return parse_params(values, where=where)


def check_keys(params: Params, keys: Iterable[str], *, streams: Sequence[StreamName], where: str) -> None:
    """Refuse keys that the trainings of `streams` do not take, each with the reason.

    Raises:
        ParamsError: a key is unknown, of another stream, of something before training, or a matter of resources.
    """
    known = _keys(as_json(params))
    for key in keys:
        if any(key.startswith(f"streams.{name}.options.") and key.count(".") == 3 for name in streams if name != "fv"):
            continue
        if key not in known and not _in_null(key, known):
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            raise ParamsError(f"{where}: there is no key {key!r}" + (f"; nearest: {near[0]}" if near else ""))
        if reason := _refusal(params, key, streams):
            raise ParamsError(f"{where}: {key} {reason}")


def _refusal(params: Params, key: str, streams: Sequence[StreamName]) -> str | None:
    if key in ("streams", "train", *(f"streams.{name}" for name in STREAM_NAMES)):
        return "is a section of many keys; name those that differ"
    if key.startswith("train."):
        if key.removeprefix("train.") in RESOURCES:
            return "says how trainings are run and not what they learn; set it in params.yaml"
        return None
    if key == "seed":
        return "also deals the folds, on which every trial must be the same; `kineflow compare` takes --seeds"
    own = next((f"streams.{name}." for name in streams if key.startswith(f"streams.{name}.")), None)
    if own is None and key.startswith("streams."):
        return f"is of another stream than {' and '.join(streams)}, whose training this is"
    if own is None or key == f"{own}enabled":
        return "is settled before training; change it in params.yaml, build with `dvc repro`, and start again"
    if key == f"{own}num_frames" and params.task == "frame":
        return "is of no use with task frame, whose windows are as long as clips.window_sec says"
    return None


def _keys(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every key with its value, sections before what is in them."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found[f"{prefix}{name}"] = value
        if isinstance(value, dict):
            found |= _keys(value, f"{prefix}{name}.")
    return found


def _in_null(key: str, known: Mapping[str, Any]) -> bool:
    """Whether a section that `key` would be in is null now; another change may fill it."""
    parent = key.rpartition(".")[0]
    return bool(parent) and (known[parent] is None if parent in known else _in_null(parent, known))


def in_text(params: Params, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The changes by keys that stand in the text of params.yaml: options of a model are one value there."""
    found: dict[str, Any] = {}
    for key, value in changes.items():
        section, dot, option = key.partition(".options.")
        if dot:
            _, stream = section.split(".")
            before = found.get(f"{section}.options", getattr(params.streams, stream).options)
            found[f"{section}.options"] = before | {option: value}
        else:
            found[key] = value
    return found


def read_patch(path: Path) -> dict[str, Any]:
    """The values of a patch, not yet checked against any params.

    Raises:
        ParamsError: it is not there, or no mapping of keys to values.
    """
    try:
        values = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as err:
        raise ParamsError(f"{path} is no YAML file that can be read: {' '.join(str(err).split())}") from err
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ParamsError(f"{path}: a patch holds one line for each key, such as streams.rgb.lr: 0.001")
    return values


def write_patch(path: Path, changes: Mapping[str, Any], *, comment: str) -> None:
    """Write a patch, whole or not at all."""
    lines = [f"# {comment}", *(f"{key}: {in_one_line(value)}" for key, value in changes.items())]
    write_text(path, "\n".join(lines) + "\n")
