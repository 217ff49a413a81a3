"""Many small images and their index in one file: a plain ZIP, stored, in which any item is one read away.

Common tools open it (`unzip`, a file manager). Its bytes depend on its content alone. The archive's comment says
where `index.json` lies, and that says where each item lies, so that opening it costs two reads whatever its length.
What is read is held against the checksum that a ZIP keeps of each item.
"""

import json
import os
import re
import zipfile
import zlib
from array import array
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from kineflow.errors import DataError

INDEX_NAME = "index.json"
NUM_NAME_DIGITS = 6
COMMENT = re.compile(rb"kineflow index (\d{12}) (\d{12})\Z")
COMMENT_BYTES = len(b"kineflow index ") + 25
CHECKSUM_OFFSET = 14  # in the header before each item, which begins where the item before it ends
FIXED_DATE = (1980, 1, 1, 0, 0, 0)
JSON_PART = 4096  # numbers made to text at a time


class PackWriter:
    """Appends items to a pack; see `writing_pack`."""

    def __init__(self, archive: zipfile.ZipFile, suffix: str) -> None:
        self._archive = archive
        self._suffix = suffix
        self._offsets, self._sizes = array("q"), array("q")

    def __len__(self) -> int:
        return len(self._offsets)

    def append(self, data: bytes) -> None:
        """Add the next item."""
        self._offsets.append(self._write(_item_name(len(self), self._suffix), data))
        self._sizes.append(len(data))

    def finish(self, index: Mapping[str, Any]) -> None:
        """Add the index, which is closed to changes from then on.

        Args:
            index: JSON values by name, or `array`s and NumPy arrays of numbers, which become lists of them.
        """
        data = _json(dict(index) | {"offsets": self._offsets, "sizes": self._sizes})
        offset = self._write(INDEX_NAME, data)
        self._archive.comment = b"kineflow index %012d %012d" % (offset, len(data))

    def _write(self, name: str, data: bytes) -> int:
        self._archive.writestr(_info(name), data)
        assert self._archive.fp is not None
        return self._archive.fp.tell() - len(data)


class _Members:
    """What a `ZipFile` that is written remembers of its members: 20 bytes of each, in place of a `ZipInfo` of 700."""

    def __init__(self, suffix: str) -> None:
        self._suffix = suffix
        self._checksums, self._sizes, self._offsets = array("I"), array("q"), array("q")
        self._index: zipfile.ZipInfo | None = None

    def __len__(self) -> int:
        return len(self._sizes) + (self._index is not None)

    def append(self, info: zipfile.ZipInfo) -> None:
        """Take a member that was written; the index comes last."""
        if info.filename == INDEX_NAME:
            self._index = info
            return
        self._checksums.append(info.CRC)
        self._sizes.append(info.file_size)
        self._offsets.append(info.header_offset)

    def __iter__(self) -> Iterator[zipfile.ZipInfo]:
        for number, (checksum, size, offset) in enumerate(
            zip(self._checksums, self._sizes, self._offsets, strict=True)
        ):
            info = _info(_item_name(number, self._suffix))
            info.CRC, info.file_size, info.compress_size, info.header_offset = checksum, size, size, offset
            yield info
        if self._index is not None:
            yield self._index


class _NoNames(dict[str, zipfile.ZipInfo]):
    """In place of a `ZipFile`'s members by name, which nobody asks for while it is written."""

    def __setitem__(self, name: str, info: zipfile.ZipInfo) -> None:
        """Forget it."""


def _info(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, FIXED_DATE)
    info.create_system, info.external_attr = 3, 0o644 << 16  # the same bytes on every system
    return info


def _item_name(number: int, suffix: str) -> str:
    return f"{number:0{NUM_NAME_DIGITS}d}.{suffix}"


def _json(index: Mapping[str, Any]) -> bytes:
    """Compact JSON of an index; never all numbers of a long video as objects."""
    parts = bytearray()
    for name, value in index.items():
        parts += b"," if parts else b"{"
        parts += json.dumps(name).encode() + b":"
        if isinstance(value, array | np.ndarray):
            parts += b"["
            for start in range(0, len(value), JSON_PART):
                parts += b"," if start else b""
                parts += _dumps(value[start : start + JSON_PART].tolist())[1:-1]
            parts += b"]"
        else:
            parts += _dumps(value)
    return bytes(parts + b"}")


