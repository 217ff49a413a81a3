"""The skeleton pictures of one video in one file: a pack of PNGs, one for each extracted frame.

They are kept without loss: PNG is about as small here as JPEG of quality 95, which runs the hues into each other.
"""

from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from kineflow.errors import DataError
from kineflow.video.pack import PackReader, PackWriter, writing_pack

KIND = "pose"
VERSION = 1
MIN_PICTURE_BYTES = 67  # no PNG is smaller
PNG_OPTIONS = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]


@dataclass(frozen=True)
class PoseRule:
    """How keypoints were found and drawn; recorded with the data and with every model that is trained on it.

    Args:
        source: files, or keypointrcnn.
        limbs: pairs of body parts that are joined; None for those of the file or of its layout.
        min_likelihood: a joint below it is not drawn, nor are its limbs.
        line_width: of a limb, as a fraction of the picture's shorter side.
        weights_sha256: of the network's weights file; None for files.
    """

    source: str
    limbs: Sequence[Sequence[str]] | None
    min_likelihood: float
    line_width: float
    weights_sha256: str | None = None


class PoseWriter:
    """Appends pictures to a store; see `writing_pose`."""

    def __init__(self, pack: PackWriter) -> None:
        self._pack = pack
        self.num_joints = array("q")

    def append(self, picture_HWC: NDArray[np.uint8], *, num_joints: int) -> None:
        """Add the next picture, RGB, and how many joints are drawn in it."""
        picture_BGR = cv2.cvtColor(picture_HWC, cv2.COLOR_RGB2BGR)
        self._pack.append(cv2.imencode(".png", picture_BGR, PNG_OPTIONS)[1].tobytes())
        self.num_joints.append(num_joints)


@contextmanager
def writing_pose(path: Path, *, rule: PoseRule, fps: float, height: int, width: int) -> Iterator[PoseWriter]:
    """A store at `path` to append pictures of height x width pixels to; complete when the block ends.

    Args:
        fps: of the frames.
    """
    with writing_pack(path, suffix="png") as pack:
        writer = PoseWriter(pack)
        yield writer
        index = {"kind": KIND, "version": VERSION, "fps": fps, "height": height, "width": width}
        pack.finish(index | {"num_joints": writer.num_joints, "rule": asdict(rule)})


class PoseReader:
    """Reads the skeleton pictures of one video; cheap to open and to pickle. Picture i is of extracted frame i.

    Args:
        path: of a pose store.

    Attributes:
        num_frames, height, width, fps: of the frames.
        num_joints: int64 (num_frames,), drawn in each picture.
        rule: how keypoints were found and drawn.

    Raises:
        DataError: the file is missing, cut off, or of another kind or version.
    """

    def __init__(self, path: Path) -> None:
        self._pack = PackReader(path, kind=KIND, version=VERSION)
        index = self._pack.index
        self.path = path
        self.num_frames = len(self._pack)
        self.height, self.width = int(index["height"]), int(index["width"])
        self.fps = float(index["fps"])
        self.num_joints: NDArray[np.int64] = np.array(index.pop("num_joints"), np.int64)
        self.rule = PoseRule(**index["rule"])

    def __len__(self) -> int:
        return self.num_frames

    def read(self, indices: Sequence[int] | NDArray[np.integer]) -> NDArray[np.uint8]:
        """Pictures as uint8 (T, height, width, 3), RGB, in the order of `indices`; these may repeat.

        Raises:
            IndexError: there is no such frame.
            DataError: the file is cut off or damaged.
        """
        pictures_THWC = np.empty((len(indices), self.height, self.width, 3), np.uint8)
        for picture_HWC, item in zip(pictures_THWC, indices, strict=True):
            data = np.frombuffer(self._pack.read(int(item)), np.uint8)
            found = cv2.imdecode(data, cv2.IMREAD_COLOR)
            if found is None or found.shape != picture_HWC.shape:
                size = f"{self.height}x{self.width}"
                raise DataError(f"{self.path}: picture {item} is not an image of {size}; make it again")
            cv2.cvtColor(found, cv2.COLOR_BGR2RGB, dst=picture_HWC)
        return pictures_THWC

    def close(self) -> None:
        """Close the file; it is opened again when needed."""
        self._pack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
