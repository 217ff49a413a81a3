"""Decoded videos on local disk: an array file for each, mapped into the memory of every process that reads it.

Processes that read the same file share its pages. A file appears whole, by a rename; what it holds follows from its
key, so that several trainings may fill and read the cache at once and any of it may be deleted at any time: whoever
has mapped a file keeps what it mapped, and whoever finds none decodes the video again.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from itertools import chain
from pathlib import Path

import numpy as np

from kineflow.data.preprocessing import Images
from kineflow.data.readers import DecodedImages
from kineflow.store import ResultStore, digest

CODE_VERSION = 1
DECODERS = ("simplejpeg", "opencv-contrib-python-headless")


@dataclass(frozen=True)
class DecodedCache:
    """A bounded folder of decoded videos.

    Args:
        root: for example `home() / "decoded"`.
        max_bytes: of all files; those that were opened longest ago make room for new ones. 0 keeps none.
    """

    root: Path
    max_bytes: int

    def images(self, source: Images, *, store_key: str, stream: str) -> DecodedImages | None:
        """What `source` shows, decoded once for all; None where there is no room on the disk, or nothing to keep.

        Args:
            source: read from the first image to the last where the cache does not hold it yet.
            store_key: of the stored video: the digest of all that its content depends on.
        """
        if self.max_bytes == 0 or len(source) == 0:
            return None
        decoders = {name: version(name) for name in DECODERS}
        key = digest(store=store_key, stream=stream, eighths=source.eighths, code=CODE_VERSION, decoders=decoders)
        try:
            array_NHWC = self._mapped(key)
            if array_NHWC is None:
                self._fill(key, source)
                array_NHWC = self._mapped(key)
        except OSError:  # a full disk, or the folder was deleted meanwhile: the store has it all
            return None
        return None if array_NHWC is None else DecodedImages(array_NHWC, source.eighths)

    def _mapped(self, key: str) -> np.ndarray | None:
        path = self._files.path(key)
        try:
            mapped = np.lib.format.open_memmap(path, mode="r")
            os.utime(path)  # its turn to go is put off
        except FileNotFoundError:
            return None
        except ValueError:  # cut off by something else than us: made again
            path.unlink(missing_ok=True)
            return None
        return np.asarray(mapped)  # slices of a bare array cost less than those of a memmap

    def _fill(self, key: str, source: Images) -> None:
        first = source[0]
        num_bytes = len(source) * first.nbytes
        if not self._make_room(num_bytes):
            return
        header = {"descr": np.lib.format.dtype_to_descr(first.dtype), "fortran_order": False}
        images = chain([first], (source[index] for index in range(1, len(source))))
        with self._files.writing(key) as path, path.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header | {"shape": (len(source), *first.shape)})
            for image in images:
                file.write(
                    np.ascontiguousarray(image).data
                )  # not through a map: a full disk is then an error, not a signal

    def _make_room(self, num_bytes: int) -> bool:
        self.root.mkdir(parents=True, exist_ok=True)
        if num_bytes > self.max_bytes or num_bytes > shutil.disk_usage(self.root).free:
            return False
        files = sorted(self._sizes())
        total = sum(size for _, size, _ in files)
        for _, size, path in files:
            if total + num_bytes <= self.max_bytes:
                break
            path.unlink(missing_ok=True)
            total -= size
        return True

    def _sizes(self) -> Iterator[tuple[float, int, Path]]:
        """When each file was opened last, its bytes, and where it is."""
        for path in self.root.glob("??/*"):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            if not path.name.startswith(".partial-"):
                yield status.st_mtime, status.st_size, path

    def sweep(self) -> None:
        """Delete what killed processes left half-written."""
        self._files.sweep()

    @property
    def _files(self) -> ResultStore:
        return ResultStore(self.root)
