"""Results that are computed once: a content-addressed store outside DVC's outs.

A key is the digest of everything that a result depends on (the input's content, the stage's params, its
`CODE_VERSION`). A stage computes the keys that are missing and links all of them into its out, so that a
change of one video costs the work of one video and the out is still what a clean run would make.
A result appears by a rename, so a killed stage leaves nothing half-written. What a power cut left empty or cut off is
noticed and made again; damage inside a frame, flow or pose pack is noticed when that item is read, and refused by name.
The store is safe to delete.
"""

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kineflow import atomic


def digest(**parts: object) -> str:
    """SHA-256 (hex) of the named parts, which must be JSON values; the order of names does not matter."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def home() -> Path:
    """Where this workspace keeps what is not versioned: `KINEFLOW_HOME`, or `.kineflow` in the workspace."""
    return Path(os.environ.get("KINEFLOW_HOME", ".kineflow"))


def runs() -> str | None:
    """Where trainings are kept beside `home()`, to outlive the machines they run on: `KINEFLOW_RUNS`, a URI."""
    return os.environ.get("KINEFLOW_RUNS") or None


def free_bytes(path: Path) -> int:
    """Room that is left for us on the disk of `path`, which need not exist yet."""
    return shutil.disk_usage(existing_part(path)).free


def in_bytes(num_bytes: float) -> str:
    """Bytes for people, in one unit: 310 MB, 2.4 GB."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if num_bytes >= size:
            return f"{num_bytes / size:.3g} {unit}"
    return f"{num_bytes / 1e3:.3g} KB"


def existing_part(path: Path) -> Path:
    """`path`, or the nearest folder above it that exists."""
    whole = path.absolute()
    return next(part for part in (whole, *whole.parents) if part.exists())


def is_not_empty(path: Path) -> bool:
    """Whether a file holds anything, or a folder files that all do."""
    files = [part for part in path.rglob("*") if part.is_file()] if path.is_dir() else [path]
    try:
        return bool(files) and all(file.stat().st_size for file in files)
    except OSError:
        return False


def is_npy(path: Path) -> bool:
    """Whether the file is a `.npy` of the length that its header says."""
    from numpy.lib import format as npy

    try:
        with path.open("rb") as file:
            npy.read_magic(file)
            shape, _, dtype = npy.read_array_header_1_0(file)
            return os.fstat(file.fileno()).st_size == file.tell() + math.prod(shape) * dtype.itemsize
    except (OSError, ValueError):
        return False


class ResultStore:
    """Results of one kind (frames, flow, folds ...), each a file or a folder named by its key.

    Args:
        root: the folder of this kind, for example `home() / "store" / "frames"`.
        is_whole: a quick look at whether a result is undamaged; what is not counts as missing.
    """

    def __init__(self, root: Path, *, is_whole: Callable[[Path], bool] = is_not_empty) -> None:
        self.root = root
        self._is_whole = is_whole

    def path(self, key: str) -> Path:
        """Where the result of `key` is, or would be."""
        return self.root / key[:2] / key

    def __contains__(self, key: str) -> bool:
        return self._is_whole(self.path(key))

    @contextmanager
    def writing(self, key: str) -> Iterator[Path]:
        """A path to write the result of `key` to (a file or a folder); it becomes the result on success."""
        final = self.path(key)
        final.parent.mkdir(parents=True, exist_ok=True)
        workdir = Path(tempfile.mkdtemp(prefix=atomic.PREFIX, dir=final.parent))
        try:
            yield workdir / "result"
            try:
                (workdir / "result").replace(final)
            except OSError:  # a folder is there: damaged, or completed by another process meanwhile
                if not final.is_dir():
                    raise
                if key not in self:
                    shutil.rmtree(final)
                    (workdir / "result").replace(final)
        finally:
            shutil.rmtree(workdir, ignore_errors=True)

    def adopt(self, key: str, path: Path) -> None:
        """Make the file `path` the result of `key`, by hard link where the file system can, else by copy."""
        with self.writing(key) as target:
            _link_or_copy(str(path.resolve()), str(target))

    def sweep(self, *, older_than_sec: float = 600.0) -> None:
        """Delete what killed processes left half-written, unless it was touched lately by one that may be alive."""
        for folder in self.root.glob("*"):
            atomic.sweep(folder, older_than_sec=older_than_sec)

    def link(self, key: str, target: Path) -> None:
        """Make `target` the result of `key`, by hard link where the file system can, else by copy."""
        target.parent.mkdir(parents=True, exist_ok=True)
        source = self.path(key)
        if source.is_dir():
            shutil.copytree(source, target, copy_function=_link_or_copy, dirs_exist_ok=True)
        else:
            target.unlink(missing_ok=True)
            _link_or_copy(str(source), str(target))


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
