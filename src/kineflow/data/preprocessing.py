"""What turns a stored video into the tensor that a model sees: one value, saved with every model.

Training, evaluation and prediction all call `clip_tensor` with the same `Preprocessing`; only the `View` differs:
a test-time view is fixed, a training view is drawn at random. A view is drawn once and can be applied to several
streams of the same clip, so that a teacher and its student look at the same place at the same time.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, Self

import cv2
import numpy as np

from kineflow.errors import DataError
from kineflow.schema import FileSchema

Stream = Literal["rgb", "flow", "pose", "embedding"]
SCHEMA = FileSchema(  # 2 knew no pose
    "preprocessing", version=3, oldest=2, remedy="train it again, or load it with the Kineflow that made it"
)
RGB_MEAN, RGB_STD = 0.45, 0.225  # of 0..1 values, for every channel
FLOW_CLAMP = 6.0  # in units of flow_scale_px
TEST_WINDOW = 0.85  # of a clip, where it is looked at in several views


class Reader(Protocol):
    """Images (or flows, or features) of one video by index."""

    def __len__(self) -> int: ...

    def read(self, indices: np.ndarray) -> np.ndarray:
        """(T, H, W, C) at `indices`."""
        ...


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
        subtract_background: rgb: take the mean image over the tensor's time away, so that what does not move vanishes.
        flow_scale_px: divides flow, in pixels of the tensor; the standard deviation over the training clips.
        num_views: test-time views whose probabilities are averaged.
        pose: for stream pose, the `rule` that skeletons were found and drawn by, the `path` of the files of keypoints
            and the `weights`.
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
    subtract_background: bool
    flow_scale_px: float
    num_views: int
    pose: dict[str, Any] | None = None
    schema_version: int = SCHEMA.version

    @property
    def num_channels(self) -> int:
        """Channels of the tensor (for embeddings, those of the stored features decide)."""
        return {"rgb": 3, "flow": 2, "pose": 3, "embedding": 0}[self.stream]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any], *, where: object) -> Self:
        """The inverse of `to_json`; `where` it was read, for messages. What the version before wrote is read too.

        Raises:
            DataError: written by another version.
        """
        SCHEMA.check(where, values.get("schema_version"))
        values = {"pose": None} | values | {"schema_version": SCHEMA.version}
        return cls(**values)


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


def clip_tensor(reader: Reader, start: int, stop: int, preprocessing: Preprocessing, view: View) -> np.ndarray:
    """The tensor of the clip [start, stop) (extracted frames) as `view` sees it.

    Returns:
        float32 (C, T, H, W). T is `num_frames` on task clip, the number of the window's frames on task frame.

    Raises:
        DataError: the clip holds no frame of the video.
    """
    if not 0 <= start < stop:
        raise DataError(f"the clip [{start}, {stop}) is empty")
    if preprocessing.stream == "embedding":
        return np.moveaxis(_every_frame(reader, start, stop), -1, 0).astype(np.float32)
    if preprocessing.task == "frame":
        images_THWC = _every_frame(reader, start, stop)
    elif preprocessing.sampling == "dense":
        images_THWC = reader.read(_dense_indices(len(reader), start, stop, preprocessing, view))
    else:
        images_THWC = _segments(reader, start, stop, preprocessing, view)
    finish = {"rgb": _finish_rgb, "flow": _finish_flow, "pose": _finish_pose}[preprocessing.stream]
    return finish(images_THWC, preprocessing, view)


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


def _every_frame(reader: Reader, start: int, stop: int) -> np.ndarray:
    # the last frame of a video has no flow of its own: it takes the one before
    return reader.read(np.minimum(np.arange(start, stop), len(reader) - 1))


def _dense_indices(available: int, start: int, stop: int, preprocessing: Preprocessing, view: View) -> np.ndarray:
    stop = min(stop, available)
    span = preprocessing.num_frames * preprocessing.frame_stride
    free = max(0, (stop - start) - span)
    centred = view.jitter_seed is None and view.length == 1.0
    position = 0.5 if centred else view.start / (1.0 - view.length) if view.length < 1.0 else 0.0
    indices = start + round(free * position) + np.arange(preprocessing.num_frames) * preprocessing.frame_stride
    return start + (indices - start) % max(1, stop - start)  # a short clip is looped


def _segments(reader: Reader, start: int, stop: int, preprocessing: Preprocessing, view: View) -> np.ndarray:
    stop = max(start + 1, min(stop, len(reader)))
    start = min(start, len(reader) - 1)
    borders = segment_borders(start, stop, preprocessing.num_frames, view)
    if preprocessing.stream != "flow":
        middles = np.floor((borders[:-1] + borders[1:]) / 2).astype(np.int64)
        return reader.read(np.clip(middles, start, stop - 1))
    firsts = np.clip(np.floor(borders[:-1] + 0.5).astype(np.int64), start, stop - 1)
    lasts = np.clip(np.floor(borders[1:] + 0.5).astype(np.int64), firsts + 1, stop)
    flows_THWC = reader.read(np.arange(firsts[0], lasts[-1]))
    return np.stack(
        [flows_THWC[a - firsts[0] : b - firsts[0]].mean(axis=0) for a, b in zip(firsts, lasts, strict=True)]
    )


def _finish_rgb(images_THWC: np.ndarray, preprocessing: Preprocessing, view: View) -> np.ndarray:
    cropped, _, _ = _crop_and_resize(images_THWC, preprocessing, view)
    values = cropped.astype(np.float32) * (1.0 / 255.0)
    if view.gain != 1.0 or view.offset != 0.0:
        values = np.clip((values - 0.5) * np.float32(view.gain) + np.float32(0.5 + view.offset), 0.0, 1.0)
    background = values.mean(axis=0, keepdims=True) if preprocessing.subtract_background else np.float32(RGB_MEAN)
    values = (values - background) * np.float32(1.0 / RGB_STD)
    return _channels_first(values, view)


def _finish_flow(flows_THWC: np.ndarray, preprocessing: Preprocessing, view: View) -> np.ndarray:
    resized, scale_y, scale_x = _crop_and_resize(flows_THWC, preprocessing, view)
    sign = -1.0 if view.flip else 1.0
    factor = view.amplitude / preprocessing.flow_scale_px
    per_axis = np.array([sign * scale_x * factor, scale_y * factor], np.float32)
    return _channels_first(np.clip(resized * per_axis, -FLOW_CLAMP, FLOW_CLAMP), view)


def _finish_pose(pictures_THWC: np.ndarray, preprocessing: Preprocessing, view: View) -> np.ndarray:
    # black, where nothing is, is zero; the light of the scene plays no part
    resized, _, _ = _crop_and_resize(pictures_THWC, preprocessing, view)
    return _channels_first(resized.astype(np.float32) * np.float32(1.0 / (255.0 * RGB_STD)), view)


def _crop_and_resize(
    images_THWC: np.ndarray, preprocessing: Preprocessing, view: View
) -> tuple[np.ndarray, float, float]:
    """The view's crop at the tensor's size, and by how much it was scaled down the rows and along them."""
    _, height, width, channels = images_THWC.shape
    top, left, rows, columns = (
        round(view.crop[0] * height),
        round(view.crop[1] * width),
        max(1, round(view.crop[2] * height)),
        max(1, round(view.crop[3] * width)),
    )
    size = (preprocessing.width_px, preprocessing.height_px)
    out = np.empty((len(images_THWC), preprocessing.height_px, preprocessing.width_px, channels), images_THWC.dtype)
    shrinks = rows >= size[1] and columns >= size[0]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    for index, image in enumerate(images_THWC):
        crop = image[top : top + rows, left : left + columns]
        out[index] = cv2.resize(crop, size, interpolation=interpolation).reshape(out.shape[1:])
    return out, size[1] / rows, size[0] / columns


def _channels_first(values_THWC: np.ndarray, view: View) -> np.ndarray:
    if view.flip:
        values_THWC = values_THWC[:, :, ::-1]
    return np.ascontiguousarray(np.moveaxis(values_THWC, -1, 0), dtype=np.float32)


def estimate_flow_scale(tensors: Callable[[], list[np.ndarray]]) -> float:
    """Standard deviation of flow in training tensors that were made with `flow_scale_px = 1`, never below 0.02 px."""
    values = [float(np.square(tensor.astype(np.float64)).mean()) for tensor in tensors()]
    return max(0.02, round(float(np.sqrt(np.mean(values))), 4)) if values else 1.0
