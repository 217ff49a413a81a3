"""Extraction against the loop that one writes first: PyAV to BGR arrays, scaled and written as JPEG files by OpenCV."""

import tempfile
import time
from pathlib import Path

import av
import cv2

from benchmarks.clips import real_clips, write_clip
from benchmarks.timing import Comparison, compare
from kineflow.video.extract import FrameSize, extract_frames

QUALITY = 95


def plain_loop(source: Path, folder: Path, *, fps: float, size: FrameSize) -> int:
    """One JPEG file for each frame at `fps`, on one thread, as ours."""
    folder.mkdir(exist_ok=True)
    num_written = 0
    with av.open(str(source)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for frame in container.decode(stream):
            if num_written / fps > frame.time + 0.0005:
                continue  # not asked for: not converted
            image = frame.to_ndarray(format="bgr24")
            while num_written / fps <= frame.time + 0.0005:
                height, width = size.of(*image.shape[:2])
                small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
                options = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
                cv2.imwrite(str(folder / f"{num_written:06d}.jpg"), small, options)
                num_written += 1
    return num_written


def main() -> list[Comparison]:
    """Print the ratios; some fifteen seconds."""
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        hd = write_clip(root / "hd.mp4", codec="h264", height=1080, width=1920, fps=60, num_frames=60)
        small = write_clip(root / "small.mp4", codec="h264", height=240, width=320, fps=30, num_frames=150)
        cases = [
            ("1080p60 H.264 to 10 fps, short side 256", [hd], 10.0, FrameSize(short_side_px=256)),
            ("320x240 H.264, every frame", [small], 30.0, FrameSize(short_side_px=240)),
            ("320x240 H.264 to 10 fps, 112x112", [small], 10.0, FrameSize(112, 112)),
        ]
        avi = real_clips("ut_interaction/videos/*.avi", limit=4)
        if avi:
            cases.append((f"{len(avi)} real MPEG-4 AVI clips to 10 fps, 112x144", avi, 10.0, FrameSize(112, 144)))
        return [_compare(label, sources, root, fps=fps, size=size) for label, sources, fps, size in cases]


def _compare(label: str, sources: list[Path], root: Path, *, fps: float, size: FrameSize) -> Comparison:
    def ours() -> int:
        return sum(
            extract_frames(source, root / "pack.zip", fps=fps, size=size, jpeg_quality=QUALITY) for source in sources
        )

    def reference() -> int:
        return sum(plain_loop(source, root / "frames", fps=fps, size=size) for source in sources)

    label, unit = f"extract {label}", "extracted frames"
    return compare(label, ours, reference, max_sec=3.0, num_items=ours(), unit=unit, clock=time.process_time)


if __name__ == "__main__":
    main()
