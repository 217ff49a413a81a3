"""Annotations that are a folder: its files with those of its subfolders, so that none is passed over unseen."""

from collections.abc import Collection, Sequence
from pathlib import Path

from kineflow.errors import AnnotationError


def files_inside(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """Files with these suffixes (lower case) in a folder and below, sorted; what is hidden is left out."""
    found = (item for item in folder.rglob("*") if item.suffix.lower() in suffixes and item.is_file())
    return sorted(item for item in found if not any(part[0] == "." for part in item.relative_to(folder).parts))


def file_or_folder(path: Path, suffixes: Sequence[str], *, wanted: str) -> list[Path]:
    """The file itself, or the files of a folder.

    Args:
        path: that `data.annotations` names.
        suffixes: of the files of a folder.
        wanted: what the folder should hold, for the message.

    Raises:
        AnnotationError: the folder holds none.
    """
    if not path.is_dir():
        return [path]
    found = files_inside(path, suffixes)
    if not found:
        raise AnnotationError(f"{path}: holds no {' or '.join(suffixes)}; put {wanted} there")
    return found


def names_inside(folder: Path, files: Sequence[Path]) -> str:
    """Where the files of a folder lie in it, for a message."""
    return ", ".join(item.relative_to(folder).as_posix() for item in files) or "none"
