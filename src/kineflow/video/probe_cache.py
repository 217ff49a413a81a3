"""Probe many videos, each content once: what was decoded, or why it could not be, is kept by its hash."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kineflow import storage
from kineflow.errors import DataError, DecodeError
from kineflow.parallel import map_tasks
from kineflow.store import ResultStore, digest
from kineflow.video.probe import probe

CODE_VERSION = 2  # rises with every change of what `probe` returns or of how it is kept


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
        _, _, data = self.path.read_bytes().partition(b"\n")
        return np.frombuffer(data, np.float64)


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
    store = ResultStore(home / "store" / "probe")
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
    try:
        info = probe(path)
        header = {name: value for name, value in asdict(info).items() if name != "timestamps_sec"}
        timestamps = np.ascontiguousarray(info.timestamps_sec, np.float64).tobytes()
    except DecodeError as err:
        header, timestamps = {"reason": str(err)}, b""
    with ResultStore(task.store_root).writing(_key(task.sha256)) as result:
        result.write_bytes(json.dumps(header).encode() + b"\n" + timestamps)


def _load(path: Path) -> Probed:
    with path.open("rb") as file:
        values = json.loads(file.readline())
    return Probed(values.pop("reason", None), values, path)
