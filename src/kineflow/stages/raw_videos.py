"""Where the raw videos are: left in their source, or copied into `data/raw` to go under DVC.

DVC empties `data/raw` before each run. So the copy is kept in the store and linked: a video is copied once.
"""

import errno
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from kineflow import storage
from kineflow.errors import DataError
from kineflow.stages import paths
from kineflow.stages.source_manifest import Source
from kineflow.store import ResultStore, file_sha256, home

REFERENCE = paths.RAW / "REFERENCE.txt"


def place(source: str, videos: Sequence[Source], *, keep: Literal["reference", "dvc"]) -> dict[str, str]:
    """Make `data/raw`, and say where each video is.

    Args:
        source: a folder or `s3://bucket/prefix`.
        videos: under it.
        keep: `reference` leaves them where they are and says so in a file; `dvc` copies them to `data/raw`.

    Returns:
        URI by key.

    Raises:
        DataError: a video is gone or changed since sync, or its key would leave `data/raw`.
    """
    shutil.rmtree(paths.RAW, ignore_errors=True)  # as DVC does: what a killed run left may be of other videos
    paths.RAW.mkdir(parents=True)
    if keep == "reference":
        REFERENCE.write_text(f"The raw videos stay at {source} (data.keep: reference); they are not under DVC.\n")
        return {video.key: storage.join(source, video.key) for video in videos}
    store = ResultStore(home() / "store" / "raw")
    store.sweep()
    root = paths.RAW.resolve()
    for video in videos:
        target = paths.RAW / video.key
        if not target.resolve().is_relative_to(root):
            raise DataError(f"video {video.key!r} would leave {paths.RAW}; rename it")
        if video.sha256 not in store or store.path(video.sha256).stat().st_size != video.num_bytes:
            _keep(store, storage.join(source, video.key), video.sha256)
        store.link(video.sha256, target)
    return {video.key: str(paths.RAW / video.key) for video in videos}


def _keep(store: ResultStore, uri: str, sha256: str) -> None:
    path = storage.local_file(uri, cache_dir=home() / "objects", sha256=sha256)
    if storage.is_s3(uri):
        store.adopt(sha256, path)  # the fetched copy is ours
        return
    with store.writing(sha256) as target:
        _copy(path, target)
        if file_sha256(target) != sha256:
            raise DataError(f"{uri} changed since sync; run sync again")


def _copy(source: Path, target: Path) -> None:
    """Copy, sharing blocks where the file system can; never a hard link, which DVC would make read-only."""
    with source.open("rb") as reading, target.open("wb") as writing:
        left = os.fstat(reading.fileno()).st_size
        try:
            while left > 0:
                copied = os.copy_file_range(reading.fileno(), writing.fileno(), left)
                if copied == 0:
                    break
                left -= copied
            return
        except (AttributeError, OSError) as err:
            if isinstance(err, OSError) and err.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
    shutil.copyfile(source, target)
