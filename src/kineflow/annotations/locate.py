"""Which files of a source are its videos, and which files its annotations are."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from glob import escape
from pathlib import Path, PurePosixPath

from kineflow import storage
from kineflow.annotations import Format
from kineflow.annotations.matching import VIDEO_SUFFIXES
from kineflow.errors import DataError
from kineflow.storage import FileInfo
from kineflow.store import digest, file_sha256


def list_videos(source: str) -> list[FileInfo]:
    """The videos under a source, by their extension.

    Raises:
        DataError: there are none.
    """
    found = [info for info in storage.list_files(source) if PurePosixPath(info.key).suffix.lower() in VIDEO_SUFFIXES]
    if not found:
        raise DataError(
            f"{source} holds no videos; put some there (.mp4, .avi, .mkv, ...) or correct data.source (init: --videos)"
        )
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
        wanted = (escape(name), *format_.beside(name))
        listed = storage.list_files(annotation_root(annotations))
        found = [info for info in listed if any(fnmatchcase(info.key, name) for name in wanted)]
    if not found:
        raise DataError(f"{annotations} holds no {format_.name} annotations ({' or '.join(format_.suffixes)})")
    return found


def annotation_root(annotations: str) -> str:
    """What the keys of the annotation files are relative to: the folder, or the folder of the file."""
    return annotations.rpartition("/")[0] or "." if _names_a_file(annotations) else annotations


def fetch_annotations(annotations: str, hashes: Mapping[str, str], *, home: Path) -> Path:
    """Where to read annotations: in place, or, from S3, one folder that they are fetched into.

    Args:
        annotations: a file or a folder, or an s3:// URI.
        hashes: SHA-256 (hex) that each annotation file should have, by key.
        home: where fetched files are kept.

    Raises:
        DataError: a file is gone or its content is another.
        ServiceError: S3 is out of reach.
    """
    root = annotation_root(annotations)
    if not storage.is_s3(annotations):
        for key, sha256 in hashes.items():
            path = Path(storage.join(root, key))
            if not path.is_file() or file_sha256(path) != sha256:
                raise DataError(f"{path} changed since sync; run sync again")
        return Path(annotations)
    folder = home / "annotations" / digest(files=sorted(hashes.items()))[:16]
    for key, sha256 in hashes.items():
        target = folder / key
        if not target.resolve().is_relative_to(folder.resolve()):
            raise DataError(f"annotation {key!r} would leave its folder; rename it")
        fetched = storage.local_file(storage.join(root, key), cache_dir=home / "objects", sha256=sha256)
        if not target.is_file():
            storage.put_file(fetched, str(target))
    return folder if root == annotations else folder / annotations.rpartition("/")[2]


def local_annotations(annotations: str, format_: Format, *, home: Path) -> Path:
    """Where to read annotations as they are now: in place, or, from S3, one folder that they are fetched into.

    Raises:
        DataError: there are none.
        ServiceError: S3 is out of reach.
    """
    infos, root = list_annotations(format_, annotations), annotation_root(annotations)
    hashes = dict(zip((info.key for info in infos), hash_files(root, infos, home=home), strict=True))
    return fetch_annotations(annotations, hashes, home=home)


def hash_files(root: str, infos: Sequence[FileInfo], *, home: Path) -> list[str]:
    """SHA-256 (hex) of each file under a root; what S3 does not state is fetched."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda info: storage.sha256_of(root, info, cache_dir=home / "objects"), infos))


def _names_a_file(annotations: str) -> bool:
    if storage.is_s3(annotations):
        return _suffix(annotations) in (".csv", ".tsv", ".txt", ".json", ".boris")
    return Path(annotations).is_file()


def _suffix(key: str) -> str:
    return PurePosixPath(key).suffix.lower()
