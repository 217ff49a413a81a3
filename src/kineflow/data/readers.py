"""Where a stream's videos are, and how the images of one are read at the size that a tensor needs."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from kineflow.data.preprocessing import Images, Preprocessing, Stream
from kineflow.errors import DataError
from kineflow.video.dct_scale import WHOLE, fewest_eighths
from kineflow.video.feature_store import FeatureReader
from kineflow.video.flow_store import FlowReader
from kineflow.video.frame_store import FrameReader
from kineflow.video.pose_store import PoseReader
from kineflow.video.result_index import read_index

StoreReader = FrameReader | FlowReader | PoseReader

MAX_REMEMBERED_BYTES = 256 * 1024**2


@dataclass(frozen=True)
class StoredImages:
    """Images that are decoded one by one, each time they are asked for."""

    num_images: int
    eighths: int
    read: Callable[[int, int], np.ndarray]  # image, eighths -> (H, W, C)

    def __len__(self) -> int:
        return self.num_images

    def __getitem__(self, index: int) -> np.ndarray:
        return self.read(index, self.eighths)


@dataclass(frozen=True)
class DecodedImages:
    """Images that are there already, in memory or in a mapped file of the decoded cache."""

    array_NHWC: np.ndarray
    eighths: int = WHOLE
    file: Path | None = None

    def __len__(self) -> int:
        return len(self.array_NHWC)

    def __getitem__(self, index: int) -> np.ndarray:
        image_HWC: np.ndarray = self.array_NHWC[index]
        return image_HWC


class RememberedImages:
    """Images that are each read once, for several views of one clip; the first `MAX_REMEMBERED_BYTES` of them."""

    def __init__(self, images: Images) -> None:
        self._images = images
        self._read: dict[int, np.ndarray] = {}
        self._num_bytes = 0

    @property
    def eighths(self) -> int:
        return self._images.eighths

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> np.ndarray:
        image_HWC = self._read.get(index)
        if image_HWC is None:
            image_HWC = self._images[index]
            if self._num_bytes + image_HWC.nbytes <= MAX_REMEMBERED_BYTES:
                self._read[index] = image_HWC
                self._num_bytes += image_HWC.nbytes
        return image_HWC


@dataclass(frozen=True)
class StreamStore:
    """The store of one stream: a file for each video, with an `index.tsv` of what each file is.

    Args:
        root: data/frames, data/flow, data/pose or data/embeddings.
        keys: by video, the digest that its file was computed under.
        num_frames: by video, how many images, flows, pictures or features its file holds.
    """

    stream: Stream
    root: Path
    keys: dict[str, str]
    num_frames: dict[str, int]

    @classmethod
    def of(cls, stream: Stream, root: Path) -> Self:
        """Read the index of the store at `root`.

        Raises:
            DataError: there is no index, or it is of another version.
        """
        rows = read_index(root)
        keys = {row.video_id: row.key for row in rows}
        return cls(stream, root.resolve(), keys, {row.video_id: row.num_frames for row in rows})

    @property
    def num_features(self) -> int:
        """Channels of stored features."""
        return self._features(next(iter(self.keys))).num_features

    def open(self, video_id: str, preprocessing: Preprocessing) -> Images:
        """The images of one video, as large as `preprocessing` needs them.

        Raises:
            DataError: the store has no such video.
        """
        if video_id not in self.keys:
            raise DataError(f"{self.root}: has no video {video_id}; run the stage that makes it")
        if self.stream == "embedding":
            return stored_features(self._features(video_id))
        path = self.root / f"{video_id}.zip"
        readers: dict[Stream, type[StoreReader]] = {"rgb": FrameReader, "flow": FlowReader, "pose": PoseReader}
        return stored_images(readers[self.stream](path), preprocessing)

    def _features(self, video_id: str) -> FeatureReader:
        return FeatureReader(self.root / f"{video_id}.npy")


def stored_images(reader: StoreReader, preprocessing: Preprocessing) -> StoredImages:
    """The images of `reader`, at the smallest scale that has the pixels that `preprocessing` needs."""
    min_height, min_width = preprocessing.decode_height_px, preprocessing.decode_width_px
    if isinstance(reader, FlowReader):
        eighths = reader.fewest_eighths(min_height=min_height, min_width=min_width)
        return StoredImages(len(reader), eighths, reader.read_codes)
    if isinstance(reader, PoseReader):  # PNGs are decoded whole
        return StoredImages(len(reader), WHOLE, lambda item, _: reader.read([item])[0])
    eighths = fewest_eighths(reader.height, reader.width, min_height=min_height, min_width=min_width)
    return StoredImages(len(reader), eighths, reader.read_scaled)


def stored_features(reader: FeatureReader) -> StoredImages:
    """The features of each frame as an image of one pixel."""
    return StoredImages(len(reader), WHOLE, lambda item, _: reader.read([item])[None])
