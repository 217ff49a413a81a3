"""What turns a stored video into the tensor that a model sees: one value, saved with every model.

Training, evaluation and prediction all call `clip_pixels` with the same `Preprocessing`; only the `View` differs:
a test-time view is fixed, a training view is drawn at random.

Which pixels a view shows is settled here, in integers; what they are worth, and how the image is turned, zoomed and
shifted, goes with them as a few numbers and is applied to whole batches on the device (`kineflow.training.inputs`).
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, Protocol, Self

import cv2
import numpy as np

from kineflow.data.sampling import dense_frames, every_frame, segment_frames, segment_spans
from kineflow.data.views import Box, Crops, View, crop_box, fixed_views
from kineflow.errors import DataError
from kineflow.schema import FileSchema
from kineflow.video.dct_scale import WHOLE
from kineflow.video.flow_store import FlowRule

Stream = Literal["rgb", "flow", "pose", "embedding"]
Input = Literal["stored", "difference", "orientation"]
# 3 did not say how large it decoded; 4 knew no padding, crops, differences, orientations; 5 no motion_scale
SCHEMA = FileSchema(
    "preprocessing", version=6, oldest=4, remedy="train it again, or load it with the Kineflow that made it"
)
RGB_MEAN, RGB_STD = 0.45, 0.225  # of 0..1 values, for every channel
FLOW_CLAMP = 6.0  # in units of what flow is divided by, see motion_scale
STILL_PX = 0.02  # the least that flow is divided by: what is below is noise
ORIENTATION_CHANNELS, ORIENTATION_POOLING = 24, 2  # as kineflow.models.orientation counts, which needs torch
CODE_PARTS = 256  # flow pixels are counted in this part of a step of the stored 8-bit codes
GREY_OF_RGB = np.array([0.299, 0.587, 0.114])  # luma, BT.601


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
        motion_scale: `clip` divides flow by the standard deviation in what a view shows of its own clip instead, at
            least `STILL_PX`: how things move is seen, and not how fast or how far from the camera.
        num_views: test-time windows in time whose probabilities are averaged; `all`: as many clips of dense sampling as
            fit without overlap, at least one.
        pose: for stream pose, the `rule` that skeletons were found and drawn by, the `path` of the files of keypoints
            and the `weights`.
        short_clips: what a clip with fewer frames than dense sampling wants becomes: its frames again from the first
            (`loop`), or a shorter tensor, whose length the model is told (`pad`; task frame is told of every window).
        input: the images as they are stored; rgb: or what each differs by from the next, the last as the one before it
            (as the last frame of a video has the flow of the one before); flow: or its channels of orientation, see
            `kineflow.models.orientation`.
        crops: that test-time views look at in each window in time, see `fixed_views`. crop_scale: their size.
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
    num_views: int | Literal["all"]
    pose: dict[str, Any] | None = None
    short_clips: Literal["loop", "pad"] = "loop"
    input: Input = "stored"
    crops: Crops = "whole"
    crop_scale: float = 1.0
    motion_scale: Literal["training", "clip"] = "training"
    schema_version: int = SCHEMA.version

    @property
    def num_channels(self) -> int:
        """Channels of the tensor (for embeddings, those of the stored features decide)."""
        if self.input == "orientation":
            return ORIENTATION_CHANNELS
        return {"rgb": 3, "flow": 2, "pose": 3, "embedding": 0}[self.stream]

    @property
    def model_size_px(self) -> tuple[int, int]:
        """Height and width of what the model reads: the tensor's, or half of them where orientations are counted."""
        if self.input == "orientation":
            return self.height_px // ORIENTATION_POOLING, self.width_px // ORIENTATION_POOLING
        return self.height_px, self.width_px

    @property
    def value_range(self) -> tuple[float, float]:
        """Least and largest value of the tensor, before a background or the image before is subtracted."""
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

    def test_views(self, num_frames: int) -> Iterator[View]:
        """How a clip of `num_frames` is looked at when it is judged."""
        return fixed_views(self.num_windows(num_frames), self.crops, self.crop_scale)

    def num_windows(self, num_frames: int) -> int:
        """At how many windows in time a clip of `num_frames` is looked at; a window of task frame is one."""
        if self.task == "frame":
            return 1
        if self.num_views == "all":
            return max(1, num_frames // (self.num_frames * self.frame_stride))
        return self.num_views

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
        return cls(**values | {"schema_version": SCHEMA.version})  # older ones do as the defaults do


def decode_px(size_px: int, *, smallest_crop: float) -> int:
    """Pixels that images must keep in one direction, for a tensor of `size_px` there.

    The smallest square crop then still has the tensor's pixels (a random aspect may take up to a fifth of one side
    more), and no larger image is decoded, cached or resized than that takes.
    """
    return math.ceil(round(size_px / smallest_crop, 6))


class ClipPixels(NamedTuple):
    """What a view shows of a clip, and the linear rule that makes it the tensor.

    Args:
        pixels_THWC: rgb, pose: uint8. flow: int16, zero where nothing moves. embedding: float32, the tensor as it is.
        scale_C, shift_C, matrix_CC: float32; the tensor is (pixels * scale) @ matrix + shift, kept inside
            `Preprocessing.value_range`. Without a matrix channels keep to themselves.
        warp_23: float32, where in the pixels each place of the tensor is found, both (x, y) from -1 to 1 between the
            outer edges; what is outside is 0. None: at its own place.
    """

    pixels_THWC: np.ndarray
    scale_C: np.ndarray
    shift_C: np.ndarray
    matrix_CC: np.ndarray | None = None
    warp_23: np.ndarray | None = None


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
        features_THWC = np.stack([images[index] for index in every_frame(len(images), start, stop)])
        num_features = features_THWC.shape[-1]
        return ClipPixels(features_THWC, np.ones(num_features, np.float32), np.zeros(num_features, np.float32))
    clip = (len(images), start, stop)
    if preprocessing.task == "frame":
        indices = every_frame(*clip)
    elif preprocessing.sampling == "dense":
        length, stride = preprocessing.num_frames, preprocessing.frame_stride
        num_shown = preprocessing.num_shown(min(stop, len(images)) - start)
        indices = dense_frames(*clip, view, num_frames=length, stride=stride)[: max(1, num_shown)]
    elif preprocessing.stream == "flow":
        segments = segment_spans(*clip, view, num_segments=preprocessing.num_frames)
        return _flow_pixels(images, segments, preprocessing, view)
    else:
        indices = segment_frames(*clip, view, num_segments=preprocessing.num_frames)
    if preprocessing.stream == "flow":
        return _flow_pixels(images, [range(index, index + 1) for index in indices], preprocessing, view)
    return _image_pixels(images, indices, preprocessing, view)


def _image_pixels(images: Images, indices: Iterable[int], preprocessing: Preprocessing, view: View) -> ClipPixels:
    shown = [images[index] for index in indices]
    crop = _crop_of(shown[0], preprocessing, view)
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
        return ClipPixels(pixels_THWC, unit, np.zeros(num_channels, np.float32), warp_23=_warp(crop, view))
    scale = np.full(num_channels, view.gain / 255 / RGB_STD, np.float32)
    shift = np.full(num_channels, (0.5 - 0.5 * view.gain + view.offset - RGB_MEAN) / RGB_STD, np.float32)
    return ClipPixels(pixels_THWC, scale, shift, _colour_matrix(view), _warp(crop, view))


def _flow_pixels(images: Images, segments: list[range], preprocessing: Preprocessing, view: View) -> ClipPixels:
    """The mean displacement of each segment, in parts of a code, and what a part is worth."""
    assert preprocessing.flow is not None
    rule = FlowRule(**preprocessing.flow["rule"])
    crop = _crop_of(images[segments[0].start], preprocessing, view)
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
    part_px = part * np.array([width / crop.columns, height / crop.rows])  # of the tensor
    scale_px = preprocessing.flow_scale_px
    if preprocessing.motion_scale == "clip":
        scale_px = max(STILL_PX, _standard_deviation(pixels_THWC, part_px))
    scale = part_px * (view.amplitude / scale_px) * ([-1, 1] if view.flip else 1)
    matrix = None
    if view.is_moved:  # vectors turn and grow with the image, in its own pixels and not in the tensor's
        to_tensor = np.array([width / crop.columns, height / crop.rows])
        matrix = (_turn(view) * to_tensor[:, None] / to_tensor).T.astype(np.float32)
    return ClipPixels(pixels_THWC, scale.astype(np.float32), np.zeros(2, np.float32), matrix, _warp(crop, view))


def _standard_deviation(flow_THWC: np.ndarray, unit_C: np.ndarray) -> float:
    """Of flow in units of `unit_C`, around no motion."""
    mean_squares_C = np.square(flow_THWC, dtype=np.float32).mean(axis=(0, 1, 2), dtype=np.float64)
    return float(np.sqrt(np.mean(mean_squares_C * np.square(unit_C))))


def _crop_of(image_HWC: np.ndarray, preprocessing: Preprocessing, view: View) -> Box:
    height, width, _ = image_HWC.shape
    return crop_box(view, height, width, tensor_height=preprocessing.height_px, tensor_width=preprocessing.width_px)


def _turn(view: View) -> np.ndarray:
    """Where a vector (x, y) of the image points once it is turned and zoomed; float64 (2, 2)."""
    angle = math.radians(view.turn_deg)
    cos, sin = math.cos(angle), math.sin(angle)
    return view.zoom * np.array([[cos, -sin], [sin, cos]])


def _warp(crop: Box, view: View) -> np.ndarray | None:
    """See `ClipPixels.warp_23`; right angles of the image stay right whatever shape the tensor has."""
    if not view.is_moved:
        return None
    half = np.array([crop.columns / 2, crop.rows / 2])
    back = np.linalg.inv(_turn(view)) * half / half[:, None]
    down, right = view.shift
    return np.column_stack([back, back @ [-2 * right, -2 * down]]).astype(np.float32)


def _colour_matrix(view: View) -> np.ndarray | None:
    """Turns the hue round the axis of greys, then moves colours away from grey or towards it; None where it would not.

    A third of the circle makes green of red, blue of green and red of blue, as in HSV; greys stay as they are.
    """
    if view.saturation == 1 and view.hue == 0:
        return None
    cos, sin = math.cos(2 * math.pi * view.hue), math.sin(2 * math.pi * view.hue)
    grey, side = (1 - cos) / 3, sin / math.sqrt(3)
    hue = np.array([[0, -side, side], [side, 0, -side], [-side, side, 0]]) + grey + cos * np.eye(3)
    saturate = view.saturation * np.eye(3) + (1 - view.saturation) * GREY_OF_RGB
    return np.asarray((saturate @ hue).T, np.float32)


def estimate_flow_scale(clips: Iterable[ClipPixels]) -> float:
    """Standard deviation of flow in training clips that were made with `flow_scale_px = 1`, never below `STILL_PX`."""
    limit = FLOW_CLAMP
    values = [
        float(np.square(np.clip(clip.pixels_THWC * clip.scale_C.astype(np.float64), -limit, limit)).mean())
        for clip in clips
    ]
    return max(STILL_PX, round(float(np.sqrt(np.mean(values))), 4)) if values else 1.0
