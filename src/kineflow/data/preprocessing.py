"""What turns a stored video into the tensor that a model sees: one value, saved with every model.

Training, evaluation and prediction all call `clip_pixels` with the same `Preprocessing`; only the `View` differs:
a test-time view is fixed, a training view is drawn at random. A view is drawn once and can be applied to several
streams of the same clip, so that a teacher and its student look at the same place at the same time.

Which pixels a view shows is settled here, in integers; what they are worth is a linear rule that goes with them and
is applied to whole batches on the device (`kineflow.training.inputs`).
"""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, Protocol, Self

import cv2
import numpy as np

from kineflow.errors import DataError
from kineflow.schema import FileSchema
from kineflow.video.dct_scale import WHOLE
from kineflow.video.flow_store import FlowRule

Stream = Literal["rgb", "flow", "pose", "embedding"]
SCHEMA = FileSchema(  # 3 decoded images whole and did not say how large; 4 looped every short clip
    "preprocessing", version=5, oldest=4, remedy="train it again, or load it with the Kineflow that made it"
)
RGB_MEAN, RGB_STD = 0.45, 0.225  # of 0..1 values, for every channel
FLOW_CLAMP = 6.0  # in units of flow_scale_px
CODE_PARTS = 256  # flow pixels are counted in this part of a step of the stored 8-bit codes
TEST_WINDOW = 0.85  # of a clip, where it is looked at in several views


class Images(Protocol):
    """The images of one video by index, each (H, W, C): uint8 frames or codes of flow, float32 features.

    Attributes:
        eighths: their size, in eighths of the size that they are stored at.
    """

    @property
    def eighths(self) -> int: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> np.ndarray: ...


@dataclass(frozen=True)
class Preprocessing:
    """From a stored video to a tensor.

    Args:
        task: clip (labels of the tensor as a whole) or frame (of every frame of it).
        stream: rgb, flow, pose or embedding.
        fps: of the extracted frames.
        frames: the params section that the frames were extracted with.
        flow: for stream flow, the `rule` that it was computed and stored by (its zero, steps and bound among it),
            `jpeg_quality` and `weights`.
        sampling: segments (over the whole clip: the mean flow, or one frame, of each) or dense.
        num_frames: length of the tensor on task clip; of a full window on task frame, whose every frame is taken.
        frame_stride: between sampled frames, dense sampling only.
        height_px: of the tensor.
        width_px: of the tensor.
        decode_height_px, decode_width_px: what images are decoded to at least, see `decode_px`.
        subtract_background: rgb: take the mean image over the tensor's time away, so that what does not move vanishes.
        flow_scale_px: divides flow, in pixels of the tensor; the standard deviation over the training clips.
        num_views: test-time views whose probabilities are averaged.
        pose: for stream pose, the `rule` that skeletons were found and drawn by, the `path` of the files of keypoints
            and the `weights`.
        short_clips: what a clip with fewer frames than dense sampling wants becomes: its frames again from the first
            (`loop`), or a shorter tensor, whose length the model is told (`pad`; task frame is told of every window).
    """

    task: Literal["clip", "frame"]
    stream: Stream
    fps: float
    frames: dict[str, Any]
    flow: dict[str, Any] | None
    sampling: Literal["segments", "dense"]
    num_frames: int
    frame_stride: int
    height_px: int
    width_px: int
    decode_height_px: int
    decode_width_px: int
    subtract_background: bool
    flow_scale_px: float
    num_views: int
    pose: dict[str, Any] | None = None
    short_clips: Literal["loop", "pad"] = "loop"
    schema_version: int = SCHEMA.version

    @property
    def num_channels(self) -> int:
        """Channels of the tensor (for embeddings, those of the stored features decide)."""
        return {"rgb": 3, "flow": 2, "pose": 3, "embedding": 0}[self.stream]

    @property
    def value_range(self) -> tuple[float, float]:
        """Least and largest value of the tensor, before any background is subtracted."""
        if self.stream == "flow":
            return -FLOW_CLAMP, FLOW_CLAMP
        if self.stream == "pose":
            return 0.0, 1.0 / RGB_STD
        return -RGB_MEAN / RGB_STD, (1.0 - RGB_MEAN) / RGB_STD

    def num_images(self, num_frames: int) -> int:
        """How many stored images one view of a clip of `num_frames` reads."""
        takes_all = self.task == "frame" or (self.stream == "flow" and self.sampling == "segments")
        return num_frames if takes_all else self.num_shown(num_frames)

    def num_shown(self, num_frames: int) -> int:
        """How many frames the tensor of a clip of `num_frames` has on task clip."""
        if self.short_clips == "loop":
            return self.num_frames
        return min(self.num_frames, math.ceil(num_frames / self.frame_stride))

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any], *, where: object) -> Self:
        """The inverse of `to_json`; `where` it was read, for messages.

        Raises:
            DataError: written by a version that this one cannot read.
        """
        SCHEMA.check(where, values.get("schema_version"))
        return cls(**values | {"schema_version": SCHEMA.version})  # version 4 does as the defaults do


