"""The optical flow of one video in one file: a pack of 8-bit images and the rule that they were quantised by.

Alignment, everywhere: N frames have N - 1 flows, and flow i maps frame i to frame i + 1. What is at (x, y) in frame i
is at (x, y) + flow in frame i + 1; x points right, y down, in pixels per extracted frame. A clip of L flows spans
L + 1 frames. Mirroring a clip mirrors its flow and negates x (`horizontal_flip`).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from kineflow.errors import DataError
from kineflow.video.dct_scale import WHOLE, fewest_eighths, scaled_px
from kineflow.video.pack import PackReader, PackWriter, writing_pack

KIND = "flow"
VERSION = 1
PNG_OPTIONS = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]


@dataclass(frozen=True)
class FlowRule:
    """How flow was computed and made 8-bit; recorded with the data and with every model that is trained on it.

    A displacement v in pixels per extracted frame becomes clip(round(v * steps / bound_px), -steps, steps) + zero:
    no displacement is exactly `zero`, and the error inside the bound is at most bound_px / steps / 2.

    Args:
        method: as `kineflow.models.flow` knows it.
        bound_px: displacements beyond it are clipped.
        zero: the 8-bit value of no displacement.
        steps: between no displacement and the bound.
        weights_sha256: of the network's weights file; None for methods without a network.
    """

    method: str
    bound_px: float
    zero: int = 128
    steps: int = 127
    weights_sha256: str | None = None

    def quantise(self, flow_HWC: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Flow (H, W, 2) as uint8 (2 H, W): x above y."""
        height, width, _ = flow_HWC.shape
        # one pass instead of five: scaled, moved to zero, rounded half to even and saturated
        image_HWC = cv2.addWeighted(flow_HWC, self.steps / self.bound_px, flow_HWC, 0, self.zero, dtype=cv2.CV_8U)
        np.maximum(image_HWC, self.zero - self.steps, out=image_HWC)  # four times as fast as np.clip
        if self.zero + self.steps < 255:
            np.minimum(image_HWC, self.zero + self.steps, out=image_HWC)
        image = np.empty((2 * height, width), np.uint8)
        cv2.split(image_HWC, [image[:height], image[height:]])
        return image

    def table(self) -> NDArray[np.float32]:
        """Displacement in pixels of each 8-bit value, float32 (256,); values beyond the bound are the bound."""
        steps = np.clip(np.arange(256) - self.zero, -self.steps, self.steps)
        return (steps * (self.bound_px / self.steps)).astype(np.float32)


def horizontal_flip(flow_THWC: NDArray[np.float32]) -> NDArray[np.float32]:
    """Flow of the mirrored frames: mirrored, with x negated. (..., H, W, 2) in and out."""
    return flow_THWC[..., ::-1, :] * np.array([-1, 1], np.float32)


def min_flow_bytes_a_pixel(jpeg_quality: int | None) -> float:
    """What no flow but one of no motion falls below, for each pixel of a frame: half of the leanest of real clips."""
    return 0.025 if jpeg_quality is None else 0.02 if jpeg_quality >= 85 else 0.005


class FlowWriter:
    """Appends flows to a store; see `writing_flow`."""

    def __init__(self, pack: PackWriter, *, rule: FlowRule, jpeg_quality: int | None) -> None:
        self._pack = pack
        self._rule = rule
        self._jpeg_quality = jpeg_quality

    def append(self, flow_HWC: NDArray[np.float32]) -> None:
        """Add the next flow, (H, W, 2) in pixels, x then y."""
        image = self._rule.quantise(flow_HWC)
        if self._jpeg_quality is None:
            self._pack.append(cv2.imencode(".png", image, PNG_OPTIONS)[1].tobytes())
            return
        jpeg = simplejpeg.encode_jpeg(
            image[:, :, None], quality=self._jpeg_quality, colorspace="GRAY", colorsubsampling="Gray"
        )
        self._pack.append(jpeg)


