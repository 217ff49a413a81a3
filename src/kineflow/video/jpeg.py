"""Decoded frames to JPEG by way of the decoder's own YUV planes: scaled there, never turned into RGB."""

import numpy as np
import simplejpeg
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

Plane = NDArray[np.uint8]


def to_yuv_planes(
    image: VideoFrame, scaler: VideoReformatter, *, height: int, width: int, rotation_deg: int = 0
) -> tuple[Plane, Plane, Plane]:
    """Scale and turn a frame; its colours become those of JPEG (BT.601, full range, 4:2:0).

    Args:
        scaler: one for all frames of a video; it keeps the tables that FFmpeg builds for a pair of sizes.
        height, width: after the rotation.
        rotation_deg: counter-clockwise, a multiple of 90.

    Returns:
        Y (height, width), U and V (half of both, rounded up).
    """
    turned = rotation_deg in (90, 270)
    h, w = (width, height) if turned else (height, width)
    shrinks = h * w < image.height * image.width
    scaled = scaler.reformat(
        image,
        width=w,
        height=h,
        format="yuv420p",
        interpolation=Interpolation.AREA if shrinks else Interpolation.BILINEAR,
        dst_colorspace=Colorspace.ITU601,
        dst_color_range=ColorRange.JPEG,
        threads=1,
    )
    shapes = [(h, w), ((h + 1) // 2, (w + 1) // 2), ((h + 1) // 2, (w + 1) // 2)]
    y, u, v = (
        np.ascontiguousarray(np.rot90(_pixels(plane, *shape), rotation_deg // 90))
        for plane, shape in zip(scaled.planes, shapes, strict=True)
    )
    return y, u, v


def encode_planes(planes: tuple[Plane, Plane, Plane], *, quality: int) -> bytes:
    """A colour JPEG of planes as `to_yuv_planes` gives them."""
    data: bytes = simplejpeg.encode_jpeg_yuv_planes(*planes, quality=quality)
    return data


def _pixels(plane: object, height: int, width: int) -> Plane:
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:height, :width]  # type: ignore[call-overload,attr-defined]
