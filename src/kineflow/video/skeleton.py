"""Keypoints to pictures: limbs and joints in colour on black, as a video model can look at them.

Every limb has a hue of its own, the hues equally far apart, and every joint the hue of its body part; individuals look
alike. So a model can tell an arm from a leg and left from right, and sees nothing of the scene.

Source: Kalfaoglu 2020, appendix B and figure 3.2, which took the pictures that OpenPose renders.
"""

import colorsys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from kineflow.annotations.pose import PoseTrack
from kineflow.annotations.pose.layouts import known_limbs
from kineflow.errors import DataError
from kineflow.video.frame_store import FrameReader

FRACTION_BITS = 4  # OpenCV draws at sixteenths of a pixel
FARTHEST_PX = 20_000.0  # what OpenCV can draw a line to

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class FramePose:
    """The individuals of one frame.

    Args:
        xy_IP2: float (I, P, 2) in pixels of the frame as extracted, x then y; NaN where nothing was found.
        likelihood_IP: 0 to 1; NaN where nothing was found.
    """

    xy_IP2: NDArray[np.floating]
    likelihood_IP: NDArray[np.floating]

    def believed(self, min_likelihood: float) -> NDArray[np.bool_]:
        """(I, P): which joints were found, and are at least that likely."""
        found_IP = np.isfinite(self.xy_IP2).all(axis=-1)
        return found_IP & (np.nan_to_num(self.likelihood_IP, nan=-1.0) >= min_likelihood)


def limb_indices(
    bodyparts: Sequence[str], limbs: Sequence[tuple[str, str]], *, given: Sequence[Sequence[str]] | None
) -> list[tuple[int, int]]:
    """The pairs of body parts that are joined, as their numbers.

    Args:
        limbs: of the file; where it says none, those of the layout that has these body parts.
        given: of params (`pose.limbs`), instead.

    Raises:
        DataError: a limb given names a body part that the file has not.
    """
    chosen = list(limbs) or list(known_limbs(tuple(bodyparts))) if given is None else [(a, b) for a, b in given]
    unknown = [name for limb in chosen for name in limb if name not in bodyparts]
    if unknown:
        raise DataError(f"no body part {unknown[0]!r} (there are {', '.join(bodyparts)}); correct pose.limbs")
    return [(bodyparts.index(start), bodyparts.index(end)) for start, end in chosen]


def poses_of_frames(track: PoseTrack, reader: FrameReader) -> Iterator[FramePose]:
    """The keypoints of each extracted frame: those of its source frame, where its resize and its crop put them.

    Args:
        track: of the video as shown, every frame of it.

    Raises:
        DataError: the keypoints end before the video does.
    """
    for item, source_frame in enumerate(reader.source_frames.tolist()):
        if source_frame >= track.num_frames:
            raise DataError(f"the keypoints end at frame {track.num_frames}, the video does not; track all of it")
        yield FramePose(reader.place(track.xy_px[source_frame], item), track.likelihood[source_frame])


def draw_skeletons(
    pose: FramePose,
    limbs: Sequence[tuple[int, int]],
    *,
    height: int,
    width: int,
    min_likelihood: float,
    line_width: float,
) -> Picture:
    """A picture of the individuals of a frame.

    Args:
        limbs: pairs of body parts, by number.
        height, width: of the picture in pixels.
        min_likelihood: a joint below it is not drawn, nor are its limbs.
        line_width: of a limb, as a fraction of the shorter side; at least one pixel. A joint is twice as wide.

    Returns:
        uint8 (height, width, 3), RGB; black where there is nothing.
    """
    picture = np.zeros((height, width, 3), np.uint8)
    thickness = max(1, round(line_width * min(height, width)))
    believed_IP = pose.believed(min_likelihood)
    fixed_IP2 = _fixed_point(pose.xy_IP2, believed_IP)
    limb_colours, joint_colours = _hues(len(limbs)), _hues(believed_IP.shape[1])
    for points_P2, is_there_P in zip(fixed_IP2, believed_IP, strict=True):
        for (start, end), colour in zip(limbs, limb_colours, strict=True):
            if is_there_P[start] and is_there_P[end]:
                ends = points_P2[start].tolist(), points_P2[end].tolist()
                cv2.line(picture, *ends, colour, thickness, cv2.LINE_AA, FRACTION_BITS)
        for part in np.flatnonzero(is_there_P).tolist():
            centre, radius = points_P2[part].tolist(), thickness << FRACTION_BITS
            cv2.circle(picture, centre, radius, joint_colours[part], cv2.FILLED, cv2.LINE_AA, FRACTION_BITS)
    return picture


def _fixed_point(xy_IP2: NDArray[np.floating], believed_IP: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Coordinates in sixteenths of a pixel; those of joints that are not drawn are of no use."""
    safe_IP2 = np.where(believed_IP[..., None], xy_IP2, 0.0)
    return np.rint(np.clip(safe_IP2, -FARTHEST_PX, FARTHEST_PX) * (1 << FRACTION_BITS)).astype(np.int32)


def _hues(number: int) -> list[tuple[int, int, int]]:
    """RGB colours of full strength, their hues equally far apart, the first one red."""
    return [_rgb(index / number) for index in range(number)]


def _rgb(hue: float) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(hue, 1.0, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)