def _dumps(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


@contextmanager
def writing_pack(path: Path, *, suffix: str) -> Iterator[PackWriter]:
    """A pack to append to; call `finish` with its index at the end.

    Args:
        suffix: of the items' names, for example `jpg`.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        archive.filelist, archive.NameToInfo = _Members(suffix), _NoNames()  # type: ignore[assignment]
        yield PackWriter(archive, suffix)


def is_pack(path: Path) -> bool:
    """Whether the file is there and its end is that of a finished pack; two reads, whatever its length."""
    try:
        with path.open("rb") as file:
            num_bytes = os.fstat(file.fileno()).st_size
            file.seek(max(0, num_bytes - COMMENT_BYTES))
            return COMMENT.search(file.read()) is not None
    except OSError:
        return False


class PackReader:
    """Reads items of a pack; cheap to open and to pickle. It opens the file again in the process that gets it.

    Args:
        path: of a pack.
        kind, version: what its index must say it is, under `kind` and `version`.

    Attributes:
        index: what `PackWriter.finish` was given.

    Raises:
        DataError: it is not there, not a pack, cut off, or of another kind or version.
    """

    def __init__(self, path: Path, *, kind: str, version: int) -> None:
        self.path = path
        self._descriptor: int | None = None
        self.index = self._read_index()
        self._offsets: NDArray[np.int64] = np.array(self.index.pop("offsets", []), np.int64)
        self._sizes: NDArray[np.int64] = np.array(self.index.pop("sizes", []), np.int64)
        found = (self.index.get("kind"), self.index.get("version"))
        if found != (kind, version):
            self.close()
            raise DataError(
                f"{path}: holds {found[0]} version {found[1]}, wanted {kind} version {version}; run the stage that "
                "makes it again"
            )

    def __len__(self) -> int:
        return len(self._offsets)

    def read(self, item: int) -> bytes:
        """The bytes of item `item`, which may not be negative.

        Raises:
            IndexError: there is no such item.
            DataError: the item is damaged, or the file shorter than its index says.
        """
        if not 0 <= item < len(self):
            raise IndexError(f"{self.path}: item {item} wanted, it has {len(self)}")
        size = int(self._sizes[item])
        header = int(self._offsets[item - 1] + self._sizes[item - 1]) if item else 0
        checksum = os.pread(self._open(), 4, header + CHECKSUM_OFFSET)
        data = os.pread(self._open(), size, int(self._offsets[item]))
        if len(data) != size:
            raise DataError(f"{self.path}: it is cut off at item {item}; {self._remedy}")
        if zlib.crc32(data) != int.from_bytes(checksum, "little"):
            raise DataError(f"{self.path}: item {item} is damaged; {self._remedy}")
        return data

    def close(self) -> None:
        """Close the file; it is opened again when needed."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_descriptor", None) is not None:
            self.close()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_descriptor": None}

    @property
    def _remedy(self) -> str:
        return (
            f"delete it with its links (find . -samefile '{self.path}' -delete) and run the stage that makes it again"
        )

    def _open(self) -> int:
        if self._descriptor is None:
            try:
                self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError as err:
                raise DataError(f"{self.path} is not there; run the stage that makes it") from err
        return self._descriptor

    def _read_index(self) -> dict[str, Any]:
        descriptor = self._open()
        num_bytes = os.fstat(descriptor).st_size
        match = COMMENT.search(os.pread(descriptor, COMMENT_BYTES, max(0, num_bytes - COMMENT_BYTES)))
        if match is None:
            self.close()
            raise DataError(f"{self.path}: not a pack of Kineflow, or cut off; make it again")
        offset, size = (int(group) for group in match.groups())
        try:
            index: dict[str, Any] = json.loads(os.pread(descriptor, size, offset))
        except ValueError as err:
            self.close()
            raise DataError(f"{self.path}: its index is damaged; {self._remedy}") from err
        return index
