"""Files and folders that appear whole or not at all: written beside their place, then renamed."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

PREFIX = ".partial-"  # of everything that is half-written


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write a file or folder to; on success it takes the place of `path`.

    Every writer has one of its own: of two that write the same at once the later one stays, and neither fails.
    A folder takes the place of nothing, or of an empty folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{PREFIX}{uuid4().hex[:16]}")
    try:
        yield partial
        partial.replace(path)
    except OSError as err:
        if err.filename == str(partial):
            err.filename = str(path)  # which is what a person knows
        raise
    finally:
        _delete(partial)


def write_text(path: Path, text: str) -> None:
    """Write `text` in UTF-8, with newlines as they are."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="")


def sweep(folder: Path, *, older_than_sec: float = 600.0) -> None:
    """Delete what killed processes left half-written in `folder`, unless one that may be alive touched it lately."""
    for partial in folder.glob(f"{PREFIX}*"):
        with suppress(FileNotFoundError):  # its writer is alive
            newest = max(part.stat().st_mtime for part in (partial, *partial.rglob("*")))
            if time.time() - newest > older_than_sec:
                _delete(partial)


def _delete(partial: Path) -> None:
    if partial.is_dir() and not partial.is_symlink():
        shutil.rmtree(partial, ignore_errors=True)
    else:
        partial.unlink(missing_ok=True)
