"""Files on this machine and on S3, by one set of functions: list, fetch, write, exist.

A root is a local path or `s3://bucket/prefix`. `AWS_ENDPOINT_URL` and the credentials come from the environment.
Objects are cached by the SHA-256 of their bytes, so nothing is fetched twice. Only this module imports boto3.
"""

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from kineflow.errors import DataError, OutOfReachError, ParamsError, ServiceError
from kineflow.store import digest, file_sha256

CONNECT_TIMEOUT_SEC = 5
READ_TIMEOUT_SEC = 60
MAX_ATTEMPTS = 2
BLOCK_BYTES = 1 << 20
CHECKSUMS = {  # rclone answers ranged reads with that of the whole object
    "request_checksum_calculation": "when_required",
    "response_checksum_validation": "when_required",
}
MAX_PAUSE_SEC = 10.0  # between two tries
PATIENCE_SEC = 300.0

Result = TypeVar("Result")


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


def is_s3(uri: str) -> bool:
    """Whether `uri` names an S3 object or prefix."""
    return uri.startswith("s3://")


def join(root: str, key: str) -> str:
    """The URI or path of `key` under `root`."""
    return f"{root.rstrip('/')}/{key}" if root else key


def list_files(root: str) -> list[FileInfo]:
    """Every file under `root`, sorted by key; hidden files and folders (`.name`) are left out.

    A root that is itself a file gives that one file, its key being its name.

    Raises:
        DataError: a local root does not exist, a link leads nowhere, or a name is not valid UTF-8.
        ServiceError: the storage is out of reach, or the bucket does not exist.
    """
    found = _list_s3(root) if is_s3(root) else _list_local(Path(root))
    return sorted(found, key=lambda info: info.key)


def exists(uri: str) -> bool:
    """Whether a file or object is there (for S3 prefixes use `list_files`)."""
    if not is_s3(uri):
        return Path(uri).exists()
    bucket, key = _split(uri)
    with _s3_errors(uri):
        try:
            _client().head_object(Bucket=bucket, Key=key)
        except _client().exceptions.ClientError as err:
            if _status(err) == 404:
                return False
            raise
    return True


def put_file(path: Path, uri: str) -> None:
    """Copy a local file to `uri`, whole or not at all."""
    if is_s3(uri):
        bucket, key = _split(uri)
        with _s3_errors(uri):
            _client().upload_file(str(path), bucket, key)
        return
    target = Path(uri)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    shutil.copyfile(path, partial)
    partial.replace(target)


