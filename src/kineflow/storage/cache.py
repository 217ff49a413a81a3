"""Objects on this disk, by the SHA-256 of their bytes, so that nothing is fetched twice."""

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

from kineflow import atomic
from kineflow.errors import DataError
from kineflow.storage.files import BLOCK_BYTES
from kineflow.storage.listing import FileInfo
from kineflow.storage.s3 import client, endpoint, etag_of, is_s3, join, s3_errors, split
from kineflow.store import digest, file_sha256


def local_file(uri: str, *, cache_dir: Path, sha256: str | None = None) -> Path:
    """A path to read `uri` from: itself where it is local, else its cached copy, fetched if need be.

    Args:
        uri: a local path or `s3://bucket/key`.
        cache_dir: where objects are kept, by the hash of their bytes; safe to delete.
        sha256: of the content that is wanted; with it a cached object costs no request.

    Raises:
        DataError: the file is not there, or its object no longer has that hash.
        ServiceError: the storage is out of reach.
    """
    if not is_s3(uri):
        if not Path(uri).is_file():
            raise DataError(f"{uri} is not there any more; put it back or run sync again")
        return Path(uri)
    if sha256 is not None and _cached(cache_dir, sha256, uri).is_file():
        return _cached(cache_dir, sha256, uri)
    path, found = fetch(uri, cache_dir=cache_dir)
    if sha256 is not None and found != sha256:
        raise DataError(f"{uri} changed since sync (sha256 {found[:12]}, expected {sha256[:12]}); run sync again")
    return path


def fetch(uri: str, *, cache_dir: Path, etag: str | None = None) -> tuple[Path, str]:
    """Download an object into the cache unless that version of it is there; its path and SHA-256 (hex).

    Args:
        uri: `s3://bucket/key`.
        cache_dir: as `local_file` has it.
        etag: of the version that was listed; None: that of now, which costs a request.

    Raises:
        DataError: the object is not there, or no longer of that version.
        ServiceError: the storage is out of reach.
    """
    bucket, key = split(uri)
    with s3_errors(uri):
        wanted = etag_of(client().head_object(Bucket=bucket, Key=key)) if etag is None else etag
        pointer = _pointer(cache_dir, uri, wanted)
        if pointer.is_file() and _cached(cache_dir, pointer.read_text(), uri).is_file():
            return _cached(cache_dir, pointer.read_text(), uri), pointer.read_text()
        answer = client().get_object(Bucket=bucket, Key=key)
        found = etag_of(answer)  # it may have been overwritten meanwhile
        if etag is not None and found != etag:
            answer["Body"].close()
            raise DataError(f"{uri} changed while it was read; run sync again when nothing writes there")
        return _keep(answer["Body"], uri, cache_dir, _pointer(cache_dir, uri, found))


def sha256_of(root: str, info: FileInfo, *, cache_dir: Path) -> str:
    """SHA-256 (hex) of a listed file's bytes; an object is fetched into the cache on the way.

    Raises:
        DataError: an object was overwritten since it was listed.
        ServiceError: the storage is out of reach.
    """
    uri = join(root, info.key)
    return fetch(uri, cache_dir=cache_dir, etag=info.version)[1] if is_s3(root) else file_sha256(Path(uri))


def sweep(cache_dir: Path, *, older_than_sec: float = 3600.0) -> None:
    """Delete what killed downloads left in the cache, unless it was written to lately by one that may be alive."""
    for folder in (cache_dir, cache_dir / "versions"):
        atomic.sweep(folder, older_than_sec=older_than_sec)


def _keep(body: Any, uri: str, cache_dir: Path, pointer: Path) -> tuple[Path, str]:
    cache_dir.mkdir(parents=True, exist_ok=True)
    sha256 = hashlib.sha256()
    descriptor, partial = tempfile.mkstemp(prefix=atomic.PREFIX, dir=cache_dir)
    try:
        with os.fdopen(descriptor, "wb") as file:
            while block := body.read(BLOCK_BYTES):
                sha256.update(block)
                file.write(block)
        path = _cached(cache_dir, sha256.hexdigest(), uri)
        path.parent.mkdir(parents=True, exist_ok=True)
        Path(partial).replace(path)
    finally:
        Path(partial).unlink(missing_ok=True)
    atomic.write_text(pointer, sha256.hexdigest())
    return path, sha256.hexdigest()


def _pointer(cache_dir: Path, uri: str, etag: str) -> Path:
    """The file that says which bytes a version of an object has."""
    return cache_dir / "versions" / digest(uri=uri, etag=etag, endpoint=endpoint())


def _cached(cache_dir: Path, sha256: str, uri: str) -> Path:
    suffix = Path(uri).suffix.lower()  # decoders look at it
    return cache_dir / sha256[:2] / (sha256 + (suffix if suffix[1:].isalnum() else ""))
