"""Flow as the stage makes it (frames read from the pack, flow quantised and stored) against OpenCV's bare call."""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from benchmarks.clips import real_clips, write_clip
from benchmarks.processes import two_processes
from benchmarks.timing import Comparison, compare
from kineflow.video.extract import FrameSize, extract_frames
from kineflow.video.flow import DIS_DESCENT_STEPS, compute_flow
from kineflow.video.flow_store import FlowRule
from kineflow.video.frame_store import FrameReader

SAME = f"dis_medium of {DIS_DESCENT_STEPS} steps"  # as ours is set; OpenCV's preset takes 25
Solver = cv2.DISOpticalFlow | cv2.optflow.DualTVL1OpticalFlow


def _as_ours(solver: cv2.DISOpticalFlow) -> cv2.DISOpticalFlow:
    solver.setGradientDescentIterations(DIS_DESCENT_STEPS)
    return solver


SOLVERS: dict[str, Callable[[], Solver]] = {
    "dis_fast": lambda: cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST),
    "dis_medium": lambda: cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM),
    SAME: lambda: _as_ours(cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)),
    "tvl1": lambda: cv2.optflow.DualTVL1OpticalFlow.create(),
}


def bare_loop(frames: list[np.ndarray], solver: Solver) -> int:
    """Only the flow, of frames that lie in memory as gray; nothing is read or kept."""
    for before, after in pairwise(frames):
        solver.calc(before, after, None)
    return len(frames) - 1


def main() -> list[Comparison]:
    """Print the ratios; some fifteen seconds."""
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        clip = write_clip(root / "clip.mp4", codec="h264", height=240, width=320, fps=30, num_frames=40)
        sources = [("generated", clip)] + [
            ("real", path) for path in real_clips("ut_interaction/videos/*.avi", limit=1)
        ]
        cases = [("generated", "dis_fast", 90), ("generated", "dis_medium", None), ("generated", "dis_medium", 90)]
        for label, source in sources:
            fps = 30.0 if label == "generated" else 15.0
            extract_frames(source, root / f"{label}.zip", fps=fps, size=FrameSize(240, 320), jpeg_quality=95)
        cases += [("generated", SAME, None), ("generated", SAME, 90)]
        cases += [(label, "dis_medium", 90) for label, _ in sources[1:]]
        found = [
            _compare(label, root / f"{label}.zip", root, method=method, jpeg_quality=jpeg_quality)
            for label, method, jpeg_quality in cases
        ]
        short = root / "short.zip"
        clip = write_clip(root / "short.mp4", codec="h264", height=240, width=320, fps=30, num_frames=3)
        extract_frames(clip, short, fps=30.0, size=FrameSize(240, 320), jpeg_quality=95)
        found.append(_compare("generated", short, root, method="tvl1", jpeg_quality=90))
        work = partial(_store_flow, root / "generated.zip")
        return [*found, two_processes("dis_medium flow 240x320 and JPEG 90", work, root, num_times=8)]


def _store_flow(frames: Path, target: Path) -> None:
    compute_flow(frames, target, rule=FlowRule("dis_medium", 20.0), jpeg_quality=90)


def _compare(label: str, frames: Path, root: Path, *, method: str, jpeg_quality: int | None) -> Comparison:
    with FrameReader(frames) as reader:
        grays = [reader.read_gray(index).copy() for index in range(reader.num_frames)]

    def ours() -> int:
        rule = FlowRule(method.split()[0], 20.0)
        return compute_flow(frames, root / "flow.zip", rule=rule, jpeg_quality=jpeg_quality)

    solver = SOLVERS[method]()
    stored = "PNG" if jpeg_quality is None else f"JPEG {jpeg_quality}"
    return compare(
        f"{method} flow 240x320 and {stored}, {label}",
        ours,
        lambda: bare_loop(grays, solver),
        max_sec=1.5,
        clock=time.process_time,
        num_items=len(grays) - 1,
        unit="flows",
    )


if __name__ == "__main__":
    main()
