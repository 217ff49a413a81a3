"""Videos to measure on: generated ones that are the same everywhere, and real ones where they are at hand."""

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from kineflow.sample.render import X264_PARAMS

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def write_clip(
    path: Path, *, codec: str, height: int, width: int, fps: int, num_frames: int, num_b_frames: int = 3
) -> Path:
    """A textured scene that drifts under a moving disc, with camera noise that differs from frame to frame.

    Args:
        num_b_frames: at most so many in a row, in H.264; 3 is x264's default.
    """
    random = np.random.default_rng(0)
    margin = num_frames
    coarse = random.integers(40, 216, (height // 16 + 2, (width + margin) // 16 + 2, 3), np.uint8)
    scene = cv2.resize(coarse, (width + margin, height), interpolation=cv2.INTER_CUBIC)
    scene = cv2.add(scene, random.integers(0, 24, scene.shape, np.uint8))
    grain = random.integers(0, 6, (2 * height, width), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(fps))
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        of_h264 = {"preset": "veryfast", "crf": "23", "bf": str(num_b_frames), "x264-params": X264_PARAMS}
        stream.options = of_h264 if codec == "h264" else {"qscale": "4"}
        for index in range(num_frames):
            image = scene[:, index : index + width].copy()
            image[:, :, 1] = cv2.add(image[:, :, 1], grain[random.integers(height) :][:height])
            centre = (width // 4 + 2 * index % (width // 2), height // 2)
            cv2.circle(image, centre, height // 6, (200, 60, 90), -1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode(None))
    return path


def real_clips(pattern: str, *, limit: int) -> list[Path]:
    """Some of the videos beside the repository, by a glob under `shared/data`; none where that is not there."""
    return sorted(SHARED_DATA.glob(pattern))[:limit]