def get_file(uri: str, path: Path) -> bool:
    """Copy `uri` to a local file, whole or not at all; false where it is not there.

    Raises:
        OutOfReachError: the storage does not answer.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file, _opened(uri) as source:
            shutil.copyfileobj(source, file, BLOCK_BYTES)
        Path(partial).replace(path)
    except FileNotFoundError:
        return False
    finally:
        Path(partial).unlink(missing_ok=True)
    return True


def delete_file(uri: str) -> None:
    """Delete a file or object; one that is not there is deleted already."""
    if not is_s3(uri):
        Path(uri).unlink(missing_ok=True)
        return
    bucket, key = _split(uri)
    with _s3_errors(uri):
        try:
            _client().delete_object(Bucket=bucket, Key=key)
        except _client().exceptions.ClientError as err:
            if _status(err) != 404:
                raise


def with_patience(
    work: Callable[[], Result], *, patience_sec: float, say: Callable[[str], None] | None = None
) -> Result:
    """What `work` gives, tried again for so long while the storage is out of reach.

    Args:
        say: told once that it is being waited for, and why.

    Raises:
        OutOfReachError: it still is.
    """
    give_up = time.monotonic() + patience_sec
    pause_sec = 0.25
    while True:
        try:
            return work()
        except OutOfReachError as err:
            if time.monotonic() + pause_sec > give_up:
                raise
            if say is not None:
                say(f"{err}; waiting up to {patience_sec:.0f} s for it")
                say = None
        time.sleep(pause_sec)
        pause_sec = min(2 * pause_sec, MAX_PAUSE_SEC)


def patience_sec() -> float:
    """How long storage that is away is waited for: `KINEFLOW_PATIENCE_SEC`, or five minutes.

    Raises:
        ParamsError: the variable holds no number of seconds.
    """
    given = os.environ.get("KINEFLOW_PATIENCE_SEC", str(PATIENCE_SEC))
    try:
        seconds = float(given)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ParamsError(f"KINEFLOW_PATIENCE_SEC={given} is no number of seconds; give 0 or more")
    return seconds


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
    bucket, key = _split(uri)
    with _s3_errors(uri):
        wanted = _etag(_client().head_object(Bucket=bucket, Key=key)) if etag is None else etag
        pointer = _pointer(cache_dir, uri, wanted)
        if pointer.is_file() and _cached(cache_dir, pointer.read_text(), uri).is_file():
            return _cached(cache_dir, pointer.read_text(), uri), pointer.read_text()
        answer = _client().get_object(Bucket=bucket, Key=key)
        found = _etag(answer)  # it may have been overwritten meanwhile
        if etag is not None and found != etag:
            answer["Body"].close()
            raise DataError(f"{uri} changed while it was read; run sync again when nothing writes there")
        return _keep(answer["Body"], uri, cache_dir, _pointer(cache_dir, uri, found))


def sweep(cache_dir: Path, *, older_than_sec: float = 3600.0) -> None:
    """Delete what killed downloads left in the cache, unless it was written to lately by one that may be alive."""
    for partial in (*cache_dir.glob(".partial-*"), *cache_dir.glob("versions/*.partial")):
        with suppress(FileNotFoundError):
            if time.time() - partial.stat().st_mtime > older_than_sec:
                partial.unlink()


def endpoint() -> str:
    """The S3 endpoint in use, for messages and keys."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "https://s3.amazonaws.com"


def arrow_filesystem(uri: str) -> tuple[Any, str]:
    """The S3 in use as Arrow's file system, for libraries that want one, and the path of `s3://bucket/prefix` there.

    Arrow's own client makes folders as objects whose names end in a slash, which not every S3 takes.
    """
    from pyarrow.fs import FSSpecHandler, PyFileSystem
    from s3fs import S3FileSystem

    bucket, prefix = _split(uri)
    client = {"endpoint_url": endpoint(), "region_name": _region()}
    files = S3FileSystem(client_kwargs=client, config_kwargs=CHECKSUMS, use_listings_cache=False)
    return PyFileSystem(FSSpecHandler(files)), join(bucket, prefix).rstrip("/")


def sha256_of(root: str, info: FileInfo, *, cache_dir: Path) -> str:
    """SHA-256 (hex) of a listed file's bytes; an object is fetched into the cache on the way.

    Raises:
        DataError: an object was overwritten since it was listed.
        ServiceError: the storage is out of reach.
    """
    uri = join(root, info.key)
    return fetch(uri, cache_dir=cache_dir, etag=info.version)[1] if is_s3(root) else file_sha256(Path(uri))


@contextmanager
def _opened(uri: str) -> Iterator[Any]:
    """The bytes of `uri`, in one stream: not every S3 answers a ranged read with the range."""
    if not is_s3(uri):
        with Path(uri).open("rb") as file:
            yield file
        return
    bucket, key = _split(uri)
    with _s3_errors(uri):
        try:
            body = _client().get_object(Bucket=bucket, Key=key)["Body"]
        except _client().exceptions.ClientError as err:
            if _status(err) == 404 and _code(err) != "NoSuchBucket":
                raise FileNotFoundError(uri) from err
            raise
        with body:
            yield body


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
    bucket, prefix = _split(root)
    folder = prefix.rstrip("/") + "/" if prefix else ""
    with _s3_errors(root):
        pages = _client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix.rstrip("/"))
        objects = [item for page in pages for item in page.get("Contents", [])]
    named = prefix and not prefix.endswith("/")  # else it is the empty object by which consoles mark a folder
    if named and (alone := [item for item in objects if item["Key"] == prefix]):
        yield FileInfo(prefix.rpartition("/")[2], alone[0]["Size"], _etag(alone[0]))
        return
    for item in objects:
        key = item["Key"].removeprefix(folder)
        inside = item["Key"].startswith(folder) and key and not key.endswith("/")
        parts = key.split("/")
        if inside and not any(part.startswith(".") or not part for part in parts):
            yield FileInfo(key, item["Size"], _etag(item))


