"""Extraction against the `ffmpeg` tool and the loop that one writes first: PyAV to BGR, scaled and kept by OpenCV."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import av
import cv2

from benchmarks.clips import real_clips, write_clip
from benchmarks.processes import two_processes
from benchmarks.timing import Comparison, compare
from kineflow.video.extract import FrameSize, extract_frames
from kineflow.video.probe import probe
from kineflow.video.sampling import VideoLength

QUALITY = 95
FFMPEG_QUALITY = ("-qmin", "1", "-q:v", "1")  # files as large as those of JPEG quality 95, within an eighth


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


def ffmpeg_files(source: Path, folder: Path, *, fps: float, size: FrameSize) -> None:
    """The same by the command line tool, on one thread."""
    folder.mkdir(exist_ok=True)
    with av.open(str(source)) as container:
        stream = container.streams.video[0]
        height, width = size.of(stream.height, stream.width)
    one = ("-threads", "1")
    command = ["ffmpeg", "-v", "error", "-y", *one, "-filter_threads", "1", "-i", str(source)]
    command += ["-vf", f"fps={fps},scale={width}:{height}:flags=area", *one, *FFMPEG_QUALITY]
    subprocess.run([*command, str(folder / "%06d.jpg")], check=True)


def processor_sec() -> float:
    """Of this process and of those it started and awaited."""
    return sum(os.times()[:4])


def main() -> list[Comparison]:
    """Print the ratios; a minute."""
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        hd = write_clip(root / "hd.mp4", codec="h264", height=1080, width=1920, fps=60, num_frames=360)
        no_b = write_clip(
            root / "no_b.mp4", codec="h264", height=1080, width=1920, fps=60, num_frames=180, num_b_frames=0
        )
        small = write_clip(root / "small.mp4", codec="h264", height=240, width=320, fps=30, num_frames=900)
        large, same = FrameSize(short_side_px=256), FrameSize(short_side_px=240)
        cases = [
            ("1080p60 H.264 to 10 fps, short side 256", [hd], 10.0, large, True),
            ("1080p60 H.264 without B-frames to 10 fps, short side 256", [no_b], 10.0, large, True),
            ("320x240 H.264 to 10 fps, short side 256", [small], 10.0, large, True),
            ("320x240 H.264, every frame", [small], 30.0, same, True),
        ]
        avi = real_clips("ut_interaction/videos/*.avi", limit=6)
        if avi:
            label = f"{len(avi)} real MPEG-4 AVI clips"
            cases.append((f"{label} to 10 fps, short side 256", avi, 10.0, large, False))
            cases.append((f"{label}, every frame, 112x144", avi, 30.0, FrameSize(112, 144), False))
        comparisons = []
        for label, sources, fps, size, beside_ffmpeg in cases:
            comparisons += _compare(label, sources, root, fps=fps, size=size, beside_ffmpeg=beside_ffmpeg)
        alone = [_without_help(how, hd, root) for how in ("no length known", "the first look of ingest included")]
        return [*comparisons, *alone, _two_processes(hd, root)]


def _compare(
    label: str, sources: list[Path], root: Path, *, fps: float, size: FrameSize, beside_ffmpeg: bool
) -> list[Comparison]:
    lengths = [VideoLength(info.num_frames, info.duration_sec) for info in map(probe, sources)]

    def ours() -> int:
        target = root / "pack.zip"
        return sum(
            extract_frames(source, target, fps=fps, size=size, jpeg_quality=QUALITY, length=length)
            for source, length in zip(sources, lengths, strict=True)
        )

    def by_loop() -> int:
        return sum(plain_loop(source, root / "frames", fps=fps, size=size) for source in sources)

    def by_ffmpeg() -> None:
        for source in sources:
            ffmpeg_files(source, root / "files", fps=fps, size=size)

    def against(reference: Callable[[], object], name: str) -> Comparison:
        return compare(
            f"extract {label}; {name}",
            ours,
            reference,
            num_rounds=7,
            max_sec=15.0,
            num_items=ours(),
            unit="extracted frames",
            clock=processor_sec,
        )

    found = [against(by_loop, "PyAV and OpenCV")]
    if beside_ffmpeg and shutil.which("ffmpeg"):
        found.append(against(by_ffmpeg, "ffmpeg"))
    return found


def _without_help(how: str, source: Path, root: Path) -> Comparison:
    """Extraction by itself: `ingest` has decoded every video once, and told the length that lets frames be dropped."""
    size = FrameSize(short_side_px=256)

    def ours() -> None:
        if how != "no length known":
            info = probe(source)
            _extract(source, VideoLength(info.num_frames, info.duration_sec), root / "pack.zip")
            return
        extract_frames(source, root / "pack.zip", fps=10.0, size=size, jpeg_quality=QUALITY)

    return compare(
        f"extract 1080p60 H.264 to 10 fps, {how}; PyAV and OpenCV",
        ours,
        lambda: plain_loop(source, root / "frames", fps=10.0, size=size),
        num_rounds=5,
        max_sec=15.0,
        clock=processor_sec,
    )


def _extract(source: Path, length: VideoLength, target: Path) -> None:
    extract_frames(source, target, fps=10.0, size=FrameSize(short_side_px=256), jpeg_quality=QUALITY, length=length)


def _two_processes(source: Path, root: Path) -> Comparison:
    info = probe(source)
    work = partial(_extract, source, VideoLength(info.num_frames, info.duration_sec))
    return two_processes("extract 1080p60 H.264", work, root, num_times=6)


if __name__ == "__main__":
    main()
