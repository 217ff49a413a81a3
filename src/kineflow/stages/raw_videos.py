"""Where the raw videos are: left in their source, or copied into `data/raw` to go under DVC."""

import errno
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from kineflow import storage
from kineflow.errors import DataError
from kineflow.stages import paths
from kineflow.store import home

REFERENCE = paths.RAW / "REFERENCE.txt"


def place(source: str, keys: Sequence[str], *, keep: Literal["reference", "dvc"]) -> dict[str, str]:
    """Make `data/raw`, and say where each video is.

    Args:
        source: a folder or `s3://bucket/prefix`.
        keys: of the videos under it.
        keep: `reference` leaves them where they are and says so in a file; `dvc` copies them to `data/raw`.

    Returns:
        URI by key.

    Raises:
        DataError: a video is gone, or its key would leave `data/raw`.
    """
    shutil.rmtree(paths.RAW, ignore_errors=True)  # as DVC does: what a killed run left may be of other videos
    paths.RAW.mkdir(parents=True)
    if keep == "reference":
        REFERENCE.write_text(f"The raw videos stay at {source} (data.keep: reference); they are not under DVC.\n")
        return {key: storage.join(source, key) for key in keys}
    root = paths.RAW.resolve()
    for key in keys:
        target = paths.RAW / key
        if not target.resolve().is_relative_to(root):
            raise DataError(f"video {key!r} would leave {paths.RAW}; rename it")
        path = storage.local_file(storage.join(source, key), cache_dir=home() / "objects")
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.partial")
        _copy(path, partial)
        partial.replace(target)
    return {key: str(paths.RAW / key) for key in keys}


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