def _etag(answer: Mapping[str, Any]) -> str:
    return str(answer["ETag"]).strip('"')  # some servers quote it in some answers only


def _keep(body: Any, uri: str, cache_dir: Path, pointer: Path) -> tuple[Path, str]:
    cache_dir.mkdir(parents=True, exist_ok=True)
    sha256 = hashlib.sha256()
    descriptor, partial = tempfile.mkstemp(prefix=".partial-", dir=cache_dir)
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
    pointer.parent.mkdir(parents=True, exist_ok=True)
    beside = pointer.with_suffix(f".{os.getpid()}.partial")
    beside.write_text(sha256.hexdigest())
    beside.replace(pointer)
    return path, sha256.hexdigest()


def _pointer(cache_dir: Path, uri: str, etag: str) -> Path:
    """The file that says which bytes a version of an object has."""
    return cache_dir / "versions" / digest(uri=uri, etag=etag, endpoint=endpoint())


def _cached(cache_dir: Path, sha256: str, uri: str) -> Path:
    suffix = Path(uri).suffix.lower()  # decoders look at it
    return cache_dir / sha256[:2] / (sha256 + (suffix if suffix[1:].isalnum() else ""))


def _split(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not bucket:
        raise DataError(f"{uri} names no bucket; write s3://bucket/prefix")
    return bucket, key


def _client() -> Any:
    return _client_for(endpoint(), os.environ.get("AWS_ACCESS_KEY_ID", ""), os.environ.get("AWS_PROFILE", ""))


@lru_cache(maxsize=4)
def _client_for(endpoint_url: str, _access_key: str, _profile: str) -> Any:
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=CONNECT_TIMEOUT_SEC,
        read_timeout=READ_TIMEOUT_SEC,
        retries={"total_max_attempts": MAX_ATTEMPTS, "mode": "standard"},
        **CHECKSUMS,
        max_pool_connections=16,
        s3={"addressing_style": "auto"},
    )
    return boto3.Session().client("s3", endpoint_url=endpoint_url, region_name=_region(), config=config)


def _region() -> str:
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"


@contextmanager
def _s3_errors(uri: str) -> Iterator[None]:
    """Turn what boto3 raises about `uri` into one sentence."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

    try:
        yield
    except (NoCredentialsError, PartialCredentialsError) as err:
        text = f"{uri}: no S3 credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        raise ServiceError(text) from err
    except ClientError as err:
        raise _refusal(uri, err) from err
    except (BotoCoreError, Boto3Error) as err:
        text = f"{uri}: S3 at {endpoint()} is out of reach ({_first_line(err)}); start it or correct AWS_ENDPOINT_URL"
        raise OutOfReachError(text) from err


def _refusal(uri: str, err: Any) -> DataError | ServiceError:
    code = _code(err)
    if code == "NoSuchBucket":
        return ServiceError(f"{uri}: S3 at {endpoint()} has no such bucket; create it or correct the URI")
    if _status(err) == 404:
        return DataError(f"{uri} is not there; correct the URI or put the object there")
    if _status(err) in (401, 403):
        return ServiceError(f"{uri}: S3 at {endpoint()} refuses these credentials ({code}); check AWS_ACCESS_KEY_ID")
    later = OutOfReachError if _status(err) >= 500 or _status(err) == 429 else ServiceError
    return later(f"{uri}: S3 at {endpoint()} answered {code} ({_first_line(err)}); try again")


def _code(err: Any) -> str:
    return str(err.response.get("Error", {}).get("Code", ""))


def _status(err: Any) -> int:
    return int(err.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _first_line(err: Exception) -> str:
    return str(err).splitlines()[0].rstrip(".") if str(err) else type(err).__name__
