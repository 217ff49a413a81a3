"""Stores of frames and flow that tests make up."""

from pathlib import Path

import numpy as np
import simplejpeg

from kineflow.video.flow_store import FlowReader, FlowRule, writing_flow
from kineflow.video.frame_store import FrameReader, writing_frames

RULE = FlowRule("dis_medium", bound_px=8.0)


def make_stores(folder: Path, gray_THW: np.ndarray, flow_THW2: np.ndarray) -> tuple[FrameReader, FlowReader]:
    """Stores of T + 1 gray frames and T flows."""
    folder.mkdir(parents=True, exist_ok=True)
    _, height, width = gray_THW.shape
    with writing_frames(folder / "frames.zip", fps=10.0, height=height, width=width, quality=100) as writer:
        for item, gray_HW in enumerate(gray_THW):
            pixels_HW3 = np.ascontiguousarray(np.repeat(gray_HW.astype(np.uint8)[..., None], 3, axis=2))
            jpeg = simplejpeg.encode_jpeg(pixels_HW3, quality=100, colorsubsampling="444")
            writer.append(jpeg, source_frame=item, timestamp_sec=item / 10)
    with writing_flow(
        folder / "flow.zip", rule=RULE, fps=10.0, height=height, width=width, jpeg_quality=None
    ) as flow_writer:
        for flow_HW2 in flow_THW2:
            flow_writer.append(np.ascontiguousarray(flow_HW2, np.float32))
    return FrameReader(folder / "frames.zip"), FlowReader(folder / "flow.zip")


def smooth_video(num_flows: int, height: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Smooth gray frames (T + 1, H, W) and flow (T, H, W, 2), all different."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / max(height, width)

    def waves(count: int) -> np.ndarray:
        a, b, c = (rng.uniform(-9, 9, (count, 1, 1)) for _ in range(3))
        return np.sin(a * x + b * y + c)

    gray = (128 + 100 * waves(num_flows + 1)).astype(np.uint8)
    return gray, np.stack([2 * waves(num_flows), 3 * waves(num_flows)], axis=-1).astype(np.float32)
