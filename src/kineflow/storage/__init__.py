"""Files on this machine and on S3, by one set of functions: list, fetch, write, exist.

A root is a local path or `s3://bucket/prefix`. `AWS_ENDPOINT_URL` and the credentials come from the environment.
Only this package imports boto3.
"""

from kineflow.storage.cache import fetch, local_file, sha256_of, sweep
from kineflow.storage.files import delete_file, exists, get_file, put_file
from kineflow.storage.listing import FileInfo, list_files
from kineflow.storage.patience import patience_sec, with_patience
from kineflow.storage.s3 import arrow_filesystem, endpoint, is_s3, join

__all__ = [
    "FileInfo",
    "arrow_filesystem",
    "delete_file",
    "endpoint",
    "exists",
    "fetch",
    "get_file",
    "is_s3",
    "join",
    "list_files",
    "local_file",
    "patience_sec",
    "put_file",
    "sha256_of",
    "sweep",
    "with_patience",
]
