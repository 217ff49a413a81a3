"""Which files there are under a root, and which version of each."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kineflow.errors import DataError
from kineflow.storage.s3 import client, etag_of, is_s3, s3_errors, split


@dataclass(frozen=True)
class FileInfo:
    """A file as its storage lists it.

    Args:
        key: path under the root, with forward slashes.
        num_bytes: its size.
        version: changes with the content: the modification time in ns of a local file, the ETag of an object.
    """

    key: str
    num_bytes: int
    version: str


def list_files(root: str) -> list[FileInfo]:
    """Every file under `root`, sorted by key; hidden files and folders (`.name`) are left out.

    A root that is itself a file gives that one file, its key being its name.

    Raises:
        DataError: a local root does not exist, a link leads nowhere, or a name is not valid UTF-8.
        ServiceError: the storage is out of reach, or the bucket does not exist.
    """
    found = _list_s3(root) if is_s3(root) else _list_local(Path(root))
    return sorted(found, key=lambda info: info.key)


def _list_local(root: Path) -> Iterator[FileInfo]:
    if root.is_file():
        stat = root.stat()
        yield FileInfo(root.name, stat.st_size, str(stat.st_mtime_ns))
        return
    if not root.is_dir():
        raise DataError(f"{root} is not there; correct the path in params.yaml or put the files there")
    yield from _walk(os.fspath(root), "", (os.path.realpath(root),))


def _walk(folder: str, prefix: str, ancestors: tuple[str, ...]) -> Iterator[FileInfo]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            key = prefix + entry.name
            _check_name(key)
            if entry.is_symlink() and not Path(entry.path).exists():
                raise DataError(f"{entry.path} is a link to a file that cannot be reached; mend or delete it")
            try:
                if entry.is_dir():
                    inside = os.path.realpath(entry.path) if entry.is_symlink() else f"{ancestors[-1]}/{entry.name}"
                    if inside not in ancestors:  # a link to a folder above itself
                        yield from _walk(entry.path, key + "/", (*ancestors, inside))
                elif entry.is_file():
                    stat = entry.stat()
                    yield FileInfo(key, stat.st_size, str(stat.st_mtime_ns))
            except FileNotFoundError:  # removed since it was listed
                continue


def _check_name(key: str) -> None:
    try:
        key.encode()
    except UnicodeEncodeError as err:
        raise DataError(f"the file name {key.encode(errors='surrogateescape')!r} is not UTF-8; rename it") from err


def _list_s3(root: str) -> Iterator[FileInfo]:
    bucket, prefix = split(root)
    folder = prefix.rstrip("/") + "/" if prefix else ""
    with s3_errors(root):
        pages = client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix.rstrip("/"))
        objects = [item for page in pages for item in page.get("Contents", [])]
    named = prefix and not prefix.endswith("/")  # else it is the empty object by which consoles mark a folder
    if named and (alone := [item for item in objects if item["Key"] == prefix]):
        yield FileInfo(prefix.rpartition("/")[2], alone[0]["Size"], etag_of(alone[0]))
        return
    for item in objects:
        key = item["Key"].removeprefix(folder)
        inside = item["Key"].startswith(folder) and key and not key.endswith("/")
        parts = key.split("/")
        if inside and not any(part.startswith(".") or not part for part in parts):
            yield FileInfo(key, item["Size"], etag_of(item))