@contextmanager
def writing_flow(
    path: Path, *, rule: FlowRule, fps: float, height: int, width: int, jpeg_quality: int | None
) -> Iterator[FlowWriter]:
    """A store at `path` to append flows of height x width pixels to; complete when the block ends.

    Args:
        fps: of the frames: a displacement is that of 1 / fps seconds.
        jpeg_quality: 1 to 100, or None for lossless PNG.
    """
    with writing_pack(path, suffix="png" if jpeg_quality is None else "jpg") as pack:
        yield FlowWriter(pack, rule=rule, jpeg_quality=jpeg_quality)
        index = {"kind": KIND, "version": VERSION, "fps": fps, "height": height, "width": width}
        pack.finish(index | {"quality": jpeg_quality, "rule": asdict(rule)})


class FlowReader:
    """Reads the flow of one video; cheap to open and to pickle. Flow i maps frame i to frame i + 1.

    Args:
        path: of a flow store.

    Attributes:
        num_flows: one less than the video has extracted frames.
        height, width, fps: of the frames.
        rule: how displacements were made 8-bit.
        quality: of the JPEGs, or None for lossless PNG.

    Raises:
        DataError: the file is missing, cut off, or of another kind or version.
    """

    def __init__(self, path: Path) -> None:
        self._pack = PackReader(path, kind=KIND, version=VERSION)
        index = self._pack.index
        self.path = path
        self.num_flows = len(self._pack)
        self.height, self.width = int(index["height"]), int(index["width"])
        self.fps = float(index["fps"])
        self.rule = FlowRule(**index["rule"])
        self.quality: int | None = index["quality"]
        self._table = self.rule.table()

    def __len__(self) -> int:
        return self.num_flows

    def read(self, indices: Sequence[int] | NDArray[np.integer]) -> NDArray[np.float32]:
        """Flows as float32 (T, height, width, 2), x then y, in pixels per extracted frame.

        Raises:
            IndexError: there is no such flow.
            DataError: the file is cut off or damaged.
        """
        flow_THWC = np.empty((len(indices), self.height, self.width, 2), np.float32)
        for flow_HWC, item in zip(flow_THWC, indices, strict=True):
            image = self.read_image(int(item))
            for channel, rows in enumerate((image[: self.height], image[self.height :])):
                flow_HWC[:, :, channel] = self._table[rows]
        return flow_THWC

    def fewest_eighths(self, *, min_height: int, min_width: int) -> int:
        """The smallest scale at which flows can be decoded with the wanted pixels.

        Only JPEGs can be decoded smaller, and only where no block of eight rows holds both x and y.
        """
        if self.quality is None or self.height % WHOLE:
            return WHOLE
        return fewest_eighths(self.height, self.width, min_height=min_height, min_width=min_width)

    def read_codes(self, item: int, eighths: int = WHOLE) -> NDArray[np.uint8]:
        """Flow `item` as 8-bit codes (H, W, 2), x then y, at `eighths` / 8 of its size.

        A code c is a displacement of (c - rule.zero) * rule.bound_px / rule.steps pixels of the whole flow.
        """
        image = self.read_image(item, eighths)
        rows = len(image) // 2
        codes_HWC = cv2.merge([image[:rows], image[rows:]])
        lowest, highest = self.rule.zero - self.rule.steps, self.rule.zero + self.rule.steps
        codes: NDArray[np.uint8] = np.clip(codes_HWC, lowest, highest, out=codes_HWC)
        return codes

    def read_image(self, item: int, eighths: int = WHOLE) -> NDArray[np.uint8]:
        """Flow `item` as it is stored, uint8 (2 H, W): x above y; at `eighths` / 8 as `fewest_eighths` allows."""
        data = self._pack.read(item)
        height, width = 2 * scaled_px(self.height, eighths), scaled_px(self.width, eighths)
        image: NDArray[np.uint8] | None
        if self.quality is None:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
        else:
            image = simplejpeg.decode_jpeg(data, "GRAY", min_height=height, min_width=width)[:, :, 0]
        if image is None or image.shape != (height, width):
            raise DataError(f"{self.path}: flow {item} is not an image of {height}x{width}; make it again")
        return image

    def close(self) -> None:
        """Close the file; it is opened again when needed."""
        self._pack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
