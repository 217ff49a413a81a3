"""Extraction holds a few frames, whatever the video's length: 5 and 20 minutes of 60 fps in the same memory."""

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

MAX_MB = 600
MAX_SLOPE_MB_PER_MIN = 1.0
FPS = 60
LOOP_SEC = 10

# A process of its own for each length; VmHWM is its own peak, in KiB; ru_maxrss would be that of the tests, if higher.
EXTRACT = """
import json, sys
from pathlib import Path
from kineflow.video.extract import FrameSize, extract_frames
from kineflow.video.sampling import VideoLength
num_frames = int(sys.argv[3])
length = VideoLength(num_frames, num_frames / 60) if sys.argv[4] == "dropping" else None
size, fps = FrameSize(short_side_px=int(sys.argv[6])), float(sys.argv[5])
found = extract_frames(Path(sys.argv[1]), Path(sys.argv[2]), fps=fps, size=size, jpeg_quality=95, length=length)
print(json.dumps([found, int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024]))
"""


def write_loop(path: Path, *, num_minutes: int, height: int) -> int:
    """So many minutes of H.264 of 16:9 at 60 fps, ten seconds over and over; returns the number of frames."""
    width, square = height * 16 // 9, height // 27
    noise = np.random.default_rng(0).integers(0, 256, (27, 128), np.uint8)
    chroma = np.full((height // 2, width), 128, np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("h264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"preset": "ultrafast", "bf": "2", "crf": "35"}
        stream.codec_context.gop_size = FPS
        frames = []
        for index in range(FPS * LOOP_SEC):
            smooth = np.repeat(np.repeat(noise[:, index % 64 : index % 64 + 48], square, 0), square, 1)
            image = np.concatenate([smooth, chroma])
            frames += stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="yuv420p"))
        frames += stream.encode(None)
        ticks = round(Fraction(LOOP_SEC) / frames[0].time_base)
        kept = [(bytes(frame), frame.pts, frame.dts, frame.duration, frame.is_keyframe) for frame in frames]
        time_base = frames[0].time_base
        for turn in range(num_minutes * 60 // LOOP_SEC):
            for data, pts, dts, duration, is_keyframe in kept:
                packet = av.Packet(data)
                packet.stream, packet.time_base = stream, time_base
                packet.pts, packet.dts, packet.duration = pts + turn * ticks, dts + turn * ticks, duration
                packet.is_keyframe = is_keyframe
                container.mux(packet)
    return FPS * 60 * num_minutes


def peak_mb(source: Path, *, num_frames: int, way: str, fps: int, short_side_px: int) -> float:
    paths = [str(source), str(source.with_suffix(".zip"))]
    command = [sys.executable, "-c", EXTRACT, *paths, str(num_frames), way, str(fps), str(short_side_px)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found, megabytes = json.loads(done.stdout)
    assert found == num_frames * fps // FPS
    return float(megabytes)


def check_slope(folder: Path, *, way: str, fps: int, height: int, short_side_px: int) -> None:
    peaks = {}
    for num_minutes in (5, 20):
        source = folder / f"{num_minutes}.mp4"
        num_frames = write_loop(source, num_minutes=num_minutes, height=height)
        peaks[num_minutes] = peak_mb(source, num_frames=num_frames, way=way, fps=fps, short_side_px=short_side_px)
    slope = (peaks[20] - peaks[5]) / 15
    print(f"{way} at {fps} fps: {peaks[5]:.0f} MB at 5 minutes, {peaks[20]:.0f} at 20, {slope:.2f} MB a minute")
    assert max(peaks.values()) < MAX_MB
    assert slope < MAX_SLOPE_MB_PER_MIN


@pytest.mark.soak
@pytest.mark.parametrize("fps", [10, FPS])
@pytest.mark.parametrize("way", ["dropping", "everything"])
def test_memory_does_not_grow_with_the_length_of_a_video(tmp_path: Path, way: str, fps: int) -> None:
    check_slope(tmp_path, way=way, fps=fps, height=1080, short_side_px=256)


def test_nor_does_it_where_every_frame_is_extracted(tmp_path: Path) -> None:
    """Pictures so small that it takes seconds: what is kept of each frame is the same."""
    check_slope(tmp_path, way="dropping", fps=FPS, height=54, short_side_px=32)
