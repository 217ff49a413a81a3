"""Optical flow between consecutive extracted frames, by OpenCV on one thread: processes scale, its threads do not."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from kineflow.errors import DataError
from kineflow.store import digest
from kineflow.video.flow_store import FlowRule, writing_flow
from kineflow.video.frame_store import FrameReader
from kineflow.video.roi import hold_crop

# Rises whenever the same frames and params would give other flow or another file; guarded by a golden test.
CODE_VERSION = 3

MIN_SIDE_PX = 12  # DIS refuses smaller frames
DIS_DESCENT_STEPS = 16  # of 25 in OpenCV's medium preset: as near to the truth, 8% sooner done
FARNEBACK = {
    "pyr_scale": 0.5,
    "levels": 4,
    "winsize": 15,
    "iterations": 3,
    "poly_n": 5,
    "poly_sigma": 1.2,
    "flags": 0,
}

Gray = NDArray[np.uint8]
Flow = NDArray[np.float32]
FlowFunction = Callable[[Gray, Gray], Flow]


def _dis_fast() -> FlowFunction:
    return _bind(cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST))


def _dis_medium() -> FlowFunction:
    solver = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    solver.setGradientDescentIterations(DIS_DESCENT_STEPS)
    return _bind(solver)


def _farneback() -> FlowFunction:
    def flow_between(before: Gray, after: Gray) -> Flow:
        flow: Flow = cv2.calcOpticalFlowFarneback(before, after, None, **FARNEBACK)  # type: ignore[call-overload]
        return flow

    return flow_between


def _tvl1() -> FlowFunction:
    initial = _dis_medium()
    # at full size only: docs/decisions/2026-11-21-tvl1-starts-from-dis.md
    solver = cv2.optflow.DualTVL1OpticalFlow.create(useInitialFlow=True, nscales=1, warps=2, epsilon=0.02)

    def flow_between(before: Gray, after: Gray) -> Flow:
        flow: Flow = solver.calc(before, after, initial(before, after))
        return flow

    return flow_between


METHODS: tuple[tuple[str, Callable[[], FlowFunction]], ...] = (
    ("dis_fast", _dis_fast),  # Kroeger 2016
    ("dis_medium", _dis_medium),
    ("farneback", _farneback),  # Farneback 2003
    ("tvl1", _tvl1),  # Zach 2007, as in Sanchez 2013, begun from DIS
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


def opencv_flows(reader: FrameReader, method: str) -> Iterator[Flow]:
    """The flow of each frame to the next, float32 (H, W, 2), one after the other."""
    cv2.setNumThreads(1)
    flow_between = create_flow(method)
    before = reader.read_gray(0)
    for item in range(1, reader.num_frames):
        after = reader.read_gray(item)
        yield flow_between(before, hold_crop(before, after, reader.crop_steps_T2[item - 1]))
        before = after


def flow_key(frames_key: str, rule: FlowRule, jpeg_quality: int | None) -> str:
    """The key of the flow between the frames of that key."""
    described = {"rule": asdict(rule), "jpeg_quality": jpeg_quality}
    return digest(kind="flow", code=CODE_VERSION, frames=frames_key, params=described)


def compute_flow(
    frames: Path,
    target: Path,
    *,
    rule: FlowRule,
    jpeg_quality: int | None,
    flows_of: Callable[[FrameReader], Iterator[Flow]] | None = None,
) -> int:
    """Write the flow store of the frame store `frames` to `target`: N - 1 flows for N frames.

    A crop that moves is held between the two frames of each flow (see `hold_crop`).

    Args:
        rule: names the method, and how displacements become 8-bit.
        jpeg_quality: of the 8-bit images, or None for lossless PNG.
        flows_of: computes the flow of each frame to the next; None for OpenCV by a name of `METHODS`.

    Returns:
        the number of flows.

    Raises:
        DataError: the frames are missing, cut off, or smaller than MIN_SIDE_PX.
    """
    with FrameReader(frames) as reader:
        if min(reader.height, reader.width) < MIN_SIDE_PX:
            size = f"{reader.width}x{reader.height} pixels"
            raise DataError(f"flow needs frames of at least {MIN_SIDE_PX} pixels a side, these have {size}")
        flows = opencv_flows(reader, rule.method) if flows_of is None else flows_of(reader)
        store = writing_flow(
            target, rule=rule, fps=reader.fps, height=reader.height, width=reader.width, jpeg_quality=jpeg_quality
        )
        with store as writer:
            for flow in flows:
                writer.append(flow)
        return reader.num_frames - 1


def _bind(solver: "cv2.DenseOpticalFlow") -> FlowFunction:
    def flow_between(before: Gray, after: Gray) -> Flow:
        flow: Flow = solver.calc(before, after, None)
        return flow

    return flow_between