@dataclass(frozen=True)
class Augment:
    """Ranges of the random changes of a training view; see `AugmentParams`."""

    flip: bool
    crop_scale_min: float
    brightness: float
    amplitude: float
    time_jitter: float


@dataclass(frozen=True)
class View:
    """How one clip is looked at once: fractions of its time and of its image.

    Args:
        start: first instant, as a fraction of the clip.
        length: of the window, as a fraction of the clip.
        jitter_seed: seeds the shift of segment borders; None leaves them where they are.
        jitter: largest shift, as a fraction of a segment.
        crop: top, left, height, width as fractions of the image.
        flip: mirror left and right (x of the flow changes its sign).
        gain: of rgb values around the middle. offset: added to them (0..1 scale).
        amplitude: multiplies flow.
    """

    start: float = 0.0
    length: float = 1.0
    jitter_seed: int | None = None
    jitter: float = 0.0
    crop: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    flip: bool = False
    gain: float = 1.0
    offset: float = 0.0
    amplitude: float = 1.0


def test_view(view: int, num_views: int) -> View:
    """View `view` of the `num_views` that a clip is judged by: one sees all of it, several see windows of it."""
    if num_views == 1:
        return View()
    return View(start=(1 - TEST_WINDOW) * view / (num_views - 1), length=TEST_WINDOW)


def draw_view(rng: np.random.Generator, augment: Augment) -> View:
    """A random training view."""
    length = 1.0 - augment.time_jitter * rng.random()
    start = (1.0 - length) * rng.random()
    scale = augment.crop_scale_min + (1.0 - augment.crop_scale_min) * rng.random()
    aspect = float(np.exp(rng.uniform(-0.2, 0.2))) if augment.crop_scale_min < 1 else 1.0
    height, width = min(1.0, scale * aspect), min(1.0, scale / aspect)
    top, left = (1.0 - height) * rng.random(), (1.0 - width) * rng.random()
    return View(
        start=start,
        length=length,
        jitter_seed=int(rng.integers(2**31)),
        jitter=augment.time_jitter,
        crop=(top, left, height, width),
        flip=augment.flip and bool(rng.random() < 0.5),
        gain=1.0 + augment.brightness * rng.uniform(-1, 1),
        offset=augment.brightness * rng.uniform(-1, 1),
        amplitude=float(np.exp(augment.amplitude * rng.uniform(-1, 1))),
    )


def decode_px(size_px: int, *, crop_scale_min: float) -> int:
    """Pixels that images must keep in one direction, for a tensor of `size_px` there.

    The smallest square crop then still has the tensor's pixels (a random aspect may take up to a fifth of one side
    more), and no larger image is decoded, cached or resized than that takes.
    """
    return math.ceil(round(size_px / crop_scale_min, 6))


class ClipPixels(NamedTuple):
    """What a view shows of a clip, and the linear rule that makes it the tensor.

    Args:
        pixels_THWC: rgb, pose: uint8. flow: int16, zero where nothing moves. embedding: float32, the tensor as it is.
        scale_C, shift_C: float32; the tensor is pixels * scale + shift, kept inside `Preprocessing.value_range`.
    """

    pixels_THWC: np.ndarray
    scale_C: np.ndarray
    shift_C: np.ndarray


