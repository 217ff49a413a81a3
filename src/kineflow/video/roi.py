"""The region of interest: a fixed box, or a crop that follows a body part; and flow that does not see it move.

A frame is first scaled as a whole, and then a window of the extracted size is cut at a whole, even pixel. So two crops
of the same scene differ by a whole number of extracted pixels, and can be laid over each other exactly.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from kineflow.errors import DataError

MAX_SCALED_SIDE_PX = 16384
Pixel = TypeVar("Pixel", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Region:
    """What is looked at, in pixels of the video as shown (turned).

    Args:
        width_px, height_px: the same in every frame.
        xy_T2: float64, upper left corner in each source frame; one row for a box that stays.
    """

    width_px: int
    height_px: int
    xy_T2: NDArray[np.float64]

    @property
    def moves(self) -> bool:
        """Whether the corner is given for each frame."""
        return len(self.xy_T2) > 1

    def digest(self) -> str:
        """Hex, the same for the same region."""
        values = np.ascontiguousarray(self.xy_T2, "<f8").tobytes()
        return hashlib.sha256(f"{self.width_px} {self.height_px} ".encode() + values).hexdigest()


@dataclass(frozen=True)
class Cutter:
    """Where to cut windows out of scaled frames; see `cutter`.

    Args:
        shown_height, shown_width: of the video, after its rotation.
        scaled_height, scaled_width: of the whole frame.
        height, width: of the windows.
        xy_T2: int64, even: upper left corners in the scaled frame, for each source frame or for all.
    """

    shown_height: int
    shown_width: int
    scaled_height: int
    scaled_width: int
    height: int
    width: int
    xy_T2: NDArray[np.int64]

    def corner(self, source_frame: int) -> tuple[int, int]:
        """(x, y) of the window in the scaled frame `source_frame`.

        Raises:
            DataError: the region is not given for that frame.
        """
        if len(self.xy_T2) == 1:
            source_frame = 0
        if source_frame >= len(self.xy_T2):
            raise DataError(f"the keypoints end at frame {len(self.xy_T2)}, the video does not; track all of it")
        x, y = self.xy_T2[source_frame].tolist()
        return x, y


def cutter(region: Region | None, *, height: int, width: int, shown_height: int, shown_width: int) -> Cutter:
    """How windows of height x width pixels that show `region` are cut out of a video.

    Args:
        region: None for the whole frame.
        shown_height, shown_width: of the video, after its rotation.

    Raises:
        DataError: the region does not lie in the video, or is too small to be scaled up to the window.
    """
    if region is None:
        return Cutter(shown_height, shown_width, height, width, height, width, np.zeros((1, 2), np.int64))
    limit = np.array([shown_width - region.width_px, shown_height - region.height_px])
    size = f"{region.width_px}x{region.height_px}"
    if (limit < 0).any() or (not region.moves and (region.xy_T2[0] > limit).any()):
        where = "" if region.moves else f" at {region.xy_T2[0, 0]:.0f},{region.xy_T2[0, 1]:.0f}"
        raise DataError(f"the region of {size} pixels{where} leaves the video of {shown_width}x{shown_height}; mend it")
    scale = np.array([width / region.width_px, height / region.height_px])
    scaled = np.maximum([width, height], np.rint(np.array([shown_width, shown_height]) * scale).astype(np.int64))
    if scaled.max() > MAX_SCALED_SIDE_PX:
        raise DataError(f"the region of {size} pixels is too small for frames of {width}x{height}; enlarge it")
    corners = np.clip(region.xy_T2, 0, limit) * scale
    even = 2 * np.rint(corners / 2).astype(np.int64)
    even = np.minimum(even, (scaled - [width, height]) // 2 * 2)
    return Cutter(shown_height, shown_width, int(scaled[1]), int(scaled[0]), height, width, even)


def follow(
    xy_T2: NDArray[np.floating], likelihood_T: NDArray[np.floating], *, side_px: int, min_likelihood: float, smooth: int
) -> Region:
    """A square crop centred on a body part.

    Args:
        xy_T2: where it is in each frame of the video, in pixels; NaN where it was not found.
        likelihood_T: 0 to 1. Below `min_likelihood`, or NaN, a point is not believed: the line between the believed
            ones before and after takes its place, and at both ends the nearest one.
        side_px: of the square, in the video's pixels. Near the border it stays inside the video.
        smooth: frames averaged, centred; odd. 1 does not smooth.

    Raises:
        DataError: no point is believed.

    Source: the crop of the mouse thesis, 3.1 (figure 3.2).
    """
    if smooth < 1 or smooth % 2 == 0:
        raise ValueError("smooth must be odd and positive")
    believed = np.isfinite(xy_T2).all(axis=1) & (np.nan_to_num(likelihood_T, nan=-1.0) >= min_likelihood)
    if not believed.any():
        raise DataError(f"no keypoint has a likelihood of {min_likelihood:g}; lower frames.roi.min_likelihood")
    frames = np.arange(len(xy_T2))
    centres_T2 = np.stack([np.interp(frames, frames[believed], xy_T2[believed, axis]) for axis in (0, 1)], axis=1)
    padded = np.pad(centres_T2, ((smooth // 2, smooth // 2), (0, 0)), mode="edge")
    smooth_T2 = np.lib.stride_tricks.sliding_window_view(padded, smooth, axis=0).mean(axis=-1)
    return Region(side_px, side_px, smooth_T2 - side_px / 2)


def hold_crop(
    before_HW: NDArray[Pixel], after_HW: NDArray[Pixel], step_xy: Sequence[int] | NDArray[np.integer]
) -> NDArray[Pixel]:
    """The second of two crops as the first crop would have seen it, had it stayed.

    Where only the first one looked, it is taken to stand still: its own pixels are repeated there.

    Args:
        step_xy: how far the crop moved from the first to the second, in whole pixels.
    """
    dx, dy = int(step_xy[0]), int(step_xy[1])
    if (dx, dy) == (0, 0):
        return after_HW
    height, width = before_HW.shape[:2]
    held = before_HW.copy()
    if abs(dx) < width and abs(dy) < height:
        seen_in_first = (slice(max(dy, 0), height + min(dy, 0)), slice(max(dx, 0), width + min(dx, 0)))
        seen_in_second = (slice(max(-dy, 0), height + min(-dy, 0)), slice(max(-dx, 0), width + min(-dx, 0)))
        held[seen_in_first] = after_HW[seen_in_second]
    return held
