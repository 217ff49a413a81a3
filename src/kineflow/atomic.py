"""Files and folders that appear whole or not at all: written beside their place, then renamed."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from uuid import uuid4

PREFIX = ".partial-"  # of everything that is half-written
MAX_NAME = 100  # characters of the name that a half-written file takes over; those of a file are 255 at most
DAY_SEC = 86_400.0


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write a file or folder to; on success it takes the place of `path`.

    Every writer has one of its own: of two that write the same file at once the later one stays, and neither fails.
    A folder takes the place of nothing, or of an empty folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{PREFIX}{path.name[:MAX_NAME]}-{uuid4().hex[:8]}")
    try:
        yield partial
        partial.replace(path)
    except OSError as err:
        _name_the_target(err, partial, path)
        raise
    finally:
        _delete(partial)


def write_text(path: Path, text: str) -> None:
    """Write `text` in UTF-8, with newlines as they are."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="")


def sweep(folder: Path, *, name: str = "", older_than_sec: float = 600.0) -> None:
    """Delete what killed processes left half-written in `folder`, unless one that may be alive touched it lately.

    Args:
        name: only what was to be called so, or began so.
    """
    for partial in folder.glob(f"{PREFIX}{escape(name[:MAX_NAME])}*"):
        with suppress(FileNotFoundError):  # its writer is alive
            newest = max(part.lstat().st_mtime for part in (partial, *partial.rglob("*")))
            if time.time() - newest >= older_than_sec:
                _delete(partial)


def _name_the_target(err: OSError, partial: Path, path: Path) -> None:
    """Let an error name the file that a person knows."""
    if err.filename == str(partial):
        with suppress(AttributeError):  # PyAV's cannot be changed
            err.filename = str(path)
            if err.filename2 == str(path):
                del err.filename2


def _delete(partial: Path) -> None:
    if partial.is_dir() and not partial.is_symlink():
        shutil.rmtree(partial, ignore_errors=True)
    else:
        partial.unlink(missing_ok=True)
