"""Thumbnails by seeking are those of decoding everything, and cost neither its time nor its memory."""

import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from kineflow.errors import DecodeError
from kineflow.video import thumbnails as module
from kineflow.video.thumbnails import last_shown_sec, thumbnails

FPS, SIDE = 10, 64


def write_steps(path: Path, *, num_frames: int, codec: str = "h264", gop: int = 20) -> Path:
    """Gray frames, each of its own brightness for half a second; B-frames, and a key frame every two seconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=FPS)
        stream.width = stream.height = SIDE
        stream.pix_fmt, stream.codec_context.gop_size = "yuv420p", gop
        stream.options = {"bf": "2"} if codec == "h264" else {"qscale": "2"}
        for index in range(num_frames):
            gray = np.full((SIDE * 3 // 2, SIDE), 128, np.uint8)
            gray[:SIDE] = brightness(index)
            image = av.VideoFrame.from_ndarray(gray, "yuv420p")
            image.pts, image.time_base = index, Fraction(1, FPS)
            container.mux(stream.encode(image))
        container.mux(stream.encode(None))
    return path


def brightness(index: int) -> int:
    return 40 + 17 * (index // 5) % 160


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.ts"])
def test_each_time_shows_the_last_frame_not_after_it(tmp_path: Path, name: str) -> None:
    codec = "mpeg4" if name == "a.avi" else "h264"
    path = write_steps(tmp_path / name, num_frames=200, codec=codec)
    times_sec = [19.0, 0.0, 7.26, 7.21, 0.95, 12.04, 99.0]
    found = thumbnails(path, times_sec, size_px=(32, 16))
    assert [picture.size for picture in found] == [(16, 16)] * 7
    frames = [min(199, int(time_sec * FPS + 1e-9)) for time_sec in times_sec]
    plain = list(module._decoded(path, sorted(times_sec), (32, 16)))
    by_time = dict(zip(sorted(times_sec), plain, strict=True))
    for picture, time_sec, index in zip(found, times_sec, frames, strict=True):
        np.testing.assert_array_equal(picture, by_time[time_sec])
        wanted = (brightness(index) - 16) * 255 / 219  # of limited range
        assert abs(float(np.mean(picture.convert("L"))) - wanted) < 8
    assert last_shown_sec(path) == pytest.approx(19.9)


def test_what_lies_between_is_not_decoded(tmp_path: Path) -> None:
    path = write_steps(tmp_path / "a.mp4", num_frames=6000)
    times_sec = [300.0, 590.0]
    thumbnails(path, [1.0], size_px=(16, 16))  # what is loaded first
    started = time.perf_counter()
    found = thumbnails(path, times_sec, size_px=(16, 16))
    sought = time.perf_counter()
    plain = list(module._decoded(path, times_sec, (16, 16)))
    decoded = time.perf_counter()
    np.testing.assert_array_equal(np.stack(found), np.stack(plain))
    assert sought - started < (decoded - sought) / 5


def test_a_file_that_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("no")
    for function in (lambda path: thumbnails(path, [0.0], size_px=(16, 16)), last_shown_sec):
        with pytest.raises(DecodeError, match="cannot be read"):
            function(tmp_path / "a.mp4")
