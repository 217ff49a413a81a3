"""A picture of a video with a grid and coordinates on it, to read a box from."""

from pathlib import Path

import cv2
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from kineflow.annotations.roi_boxes import Box
from kineflow.atomic import replacing
from kineflow.errors import DataError, DecodeError, ParamsError
from kineflow.video.decode import DecodedFrame, decode_frames, naming, open_video
from kineflow.video.preview import check_file_can_be
from kineflow.video.region_files import region_of
from kineflow.video.roi import cutter

NUM_LINES = 12  # about so many across the longer side
STEPS_PX = (10, 20, 25, 50, 100, 200, 250, 500, 1000)
GRID, BORDER, BOX = (90, 220, 90), (0, 0, 0), (60, 60, 255)  # BGR
FONT = cv2.FONT_HERSHEY_SIMPLEX


def write_roi_picture(source: Path, target: Path, *, at_sec: float, box: Box | None = None) -> tuple[int, int]:
    """Write the frame shown at `at_sec`, the last one not after it, as shown, with coordinates in pixels of the video.

    Args:
        target: its suffix chooses the format.
        box: drawn on it.

    Returns:
        (height, width) of the video as shown; that of the picture without its margin.

    Raises:
        DataError: the video ends before that time, the box leaves it, or the picture cannot be written.
        DecodeError: the video cannot be read; it is named.
        ParamsError: the target is a folder, or its own folder is not there; or the box is none.
    """
    check_file_can_be(target)
    with naming(source):
        image = _shown(_frame_at(source, at_sec))
    height, width = image.shape[:2]
    if box is not None:
        _check_box(box, height=height, width=width)
    size = max(0.35, max(height, width) / 1600)
    margin_px = round(40 * size) + 8
    picture = cv2.copyMakeBorder(image, margin_px, 0, margin_px + 12, 0, cv2.BORDER_CONSTANT, value=(255, 255, 255))
    left, top = margin_px + 12, margin_px
    step_px = next((step for step in STEPS_PX if max(height, width) / step <= NUM_LINES), STEPS_PX[-1])
    for x in range(0, width, step_px):
        cv2.line(picture, (left + x, top), (left + x, top + height), GRID, 1)
        cv2.putText(picture, str(x), (left + x, top - 6), FONT, size, BORDER, 1, cv2.LINE_AA)
    for y in range(0, height, step_px):
        cv2.line(picture, (left, top + y), (left + width, top + y), GRID, 1)
        cv2.putText(picture, str(y), (2, top + y + 6), FONT, size, BORDER, 1, cv2.LINE_AA)
    if box is not None:
        corner = (left + box.x_px, top + box.y_px)
        cv2.rectangle(picture, corner, (corner[0] + box.width_px - 1, corner[1] + box.height_px - 1), BOX, 2)
    _write_picture(target, picture)
    return height, width


def _write_picture(target: Path, picture: NDArray[np.uint8]) -> None:
    try:
        is_encoded, content = cv2.imencode(target.suffix, picture)
    except cv2.error:
        is_encoded = False
    if not is_encoded:
        raise DataError(f"{target} cannot be written: OpenCV does not write such pictures; name a .png or .jpg")
    try:
        with replacing(target) as partial:
            partial.write_bytes(content.tobytes())
    except OSError as err:
        raise DataError(f"{target} cannot be written: {err.strerror}; name a file in another folder") from err


def _check_box(box: Box, *, height: int, width: int) -> None:
    """By the rules that the CSV of boxes and its use have."""
    if min(box.x_px, box.y_px) < 0 or min(box.width_px, box.height_px) < 1:
        raise ParamsError("--box: write X Y WIDTH HEIGHT in whole pixels, X and Y at least 0, the others at least 1")
    cutter(region_of(box), height=box.height_px, width=box.width_px, shown_height=height, shown_width=width)


def _frame_at(source: Path, at_sec: float) -> DecodedFrame:
    with open_video(source) as (container, stream):
        found, length_sec = None, 0.0
        for frame in decode_frames(container, stream):
            if found is not None and frame.timestamp_sec > at_sec:
                return found
            length_sec = frame.duration_sec or frame.timestamp_sec - (found.timestamp_sec if found else 0.0)
            found = frame
    if found is None:
        raise DecodeError("the video stream has no frames")
    if at_sec > found.timestamp_sec + length_sec:
        raise DataError(f"{source} ends before {at_sec:g} s; choose an earlier time")
    return found


def _shown(frame: DecodedFrame) -> NDArray[np.uint8]:
    image = VideoReformatter().reformat(frame.image, format="bgr24", threads=1).to_ndarray()
    return np.ascontiguousarray(np.rot90(image, frame.rotation_deg // 90))
