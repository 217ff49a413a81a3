"""What can go wrong, and the exit code it ends with.

    KineflowError                1   a bug, or anything without a better name
    ├── ParamsError              2   wrong params or usage
    ├── DataError                3   the data are not fit to go on
    │   ├── AnnotationError      3   an annotation file cannot be read or does not fit its videos
    │   ├── DecodeError          3   a video cannot be decoded
    │   └── GateError            3   a validation gate found a violation
    └── ServiceError             4   storage or a service is out of reach
        ├── OutOfReachError      4   it does not answer now, which may pass
        └── StorageFullError     4   the disk has no room left

Ctrl-C ends a command with 130. Every message is one sentence: what is wrong, where (file, row, key), what to do.
"""

from typing import ClassVar

INTERRUPTED = 130  # the exit code, as shells have it


class KineflowError(Exception):
    """Root of all errors raised on purpose."""

    exit_code: ClassVar[int] = 1


class ParamsError(KineflowError):
    """A value that the user gave is unknown, of the wrong type or impossible."""

    exit_code = 2


class DataError(KineflowError):
    """The data are not fit to go on."""

    exit_code = 3


class AnnotationError(DataError):
    """An annotation file cannot be read, or does not fit its videos."""


class DecodeError(DataError):
    """A video cannot be decoded; `str(error)` is the reason it is quarantined with."""


class GateError(DataError):
    """A validation gate found a violation of severity `stop`."""


class ServiceError(KineflowError):
    """Storage or a service is out of reach."""

    exit_code = 4


class OutOfReachError(ServiceError):
    """Storage or a service does not answer, or not now: waiting may help."""


class StorageFullError(ServiceError):
    """The disk has no room left."""
