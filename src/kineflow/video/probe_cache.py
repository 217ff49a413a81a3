"""Probe many videos, each content once: what was decoded, or why it could not be, is kept by its hash."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kineflow import storage
from kineflow.errors import DataError, DecodeError
from kineflow.parallel.tasks import map_tasks
from kineflow.store import ResultStore, digest
from kineflow.video.fingerprint import Moments, find_moments
from kineflow.video.probe import probe

CODE_VERSION = 4  # rises with every change of what `probe` returns or of how it is kept


@dataclass(frozen=True)
class VideoFile:
    """A video as it was listed: its key, where it is, and its content's hash and size."""

    key: str
    uri: str
    sha256: str
    num_bytes: int


@dataclass(frozen=True)
class Probed:
    """What decoding a video gave: `reason` is why it cannot be used, or None; `values` are those of `VideoInfo`."""

    reason: str | None
    values: Mapping[str, Any]
    path: Path

    def timestamps_sec(self) -> NDArray[np.float64]:
        """Float64 (num_frames,), from the first frame."""
        return self._read("timestamps_sec")

    def moments(self) -> Moments:
        """When most changes, to find copies by."""
        return Moments(self._read("moment_steps"), self._read("moment_changes"))

    def fingerprint(self) -> NDArray[np.int16]:
        """Int16 (samples, NUM_COEFFICIENTS)."""
        return self._read("fingerprint")

    def _read(self, name: str) -> NDArray[Any]:
        with self.path.open("rb") as file:
            arrays = json.loads(file.readline())["arrays"]
            for other, (kind, shape) in arrays.items():
                num_values = math.prod(shape)
                if other == name:
                    return np.fromfile(file, kind, num_values).reshape(shape)
                file.seek(num_values * np.dtype(kind).itemsize, os.SEEK_CUR)
        raise KeyError(name)


@dataclass(frozen=True)
class _Task:
    """One video to decode; absolute paths, for a worker may run elsewhere."""

    uri: str
    sha256: str
    num_bytes: int
    cache_dir: Path
    store_root: Path


def probe_all(videos: Sequence[VideoFile], *, home: Path, label: str) -> tuple[dict[str, Probed], int]:
    """Decode the videos whose content was not decoded before, on every core.

    Args:
        videos: of unique keys.
        home: where results and fetched objects are kept.
        label: of the progress lines.

    Returns:
        what each holds, by key and in the order of `videos`, and how many were decoded.

    Raises:
        DataError: a file is gone or no longer has the size or hash it was listed with.
    """
    store = ResultStore(home / "store" / "probe", is_whole=_is_whole)
    missing = {video.sha256: video for video in videos if _key(video.sha256) not in store}
    tasks = [
        _Task(
            uri=video.uri if storage.is_s3(video.uri) else str(Path(video.uri).absolute()),
            sha256=video.sha256,
            num_bytes=video.num_bytes,
            cache_dir=(home / "objects").absolute(),
            store_root=store.root.absolute(),
        )
        for video in missing.values()
    ]
    for _ in map_tasks(_probe_into_store, tasks, label=label, weights=[task.num_bytes + 1.0 for task in tasks]):
        pass
    return {video.key: _load(store.path(_key(video.sha256))) for video in videos}, len(tasks)


def _key(sha256: str) -> str:
    return digest(kind="probe", code=CODE_VERSION, sha256=sha256)


def _probe_into_store(task: _Task) -> None:
    path = storage.local_file(task.uri, cache_dir=task.cache_dir, sha256=task.sha256)
    if path.stat().st_size != task.num_bytes:
        raise DataError(f"{task.uri} changed since sync; run sync again")
    header: dict[str, Any]
    arrays: dict[str, NDArray[Any]] = {}
    try:
        info = probe(path)
        header = {name: value for name, value in vars(info).items() if not isinstance(value, np.ndarray)}
        moments = find_moments(info.fingerprint)
        arrays = {"timestamps_sec": info.timestamps_sec, "moment_steps": moments.steps}
        arrays |= {"moment_changes": moments.changes, "fingerprint": info.fingerprint}
    except DecodeError as err:
        header = {"reason": str(err)}
    header["arrays"] = {name: (array.dtype.str, array.shape) for name, array in arrays.items()}
    with ResultStore(task.store_root).writing(_key(task.sha256)) as result:
        data = b"".join(array.tobytes() for array in arrays.values())
        result.write_bytes(json.dumps(header).encode() + b"\n" + data)


def _is_whole(path: Path) -> bool:
    """Whether the file has a header, and the length that it says."""
    try:
        with path.open("rb") as file:
            arrays = json.loads(file.readline())["arrays"].values()
            arrays_bytes = sum(math.prod(shape) * np.dtype(kind).itemsize for kind, shape in arrays)
            return os.fstat(file.fileno()).st_size == file.tell() + arrays_bytes
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return False


def _load(path: Path) -> Probed:
    with path.open("rb") as file:
        values = json.loads(file.readline())
    del values["arrays"]
    return Probed(values.pop("reason", None), values, path)
