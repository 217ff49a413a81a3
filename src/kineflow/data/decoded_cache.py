"""Decoded videos on local disk: an array file for each, mapped into the memory of every process that reads it.

Processes that read the same file share its pages. A file appears whole, by a rename; what it holds follows from its
name, so that several trainings may fill and read the cache at once and any of it may be deleted at any time: whoever
has mapped a file keeps what it mapped, and whoever finds none decodes the video again.
"""

import os
import shutil
from functools import cache
from importlib.metadata import version
from itertools import chain
from pathlib import Path

import numpy as np

from kineflow import atomic
from kineflow.data.preprocessing import Images
from kineflow.data.readers import DecodedImages
from kineflow.store import digest

CODE_VERSION = 1
DECODERS = ("simplejpeg", "opencv-contrib-python-headless")
HEADER_BYTES = 128  # of an array file
SPARE = 1 / 16  # of the cache, freed at once where it is full
UNWATCHED = 1 / 8  # of what is free may be written before all files are looked at again: others write too


class DecodedCache:
    """A bounded folder of decoded videos; cheap to pickle.

    Args:
        root: for example `home() / "decoded"`.
        max_bytes: of all files; those that were opened longest ago make room for new ones. 0 keeps none.
    """

    def __init__(self, root: Path, max_bytes: int) -> None:
        self.root = root
        self.max_bytes = max_bytes
        self._unwatched_bytes = 0.0

    def images(self, source: Images, *, store_key: str, stream: str) -> DecodedImages | None:
        """What `source` shows, decoded once for all; None where there is no room for it.

        Args:
            source: read from the first image to the last where the cache does not hold it yet.
            store_key: of the stored video: the digest of all that its content depends on.
        """
        if self.max_bytes == 0 or len(source) == 0:
            return None
        made_by = {"code": CODE_VERSION, "decoders": _decoder_versions()}
        key = digest(store=store_key, stream=stream, eighths=source.eighths, **made_by)
        path = self.root / f"{key}.npy"
        try:
            array_NHWC = _mapped(path)
            if array_NHWC is None:
                self._fill(path, source)
                array_NHWC = _mapped(path)
        except OSError:  # a full disk, or the folder was deleted meanwhile: the store has it all
            return None
        return None if array_NHWC is None else DecodedImages(array_NHWC, source.eighths, path)

    def file_bytes(self, source: Images) -> int:
        """What the file of `source` takes; one image is decoded for it."""
        return len(source) * source[0].nbytes + HEADER_BYTES if len(source) else 0

    @property
    def plannable_bytes(self) -> float:
        """Of files that can all be there at once, with nothing freed for one of them."""
        return self.max_bytes * (1 - SPARE)

    def sweep(self, *, older_than_sec: float = 600.0) -> None:
        """Delete what killed processes left half-written, unless it was written to lately by one that may be alive."""
        atomic.sweep(self.root, older_than_sec=older_than_sec)

    def _fill(self, path: Path, source: Images) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        first = source[0]
        if not self._make_room(len(source) * first.nbytes):
            return
        header = {"descr": np.lib.format.dtype_to_descr(first.dtype), "fortran_order": False}
        images = chain([first], (source[index] for index in range(1, len(source))))
        with atomic.replacing(path) as partial, partial.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header | {"shape": (len(source), *first.shape)})
            for image in images:  # not through a map: a full disk is then an error, not a signal
                file.write(np.ascontiguousarray(image).data)

    def _make_room(self, num_bytes: int) -> bool:
        if num_bytes > self.plannable_bytes or num_bytes > shutil.disk_usage(self.root).free:
            return False
        if num_bytes > self._unwatched_bytes:
            files = sorted(self._files())
            total = sum(size for _, size, _ in files)
            room = self.max_bytes - num_bytes
            if total > room:
                for _, size, path in files:
                    if total <= room - SPARE * self.max_bytes:
                        break
                    Path(path).unlink(missing_ok=True)
                    total -= size
            self._unwatched_bytes = UNWATCHED * (room - total)
        else:
            self._unwatched_bytes -= num_bytes
        return True

    def _files(self) -> list[tuple[float, int, str]]:
        """When each file was opened last, its bytes, and where it is."""
        found = []
        with os.scandir(self.root) as entries:
            for entry in entries:
                try:
                    status = entry.stat()
                except FileNotFoundError:
                    continue
                if not entry.name.startswith(atomic.PREFIX):
                    found.append((status.st_mtime, status.st_size, entry.path))
        return found


def map_again(file: Path, eighths: int) -> DecodedImages | None:
    """The images of a cached file that was let go; None where it made room for another."""
    try:
        array_NHWC = _mapped(file)
    except OSError:
        return None
    return None if array_NHWC is None else DecodedImages(array_NHWC, eighths, file)


@cache
def _decoder_versions() -> dict[str, str]:
    return {name: version(name) for name in DECODERS}


def _mapped(path: Path) -> np.ndarray | None:
    try:
        mapped = np.lib.format.open_memmap(path, mode="r")
        os.utime(path)  # its turn to go is put off
    except FileNotFoundError:
        return None
    except ValueError:  # cut off by something else than us: made again
        path.unlink(missing_ok=True)
        return None
    return np.asarray(mapped)  # slices of a bare array cost less than those of a map
