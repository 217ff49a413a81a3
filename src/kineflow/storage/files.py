"""Single files: is it there, put it, get it, delete it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kineflow.atomic import replacing, sweep
from kineflow.storage.s3 import client, code_of, is_s3, s3_errors, split, status_of

BLOCK_BYTES = 1 << 20


def exists(uri: str) -> bool:
    """Whether a file or object is there (for S3 prefixes use `list_files`)."""
    if not is_s3(uri):
        return Path(uri).exists()
    bucket, key = split(uri)
    with s3_errors(uri):
        try:
            client().head_object(Bucket=bucket, Key=key)
        except client().exceptions.ClientError as err:
            if status_of(err) == 404:
                return False
            raise
    return True


def put_file(path: Path, uri: str) -> None:
    """Copy a local file to `uri`, whole or not at all."""
    if is_s3(uri):
        bucket, key = split(uri)
        with s3_errors(uri):
            client().upload_file(str(path), bucket, key)
        return
    with replacing(Path(uri)) as partial:
        shutil.copyfile(path, partial)


def get_file(uri: str, path: Path) -> bool:
    """Copy `uri` to a local file, whole or not at all; false where it is not there.

    Raises:
        OutOfReachError: the storage does not answer.
    """
    try:
        with replacing(path) as partial, _opened(uri) as source, partial.open("wb") as file:
            shutil.copyfileobj(source, file, BLOCK_BYTES)
    except FileNotFoundError:
        return False
    return True


def delete_file(uri: str) -> None:
    """Delete a file, with what killed writers left of it, or an object; what is not there is deleted already."""
    if not is_s3(uri):
        Path(uri).unlink(missing_ok=True)
        sweep(Path(uri).parent, name=Path(uri).name, older_than_sec=0.0)
        return
    bucket, key = split(uri)
    with s3_errors(uri):
        try:
            client().delete_object(Bucket=bucket, Key=key)
        except client().exceptions.ClientError as err:
            if status_of(err) != 404:
                raise


@contextmanager
def _opened(uri: str) -> Iterator[Any]:
    """The bytes of `uri`, in one stream: not every S3 answers a ranged read with the range."""
    if not is_s3(uri):
        with Path(uri).open("rb") as file:
            yield file
        return
    bucket, key = split(uri)
    with s3_errors(uri):
        try:
            body = client().get_object(Bucket=bucket, Key=key)["Body"]
        except client().exceptions.ClientError as err:
            if status_of(err) == 404 and code_of(err) != "NoSuchBucket":
                raise FileNotFoundError(uri) from err
            raise
        with body:
            yield body
