"""Results that `dvc pull` brought are put into the store, so that on a fresh machine, too, a change costs only itself.

DVC keeps whole outs: with one video more it has nothing to offer, and takes the out of before away. The store knows
each video's result by its key, which the out's index names. The results are linked from DVC's cache, by the hashes of
`dvc.lock`: a file of the workspace may be of another commit, where a checkout was cut short.
"""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import yaml

from kineflow.errors import DataError
from kineflow.stages import paths
from kineflow.store import ResultStore, home, is_npy
from kineflow.video.pack import is_pack
from kineflow.video.result_index import INDEX, VideoResult, read_index


class Out(NamedTuple):
    """An out of one file for each video, and the kind of its results in the store."""

    folder: Path
    kind: str
    suffix: str
    is_whole: Callable[[Path], bool]


OUTS = (
    Out(paths.FRAMES, "frames", "zip", is_pack),
    Out(paths.FLOW, "flow", "zip", is_pack),
    Out(paths.POSE, "pose", "zip", is_pack),
    Out(paths.EMBEDDINGS, "embeddings", "npy", is_npy),
)


def adopt_pulled_results() -> int:
    """Link what DVC's cache holds of the outs and the store lacks; the number of such results."""
    lacking = [out for out in OUTS if _lacks_some(out, _rows(out))]
    cache = _dvc_cache() if lacking else None
    return 0 if cache is None else sum(_adopt(out, cache) for out in lacking)


def _adopt(out: Out, cache: Path) -> int:
    objects = _cached_files(out, cache)
    if objects.get(INDEX) != _object(cache, _md5(out.folder / INDEX)):
        return 0  # the index is of another commit than dvc.lock
    store, num_adopted = _store(out), 0
    for row in _rows(out):
        path = objects.get(f"{row.video_id}.{out.suffix}")
        if row.key not in store and path is not None and out.is_whole(path):
            store.adopt(row.key, path)
            num_adopted += 1
    return num_adopted


def _rows(out: Out) -> list[VideoResult]:
    if (out.folder / INDEX).is_file():
        with suppress(DataError):  # damaged or of another version: made again anyway
            return read_index(out.folder)
    return []


def _lacks_some(out: Out, rows: list[VideoResult]) -> bool:
    looked_at = rows[:1] + rows[len(rows) // 2 :][:1] + rows[-1:]
    store = _store(out)
    return any(row.key not in store for row in looked_at)


def _store(out: Out) -> ResultStore:
    return ResultStore(home() / "store" / out.kind, is_whole=out.is_whole)


def _dvc_cache() -> Path | None:
    """The folder where DVC keeps files by their MD5; None outside a DVC workspace."""
    asked = subprocess.run([sys.executable, "-m", "dvc", "cache", "dir"], capture_output=True, text=True, check=False)
    return None if asked.returncode else Path(asked.stdout.strip()) / "files" / "md5"


def _cached_files(out: Out, cache: Path) -> dict[str, Path]:
    """What DVC's cache holds of an out as `dvc.lock` has it, by path in the out; nothing if it has it not."""
    try:
        stages = yaml.safe_load(Path("dvc.lock").read_text(encoding="utf-8"))["stages"].values()
        (md5,) = [of["md5"] for stage in stages for of in stage.get("outs", ()) if of["path"] == out.folder.as_posix()]
        listed = json.loads(_object(cache, md5).read_text(encoding="utf-8"))
        return {entry["relpath"]: _object(cache, entry["md5"]) for entry in listed}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError):
        return {}


def _object(cache: Path, md5: str) -> Path:
    return cache / md5[:2] / md5[2:]


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
