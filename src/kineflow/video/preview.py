"""A preview to be looked at: what a store holds of a video, side by side, as a film or as one moment."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from kineflow.atomic import replacing
from kineflow.errors import DataError, ParamsError
from kineflow.video.flow_store import FlowReader

Image = NDArray[np.uint8]  # (H, W, 3), RGB
MIN_HEIGHT_PX = 240  # smaller images are magnified
GAP_PX, HEAD_PX, TEXT_PX = 4, 22, 14
PAPER, INK = 255, (27, 31, 36)
WHEEL_PART = 0.16  # of the image's shorter side
FULL_PERCENTILE = 99.5  # of the displacements: this one has full colour
NUM_SAMPLED = 32  # flows that the full colour is chosen from
CRF = "20"  # of x264: the preview is looked at, not learned from


@dataclass(frozen=True)
class Panel:
    """One of the images side by side.

    Args:
        title: above it.
        image: of extracted frame `item`, uint8 (H, W, 3) RGB.
    """

    title: str
    image: Callable[[int], Image]


def check_target(target: Path, *, suffix: str) -> None:
    """Whether a preview can be written there.

    Raises:
        ParamsError: it has another suffix, is a folder, or its own folder is not there.
    """
    if target.suffix.lower() != suffix:
        raise ParamsError(f"--out {target}: a film is a .mp4, the picture of one moment (--at-sec) a .png; name it so")
    check_file_can_be(target)


def check_file_can_be(target: Path) -> None:
    """Whether a file of that name can be written.

    Raises:
        ParamsError: it is a folder, or its own folder is not there.
    """
    if target.is_dir():
        raise ParamsError(f"--out {target}: that is a folder; name a file")
    if not target.parent.is_dir():
        raise ParamsError(f"--out {target}: {target.parent} is not there; name a file in a folder that is")


def write_preview(panels: Sequence[Panel], timestamps_sec: Sequence[float], target: Path, *, fps: float) -> int:
    """Write every frame as a film, and return their number.

    Args:
        panels: from left to right; their images are of one size.
        timestamps_sec: of each frame in the video, written above it.
        target: a .mp4.
        fps: of the film.

    Raises:
        ParamsError: the target is no .mp4, or its folder is not there.
    """
    check_target(target, suffix=".mp4")
    with replacing(target) as partial, closing(av.open(str(partial), "w", format="mp4")) as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.options = {"crf": CRF, "preset": "veryfast"}
        stream.pix_fmt = "yuv420p"
        stream.height, stream.width = draw_moment(panels, 0, 0.0).shape[:2]
        for item, timestamp_sec in enumerate(timestamps_sec):
            picture = draw_moment(panels, item, timestamp_sec)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return len(timestamps_sec)


def write_moment(panels: Sequence[Panel], timestamps_sec: Sequence[float], target: Path, *, at_sec: float) -> int:
    """Write the frame shown at `at_sec` as a picture, and return its index.

    Args:
        target: a .png.

    Raises:
        DataError: the video ends before that time.
        ParamsError: the target is no .png, or its folder is not there.
    """
    check_target(target, suffix=".png")
    item = int(np.searchsorted(np.asarray(timestamps_sec), at_sec, side="right")) - 1
    if item < 0 or (item == len(timestamps_sec) - 1 and at_sec > timestamps_sec[-1] + 1.0):
        raise DataError(
            f"--at-sec {at_sec:g}: the last frame is that of {timestamps_sec[-1]:g} s; choose one before it"
        )
    picture = draw_moment(panels, item, timestamps_sec[item])
    with replacing(target) as partial:
        partial.write_bytes(cv2.imencode(".png", picture[:, :, ::-1])[1].tobytes())
    return item


def draw_moment(panels: Sequence[Panel], item: int, timestamp_sec: float) -> Image:
    """All panels of one frame, titled; both sides of the picture are even, as films need."""
    images = [_magnified(panel.image(item)) for panel in panels]
    height, width = images[0].shape[:2]
    picture = np.full((HEAD_PX + height, len(images) * (width + GAP_PX) - GAP_PX, 3), PAPER, np.uint8)
    for place, (panel, image) in enumerate(zip(panels, images, strict=True)):
        left = place * (width + GAP_PX)
        picture[HEAD_PX:, left : left + width] = image
        title = panel.title if place else f"{panel.title}  {timestamp_sec:.2f} s  #{item}"
        cv2.putText(
            picture, title, (left + 4, TEXT_PX + 2), cv2.FONT_HERSHEY_SIMPLEX, 0.42, INK, 1, lineType=cv2.LINE_AA
        )
    rows, columns = picture.shape[:2]
    return cv2.copyMakeBorder(picture, 0, rows % 2, 0, columns % 2, cv2.BORDER_CONSTANT, value=[PAPER] * 3)


def flow_panel(reader: FlowReader) -> Panel:
    """Flow in colours: the hue is where to, the brightness how far; a wheel in the corner says which is which.

    The last frame has no flow of its own and is shown without any.
    """
    full_px = full_colour_px(reader)
    wheel = flow_colours(_wheel(round(WHEEL_PART * min(reader.height, reader.width))), full_px=1.0)

    def image(item: int) -> Image:
        if item >= reader.num_flows:
            return np.zeros((reader.height, reader.width, 3), np.uint8)
        picture = flow_colours(reader.read([item])[0], full_px=full_px)
        side = len(wheel)
        corner = picture[-side:, -side:]
        corner[wheel.any(axis=-1)] = wheel[wheel.any(axis=-1)]
        return picture

    return Panel(f"{reader.rule.method}, full colour {full_px:.2g} px a frame", image)


def flow_colours(flow_HWC: NDArray[np.float32], *, full_px: float) -> Image:
    """(H, W, 3) RGB: red to the right, then yellow-green down, cyan left, violet up; black where nothing moves.

    Args:
        flow_HWC: in pixels, x then y.
        full_px: the displacement of full brightness.
    """
    magnitude, angle_deg = cv2.cartToPolar(flow_HWC[..., 0], flow_HWC[..., 1], angleInDegrees=True)
    hue = (angle_deg / 2).astype(np.uint8) % 180  # OpenCV's half degrees
    value = np.clip(magnitude * (255 / full_px), 0, 255).astype(np.uint8)
    picture: Image = cv2.cvtColor(np.stack([hue, np.full_like(hue, 255), value], axis=-1), cv2.COLOR_HSV2RGB)
    return picture


def full_colour_px(reader: FlowReader) -> float:
    """A displacement that few pixels exceed, over flows spread through the video; at least one step of its rule."""
    least = reader.rule.bound_px / reader.rule.steps
    if reader.num_flows == 0:
        return least
    items = np.unique(np.linspace(0, reader.num_flows - 1, NUM_SAMPLED).astype(int))
    magnitudes = [np.linalg.norm(reader.read([item])[0], axis=-1) for item in items]
    return max(least, float(np.percentile(magnitudes, FULL_PERCENTILE)))


def _wheel(side_px: int) -> NDArray[np.float32]:
    """Flow outwards from the middle of a disc, one at its rim."""
    y, x = np.mgrid[:side_px, :side_px].astype(np.float32) / max(1, side_px - 1) * 2 - 1
    flow_HWC: NDArray[np.float32] = np.stack([x, y], axis=-1)
    flow_HWC[np.hypot(x, y) > 1] = 0
    return flow_HWC


def _magnified(image: Image) -> Image:
    factor = -(-MIN_HEIGHT_PX // image.shape[0])
    return image.repeat(factor, axis=0).repeat(factor, axis=1) if factor > 1 else image
