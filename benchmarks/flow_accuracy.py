"""How near to the known motion flow is, each method against the defaults of OpenCV's solver of its kind.

The pairs are those of `benchmarks.known_flow`: a generated texture and a real frame, warped by small, medium and large
fields. `HELD_OUT` shifts the fields and the noise away from the pairs that settings were chosen on.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy import ErrorComparison
from benchmarks.clips import real_clips
from benchmarks.known_flow import MOTIONS_PX, KnownPair, endpoint_error_px, known_sequence, texture
from kineflow.video.extract import FrameSize, extract_frames
from kineflow.video.flow import compute_flow, create_flow, opencv_flows
from kineflow.video.flow_store import FlowReader, FlowRule
from kineflow.video.frame_store import FrameReader

HEIGHT_PX, WIDTH_PX, MARGIN_PX = 240, 320, 24
NUM_PAIRS = 2
HELD_OUT = 31  # the number of the first pair
STORED_ERROR_PX = 0.23  # of 8 bits at +-20 px and JPEG 90, as first measured on other clips

REFERENCES: dict[str, tuple[str, Callable[[], cv2.DenseOpticalFlow]]] = {
    "tvl1": ("DualTVL1", cv2.optflow.DualTVL1OpticalFlow.create),
    "dis_medium": ("DIS medium", lambda: cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)),
}


def main() -> list[ErrorComparison]:
    """Print the errors; half a minute."""
    cv2.setNumThreads(1)
    found = []
    for scene, canvas in canvases().items():
        for motion, amplitude_px in MOTIONS_PX:
            pairs = list(
                known_sequence(
                    canvas, amplitude_px, height=HEIGHT_PX, width=WIDTH_PX, num_pairs=NUM_PAIRS, first=HELD_OUT
                )
            )
            for method, (reference, create) in REFERENCES.items():
                solver = create()
                ours_px = mean_error_px(create_flow(method), pairs)
                reference_px = mean_error_px(lambda a, b, solver=solver: solver.calc(a, b, None), pairs)
                name = f"endpoint error of {method}, {scene}, {motion} motion; {reference}"
                found.append(ErrorComparison(name, ours_px, reference_px, "px"))
                print(found[-1], flush=True)
    for source in real_clips("ut_interaction/videos/*.avi", limit=1):
        found.append(storage(source))
        print(found[-1], flush=True)
    return found


def canvases() -> dict[str, NDArray[np.float32]]:
    """Gray pictures with a margin, by name: a texture, and a real frame where one is at hand."""
    size = {"height": HEIGHT_PX + 2 * MARGIN_PX, "width": WIDTH_PX + 2 * MARGIN_PX}
    found = {"texture": texture(HELD_OUT, **size)}
    for source in real_clips("ut_interaction/videos/*.avi", limit=1):
        with av.open(str(source)) as container:
            gray = next(container.decode(video=0)).to_ndarray(format="gray")
        large = cv2.resize(gray, (size["width"], size["height"]), interpolation=cv2.INTER_AREA)
        found["real frame"] = large.astype(np.float32)
    return found


def mean_error_px(
    flow_between: Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.float32]], pairs: list[KnownPair]
) -> float:
    """Mean endpoint error over pairs."""
    return float(np.mean([endpoint_error_px(flow_between(pair.before, pair.after), pair.flow) for pair in pairs]))


def storage(source: Path, *, bound_px: float = 20.0, jpeg_quality: int = 90) -> ErrorComparison:
    """What 8 bits and JPEG cost: the endpoint error of stored flow against float32, and the bytes of a pair."""
    with tempfile.TemporaryDirectory() as name:
        frames, flow = Path(name) / "frames.zip", Path(name) / "flow.zip"
        extract_frames(source, frames, fps=15.0, size=FrameSize(HEIGHT_PX, WIDTH_PX), jpeg_quality=95)
        compute_flow(frames, flow, rule=FlowRule("dis_medium", bound_px), jpeg_quality=jpeg_quality)
        with FrameReader(frames) as reader, FlowReader(flow) as stored:
            errors_px = [
                float(np.linalg.norm(stored.read([item])[0] - exact, axis=-1).mean())
                for item, exact in enumerate(opencv_flows(reader, "dis_medium"))
            ]
        kilobytes = flow.stat().st_size / len(errors_px) / 1000
    label = (
        f"error of flow stored at +-{bound_px:g} px, JPEG {jpeg_quality} ({kilobytes:.1f} KB a pair); first measured"
    )
    return ErrorComparison(label, float(np.mean(errors_px)), STORED_ERROR_PX, "px")


if __name__ == "__main__":
    main()
