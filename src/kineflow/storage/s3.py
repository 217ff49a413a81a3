"""S3 itself: names, the client, and what its errors mean."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from kineflow.errors import DataError, OutOfReachError, ServiceError

CONNECT_TIMEOUT_SEC = 5
READ_TIMEOUT_SEC = 60
MAX_ATTEMPTS = 2
CHECKSUMS = {  # rclone answers ranged reads with that of the whole object
    "request_checksum_calculation": "when_required",
    "response_checksum_validation": "when_required",
}


def is_s3(uri: str) -> bool:
    """Whether `uri` names an S3 object or prefix."""
    return uri.startswith("s3://")


def join(root: str, key: str) -> str:
    """The URI or path of `key` under `root`."""
    return f"{root.rstrip('/')}/{key}" if root else key


def split(uri: str) -> tuple[str, str]:
    """The bucket and the key of `s3://bucket/key`.

    Raises:
        DataError: there is no bucket.
    """
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not bucket:
        raise DataError(f"{uri} names no bucket; write s3://bucket/prefix")
    return bucket, key


def endpoint() -> str:
    """The S3 endpoint in use, for messages and keys."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "https://s3.amazonaws.com"


def _region() -> str:
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"


def client() -> Any:
    """Boto3's client of the endpoint and the credentials that the environment names now."""
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


def arrow_filesystem(uri: str) -> tuple[Any, str]:
    """The S3 in use as Arrow's file system, for libraries that want one, and the path of `s3://bucket/prefix` there.

    Arrow's own client makes folders as objects whose names end in a slash, which not every S3 takes.
    """
    from pyarrow.fs import FSSpecHandler, PyFileSystem
    from s3fs import S3FileSystem

    bucket, prefix = split(uri)
    options = {"endpoint_url": endpoint(), "region_name": _region()}
    files = S3FileSystem(client_kwargs=options, config_kwargs=CHECKSUMS, use_listings_cache=False)
    return PyFileSystem(FSSpecHandler(files)), join(bucket, prefix).rstrip("/")


def etag_of(answer: Mapping[str, Any]) -> str:
    """The version of the object that an answer is about."""
    return str(answer["ETag"]).strip('"')  # some servers quote it in some answers only


@contextmanager
def s3_errors(uri: str) -> Iterator[None]:
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
    code = code_of(err)
    if code == "NoSuchBucket":
        return ServiceError(f"{uri}: S3 at {endpoint()} has no such bucket; create it or correct the URI")
    if status_of(err) == 404:
        return DataError(f"{uri} is not there; correct the URI or put the object there")
    if status_of(err) in (401, 403):
        return ServiceError(f"{uri}: S3 at {endpoint()} refuses these credentials ({code}); check AWS_ACCESS_KEY_ID")
    later = OutOfReachError if status_of(err) >= 500 or status_of(err) == 429 else ServiceError
    return later(f"{uri}: S3 at {endpoint()} answered {code} ({_first_line(err)}); try again")


def code_of(err: Any) -> str:
    """S3's own word for an error of boto3, such as NoSuchBucket."""
    return str(err.response.get("Error", {}).get("Code", ""))


def status_of(err: Any) -> int:
    """The HTTP status that an error of boto3 came with."""
    return int(err.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _first_line(err: Exception) -> str:
    return str(err).splitlines()[0].rstrip(".") if str(err) else type(err).__name__