def clip_pixels(images: Images, start: int, stop: int, preprocessing: Preprocessing, view: View) -> ClipPixels:
    """The clip [start, stop) (extracted frames) as `view` sees it.

    Returns:
        T is `num_frames` on task clip (or less, see `short_clips`), the number of the window's frames on task frame.

    Raises:
        DataError: the clip holds no frame of the video.
    """
    if not 0 <= start < stop:
        raise DataError(f"the clip [{start}, {stop}) is empty")
    if preprocessing.stream == "embedding":
        features_THWC = np.stack([images[index] for index in _every_frame(len(images), start, stop)])
        num_features = features_THWC.shape[-1]
        return ClipPixels(
            features_THWC.astype(np.float32), np.ones(num_features, np.float32), np.zeros(num_features, np.float32)
        )
    if preprocessing.task == "frame":
        indices = _every_frame(len(images), start, stop)
    elif preprocessing.sampling == "dense":
        num_shown = preprocessing.num_shown(min(stop, len(images)) - start)
        indices = _dense(len(images), start, stop, preprocessing, view)[: max(1, num_shown)]
    elif preprocessing.stream == "flow":
        return _flow_pixels(images, _segments(len(images), start, stop, preprocessing, view), preprocessing, view)
    else:
        indices = _segment_middles(len(images), start, stop, preprocessing, view)
    if preprocessing.stream == "flow":
        return _flow_pixels(images, [range(index, index + 1) for index in indices], preprocessing, view)
    return _image_pixels(images, indices, preprocessing, view)


def segment_borders(start: float, stop: float, num_segments: int, view: View) -> np.ndarray:
    """Borders (num_segments + 1, rising) of equal segments of the view's window in [start, stop).

    Inner and outer borders are shifted at random by up to `view.jitter` of a segment, and stay inside the clip.
    """
    length = (stop - start) * view.length
    first = start + (stop - start) * view.start
    borders = first + np.linspace(0.0, length, num_segments + 1)
    if view.jitter_seed is not None and view.jitter > 0:
        shift = np.random.default_rng(view.jitter_seed).uniform(-0.5, 0.5, len(borders)) * view.jitter
        borders = borders + shift * (length / num_segments)
    return np.clip(borders, start, stop)


def _every_frame(available: int, start: int, stop: int) -> list[int]:
    # the last frame of a video has no flow of its own: it takes the one before
    return [min(index, available - 1) for index in range(start, stop)]


def _dense(available: int, start: int, stop: int, preprocessing: Preprocessing, view: View) -> list[int]:
    stop = min(stop, available)
    span = preprocessing.num_frames * preprocessing.frame_stride
    free = max(0, (stop - start) - span)
    centred = view.jitter_seed is None and view.length == 1.0
    position = 0.5 if centred else view.start / (1.0 - view.length) if view.length < 1.0 else 0.0
    first, length = round(free * position), max(1, stop - start)
    steps = range(preprocessing.num_frames)
    return [start + (first + step * preprocessing.frame_stride) % length for step in steps]  # a short clip is looped


def _segment_middles(available: int, start: int, stop: int, preprocessing: Preprocessing, view: View) -> list[int]:
    start, stop = _inside(available, start, stop)
    borders = segment_borders(start, stop, preprocessing.num_frames, view)
    middles = np.floor((borders[:-1] + borders[1:]) / 2).astype(np.int64)
    indices: list[int] = np.clip(middles, start, stop - 1).tolist()
    return indices


def _segments(available: int, start: int, stop: int, preprocessing: Preprocessing, view: View) -> list[range]:
    start, stop = _inside(available, start, stop)
    borders = segment_borders(start, stop, preprocessing.num_frames, view)
    firsts = np.clip(np.floor(borders[:-1] + 0.5).astype(np.int64), start, stop - 1)
    lasts = np.clip(np.floor(borders[1:] + 0.5).astype(np.int64), firsts + 1, stop)
    return [range(first, last) for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True)]


def _inside(available: int, start: int, stop: int) -> tuple[int, int]:
    return min(start, available - 1), max(start + 1, min(stop, available))


