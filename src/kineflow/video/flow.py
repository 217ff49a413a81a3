"""Optical flow between consecutive extracted frames, by OpenCV on one thread: processes scale, its threads do not."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from kineflow.errors import DataError
from kineflow.video.flow_store import FlowRule, writing_flow
from kineflow.video.frame_store import FrameReader
from kineflow.video.roi import hold_crop

# Rises whenever the same frames and params would give other flow or another file; guarded by a golden test.
CODE_VERSION = 1

MIN_SIDE_PX = 12  # DIS refuses smaller frames
TVL1_EPSILON = 0.03  # where the solver stops: OpenCV's 0.01 takes several times as long and is no closer to the truth

Gray = NDArray[np.uint8]
FlowFunction = Callable[[Gray, Gray], NDArray[np.float32]]


def _dis_fast() -> FlowFunction:
    return _bind(cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST))


def _dis_medium() -> FlowFunction:
    return _bind(cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM))


def _tvl1() -> FlowFunction:
    return _bind(cv2.optflow.DualTVL1OpticalFlow.create(epsilon=TVL1_EPSILON))


METHODS: tuple[tuple[str, Callable[[], FlowFunction]], ...] = (
    ("dis_fast", _dis_fast),  # Kroeger 2016
    ("dis_medium", _dis_medium),
    ("tvl1", _tvl1),  # Zach 2007, as in Sanchez 2013
)


def create_flow(method: str) -> FlowFunction:
    """A function from two gray frames, uint8 (H, W), to the flow from the first to the second.

    The flow is float32 (H, W, 2), x then y, in pixels: what is at (x, y) in the first frame is at (x, y) + flow in the
    second. Make one for each size of frames: OpenCV's solvers adapt to the first size they see.

    Raises:
        ValueError: the method is not known.
    """
    known = dict(METHODS)
    if method not in known:
        raise ValueError(f"unknown flow method {method!r}; known: {', '.join(known)}")
    return known[method]()


def compute_flow(frames: Path, target: Path, *, method: str, bound_px: float, jpeg_quality: int | None) -> int:
    """Write the flow store of the frame store `frames` to `target`: N - 1 flows for N frames.

    A crop that moves is held between the two frames of each flow (see `hold_crop`).

    Args:
        method: a name of `METHODS`.
        bound_px: displacements beyond it are clipped.
        jpeg_quality: of the 8-bit images, or None for lossless PNG.

    Returns:
        the number of flows.

    Raises:
        DataError: the frames are missing, cut off, or smaller than MIN_SIDE_PX.
    """
    cv2.setNumThreads(1)
    with FrameReader(frames) as reader:
        if min(reader.height, reader.width) < MIN_SIDE_PX:
            size = f"{reader.width}x{reader.height} pixels"
            raise DataError(f"flow needs frames of at least {MIN_SIDE_PX} pixels a side, these have {size}")
        flow_between = create_flow(method)
        rule = FlowRule(method, bound_px)
        store = writing_flow(
            target, rule=rule, fps=reader.fps, height=reader.height, width=reader.width, jpeg_quality=jpeg_quality
        )
        with store as writer:
            before = reader.read_gray(0)
            for item in range(1, reader.num_frames):
                after = reader.read_gray(item)
                writer.append(flow_between(before, hold_crop(before, after, reader.crop_steps_T2[item - 1])))
                before = after
        return reader.num_frames - 1


def _bind(solver: "cv2.DenseOpticalFlow") -> FlowFunction:
    def flow_between(before: Gray, after: Gray) -> NDArray[np.float32]:
        flow: NDArray[np.float32] = solver.calc(before, after, None)
        return flow

    return flow_between
