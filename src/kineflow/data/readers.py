"""Where a stream's videos are, and how one is opened."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from kineflow.data.preprocessing import Reader, Stream
from kineflow.errors import DataError
from kineflow.video.result_index import read_index


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

    def open(self, video_id: str) -> Reader:
        """The reader of one video.

        Raises:
            DataError: the store has no such video.
        """
        if video_id not in self.keys:
            raise DataError(f"{self.root}: has no video {video_id}; run the stage that makes it")
        return open_reader(self.stream, self.root, video_id)


def open_reader(stream: Stream, root: Path, video_id: str) -> Reader:
    """Open the file of one video in a store."""
    if stream == "embedding":
        return EmbeddingReader(np.load(root / f"{video_id}.npy", mmap_mode="r"))
    path = root / f"{video_id}.zip"
    if stream == "flow":
        from kineflow.video.flow_store import FlowReader

        return FlowReader(path)
    if stream == "pose":
        from kineflow.video.pose_store import PoseReader

        return PoseReader(path)
    from kineflow.video.frame_store import FrameReader

    return FrameReader(path)


@dataclass(frozen=True)
class EmbeddingReader:
    """Features of every frame as 1 x 1 images of D channels, so that they read like any stream."""

    features_ND: np.ndarray

    def __len__(self) -> int:
        return len(self.features_ND)

    def read(self, indices: np.ndarray) -> np.ndarray:
        """(T, 1, 1, D) at `indices`."""
        return np.asarray(self.features_ND[indices])[:, None, None, :]