def _image_pixels(images: Images, indices: Iterable[int], preprocessing: Preprocessing, view: View) -> ClipPixels:
    shown = [images[index] for index in indices]
    crop = _crop(shown[0].shape, view)
    height, width = preprocessing.height_px, preprocessing.width_px
    pixels_THWC = np.empty((len(shown), height, width, shown[0].shape[2]), np.uint8)
    # the decoder of frames has smoothed already, so that only a large reduction needs the mean over areas
    sharp_up_to = 1 if preprocessing.stream == "pose" else 2
    reduction = min(crop.rows / height, crop.columns / width)
    interpolation = cv2.INTER_AREA if reduction >= sharp_up_to else cv2.INTER_LINEAR
    for out_HWC, image_HWC in zip(pixels_THWC, shown, strict=True):
        cv2.resize(crop.of(image_HWC), (width, height), dst=out_HWC, interpolation=interpolation)
        if view.flip:
            cv2.flip(out_HWC, 1, dst=out_HWC)
    num_channels = shown[0].shape[2]
    if preprocessing.stream == "pose":  # black, where nothing is, is zero; the light of the scene plays no part
        unit = np.full(num_channels, 1 / 255 / RGB_STD, np.float32)
        return ClipPixels(pixels_THWC, unit, np.zeros(num_channels, np.float32))
    scale = np.full(num_channels, view.gain / 255 / RGB_STD, np.float32)
    shift = np.full(num_channels, (0.5 - 0.5 * view.gain + view.offset - RGB_MEAN) / RGB_STD, np.float32)
    return ClipPixels(pixels_THWC, scale, shift)


def _flow_pixels(images: Images, segments: list[range], preprocessing: Preprocessing, view: View) -> ClipPixels:
    """The mean displacement of each segment, in parts of a code, and what a part is worth."""
    assert preprocessing.flow is not None
    rule = FlowRule(**preprocessing.flow["rule"])
    crop = _crop(images[segments[0].start].shape, view)
    height, width = preprocessing.height_px, preprocessing.width_px
    shrinks = crop.rows >= height and crop.columns >= width
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    pixels_THWC = np.empty((len(segments), height, width, 2), np.int16)
    sum_HWC = np.empty((crop.rows, crop.columns, 2), np.float32)
    for out_HWC, segment in zip(pixels_THWC, segments, strict=True):
        sum_HWC[:] = 0
        for index in segment:
            cv2.accumulate(crop.of(images[index]), sum_HWC)
        resized_HWC = cv2.resize(sum_HWC, (width, height), interpolation=interpolation)
        np.rint(resized_HWC * np.float32(CODE_PARTS / len(segment)) - CODE_PARTS * rule.zero, out=resized_HWC)
        out_HWC[:] = resized_HWC[:, ::-1] if view.flip else resized_HWC
    part = rule.bound_px / rule.steps / CODE_PARTS * (images.eighths / WHOLE)  # in pixels of the image as decoded
    factor = part * view.amplitude / preprocessing.flow_scale_px
    scale = [(-1 if view.flip else 1) * factor * width / crop.columns, factor * height / crop.rows]
    return ClipPixels(pixels_THWC, np.array(scale, np.float32), np.zeros(2, np.float32))


@dataclass(frozen=True)
class _Crop:
    """A view's place in images of one size, in whole pixels."""

    top: int
    left: int
    rows: int
    columns: int

    def of(self, image_HWC: np.ndarray) -> np.ndarray:
        return image_HWC[self.top : self.top + self.rows, self.left : self.left + self.columns]


def _crop(shape_HWC: tuple[int, ...], view: View) -> _Crop:
    height, width, _ = shape_HWC
    top, left = round(view.crop[0] * height), round(view.crop[1] * width)
    rows, columns = max(1, round(view.crop[2] * height)), max(1, round(view.crop[3] * width))
    return _Crop(top, left, min(rows, height - top), min(columns, width - left))


def estimate_flow_scale(clips: Iterable[ClipPixels]) -> float:
    """Standard deviation of flow in training clips that were made with `flow_scale_px = 1`, never below 0.02 px."""
    limit = FLOW_CLAMP
    values = [
        float(np.square(np.clip(clip.pixels_THWC * clip.scale_C.astype(np.float64), -limit, limit)).mean())
        for clip in clips
    ]
    return max(0.02, round(float(np.sqrt(np.mean(values))), 4)) if values else 1.0
