"""Decoded frames to JPEG by way of the decoder's own YUV planes: scaled there, never turned into RGB."""

import numpy as np
import simplejpeg
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


def encode_frame(
    image: VideoFrame,
    scaler: VideoReformatter,
    *,
    height: int,
    width: int,
    rotation_deg: int,
    quality: int,
    window: tuple[int, int, int, int] | None = None,
) -> bytes:
    """Scale, turn, cut and encode a frame, as a colour JPEG of 4:2:0.

    Args:
        scaler: one for all frames of a video; it keeps the tables that FFmpeg builds for a pair of sizes.
        height, width: of the whole frame in pixels, after the rotation.
        rotation_deg: counter-clockwise, a multiple of 90.
        quality: 1 to 100.
        window: what to keep of the scaled frame, (x, y, width, height) with even x and y; None for all.
    """
    h, w = (width, height) if rotation_deg in (90, 270) else (height, width)
    shrinks = h * w < image.height * image.width
    scaled = scaler.reformat(
        image,
        width=w,
        height=h,
        format="yuv420p",
        interpolation=Interpolation.AREA if shrinks else Interpolation.BILINEAR,
        dst_colorspace=Colorspace.ITU601,  # the colours of JPEG
        dst_color_range=ColorRange.JPEG,
        threads=1,
    )
    turned = [np.rot90(_pixels(plane), rotation_deg // 90) for plane in scaled.planes]
    if window is not None:
        turned = [_cut(plane, window, step) for plane, step in zip(turned, (1, 2, 2), strict=True)]
    planes = [_with_margin(plane) for plane in turned]
    jpeg: bytes = simplejpeg.encode_jpeg_yuv_planes(*planes, quality=quality)
    return jpeg


def min_jpeg_bytes_a_pixel(quality: int) -> float:
    """What no JPEG of this quality falls below but one of next to nothing: half of the leanest of some real clips."""
    return 0.04 if quality >= 90 else 0.02 if quality >= 70 else 0.005


def _pixels(plane: VideoPlane) -> Pixels:
    values = np.frombuffer(plane, np.uint8)  # type: ignore[call-overload]  # its stub hides that it is a buffer
    return values.reshape(-1, plane.line_size)[: plane.height, : plane.width]


def _cut(plane: Pixels, window: tuple[int, int, int, int], step: int) -> Pixels:
    x, y, width, height = window
    return plane[y // step : (y + height + step - 1) // step, x // step : (x + width + step - 1) // step]


def _with_margin(plane: Pixels) -> Pixels:
    """A contiguous copy with defined memory behind it: simplejpeg reads past the end of planes of odd size."""
    height, width = plane.shape
    memory = np.full((height + 1) * width + 16, plane[-1, -1], np.uint8)
    copy = memory[: height * width].reshape(height, width)
    copy[:] = plane
    return copy
