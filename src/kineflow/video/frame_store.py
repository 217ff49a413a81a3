"""The extracted frames of one video in one file: a pack of JPEGs, each with its source frame and time."""

from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from kineflow.video.dct_scale import WHOLE, scaled_px
from kineflow.video.pack import PackReader, PackWriter, writing_pack

KIND = "frames"
VERSION = 3  # 1 did not say where a moving crop was, 2 not how the video was scaled


@dataclass(frozen=True)
class Scaling:
    """By how much whole frames of a video were scaled, before anything was cut out: sides in pixels.

    Args:
        shown_height, shown_width: of the video, after its rotation.
        scaled_height, scaled_width: of its frames at the scale of the store.
    """

    shown_height: int
    shown_width: int
    scaled_height: int
    scaled_width: int


class FrameWriter:
    """Appends frames to a store; see `writing_frames`."""

    def __init__(self, pack: PackWriter) -> None:
        self._pack = pack
        self._source_frames, self._timestamps_sec = array("q"), array("d")
        self._corners = array("i")  # x then y of each
        self._moves = False

    def __len__(self) -> int:
        return len(self._pack)

    def append(
        self, jpeg: bytes, *, source_frame: int, timestamp_sec: float, corner_xy: tuple[int, int] = (0, 0)
    ) -> None:
        """Add the next extracted frame: frame `source_frame` of the video, shown at `timestamp_sec` there.

        Args:
            corner_xy: upper left corner of what is kept, in pixels of the whole frame at the scale of the store.
        """
        self._pack.append(jpeg)
        self._source_frames.append(source_frame)
        self._timestamps_sec.append(timestamp_sec)
        self._corners.extend(corner_xy)
        self._moves |= self._corners[:2] != self._corners[-2:]

    def index(self) -> dict[str, Any]:
        """What is known of each frame; one corner where all are the same."""
        corners_T2 = np.asarray(self._corners, np.int32).reshape(-1, 2)
        return {
            "timestamps_sec": self._timestamps_sec,
            "source_frames": self._source_frames,
            "corners_xy": corners_T2 if self._moves else corners_T2[:1],
        }


@contextmanager
def writing_frames(
    path: Path, *, fps: float, height: int, width: int, quality: int, scaling: Scaling | None = None
) -> Iterator[FrameWriter]:
    """A store at `path` to append frames to, all JPEGs of height x width pixels; complete when the block ends.

    Args:
        scaling: None where the frames are the video's own pixels.
    """
    with writing_pack(path, suffix="jpg") as pack:
        writer = FrameWriter(pack)
        yield writer
        index = {"kind": KIND, "version": VERSION, "fps": fps, "height": height, "width": width, "quality": quality}
        scaled = {"scaling": asdict(scaling or Scaling(height, width, height, width))}
        pack.finish(index | writer.index() | scaled)


class FrameReader:
    """Reads the extracted frames of one video; cheap to open and to pickle.

    Args:
        path: of a frame store.

    Attributes:
        num_frames, height, width: of the frames as extracted.
        fps: extracted frames per second.
        quality: of the JPEGs.
        timestamps_sec: float64 (num_frames,), when the source frame is shown, after the first one.
        source_frames: int64 (num_frames,), which frame of the video each is.
        scaling: of whole frames.
        corners_T2: int64 (num_frames, 2), x then y: upper left corner of each frame in the scaled whole one.
        crop_steps_T2: int64 (num_frames - 1, 2), x then y: how far the crop moved from each frame to the next.

    Raises:
        DataError: the file is missing, cut off, or of another kind or version.
    """

    def __init__(self, path: Path) -> None:
        self._pack = PackReader(path, kind=KIND, version=VERSION)
        index = self._pack.index
        self.path = path
        self.num_frames = len(self._pack)
        self.height, self.width = int(index["height"]), int(index["width"])
        self.fps, self.quality = float(index["fps"]), int(index["quality"])
        self.timestamps_sec: NDArray[np.float64] = np.array(index.pop("timestamps_sec"), np.float64)
        self.source_frames: NDArray[np.int64] = np.array(index.pop("source_frames"), np.int64)
        self.scaling = Scaling(**index["scaling"])
        corners = np.array(index.pop("corners_xy"), np.int64).reshape(-1, 2)
        steps = np.diff(corners, axis=0) if len(corners) > 1 else np.zeros((1, 2), np.int64)
        self.corners_T2: NDArray[np.int64] = np.broadcast_to(corners, (self.num_frames, 2))
        self.crop_steps_T2: NDArray[np.int64] = np.broadcast_to(steps, (max(0, self.num_frames - 1), 2))

    def __len__(self) -> int:
        return self.num_frames

    def place(self, xy_px: NDArray[np.floating], item: int) -> NDArray[np.float64]:
        """Points of the video in frame `item`: (..., 2), x then y, in pixels of the video as shown, to those of here.

        Whole numbers are the centres of pixels, in both; a point outside of the frame stays outside.
        """
        scaling = self.scaling
        scale = np.array([scaling.scaled_width / scaling.shown_width, scaling.scaled_height / scaling.shown_height])
        return (xy_px + 0.5) * scale - 0.5 - self.corners_T2[item]

    @property
    def num_pixels(self) -> int:
        """Of one frame."""
        return self.height * self.width

    def read(self, indices: Sequence[int] | NDArray[np.integer]) -> NDArray[np.uint8]:
        """Frames as uint8 (T, height, width, 3), RGB, in the order of `indices`; these may repeat.

        Raises:
            IndexError: there is no such frame.
            DataError: the file is cut off or damaged.
        """
        frames_THWC = np.empty((len(indices), self.height, self.width, 3), np.uint8)
        for frame_HWC, item in zip(frames_THWC, indices, strict=True):
            simplejpeg.decode_jpeg(self._pack.read(int(item)), "RGB", buffer=frame_HWC)
        return frames_THWC

    def read_scaled(self, item: int, eighths: int = WHOLE) -> NDArray[np.uint8]:
        """Frame `item` decoded at `eighths` / 8 of its size (`scaled_px`), uint8 (height, width, 3), RGB."""
        height, width = scaled_px(self.height, eighths), scaled_px(self.width, eighths)
        frame_HWC: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            self._pack.read(item), "RGB", min_height=height, min_width=width
        )
        return frame_HWC

    def read_gray(self, item: int) -> NDArray[np.uint8]:
        """The luma of frame `item`, uint8 (height, width)."""
        gray_HWC: NDArray[np.uint8] = simplejpeg.decode_jpeg(self._pack.read(item), "GRAY")
        return gray_HWC[:, :, 0]

    def close(self) -> None:
        """Close the file; it is opened again when needed."""
        self._pack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
