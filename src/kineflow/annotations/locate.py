"""Which files of a source are its videos, and which files its annotations are."""

from pathlib import Path, PurePosixPath

from kineflow import storage
from kineflow.annotations import Format
from kineflow.annotations.matching import VIDEO_SUFFIXES
from kineflow.errors import DataError
from kineflow.storage import FileInfo


def list_videos(source: str) -> list[FileInfo]:
    """The videos under a source, by their extension.

    Raises:
        DataError: there are none.
    """
    found = [info for info in storage.list_files(source) if PurePosixPath(info.key).suffix.lower() in VIDEO_SUFFIXES]
    if not found:
        raise DataError(f"{source} holds no videos; put some there (.mp4, .avi, .mkv, ...) or correct data.source")
    return found


def list_annotations(format_: Format, annotations: str) -> list[FileInfo]:
    """The annotation files of a format: one file with those read beside it, or a folder's.

    Raises:
        DataError: there are none.
    """
    if not format_.suffixes:
        return []
    if not _names_a_file(annotations):
        found = [info for info in storage.list_files(annotations) if _suffix(info.key) in format_.suffixes]
    elif format_.beside is None:
        found = storage.list_files(annotations)
    else:
        name = PurePosixPath(annotations).name
        wanted = (name, *format_.beside(name))
        found = [info for info in storage.list_files(annotation_root(annotations)) if info.key in wanted]
    if not found:
        raise DataError(f"{annotations} holds no {format_.name} annotations ({' or '.join(format_.suffixes)})")
    return found


def annotation_root(annotations: str) -> str:
    """What the keys of the annotation files are relative to: the folder, or the folder of the file."""
    return annotations.rpartition("/")[0] or "." if _names_a_file(annotations) else annotations


def _names_a_file(annotations: str) -> bool:
    if storage.is_s3(annotations):
        return _suffix(annotations) in (".csv", ".tsv", ".txt")
    return Path(annotations).is_file()


def _suffix(key: str) -> str:
    return PurePosixPath(key).suffix.lower()
