from fractions import Fraction
from pathlib import Path
from random import Random

import av
import numpy as np
import pytest

from benchmarks.clips import write_clip
from kineflow.errors import DecodeError
from kineflow.video.probe import probe
from kineflow.video.timeline import Timeline


def write_video(path: Path, ticks: list[int], *, tick: Fraction, size: tuple[int, int] = (32, 48)) -> None:
    """An MPEG-4 video whose frame i is shown at ticks[i] and is grey of value 8 * i."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width = size
        stream.time_base = stream.codec_context.time_base = tick
        for index, pts in enumerate(ticks):
            frame = av.VideoFrame.from_ndarray(np.full((*size, 3), 8 * index, np.uint8), format="rgb24")
            frame.pts, frame.time_base = pts, tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def test_a_steady_video(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, list(range(10)), tick=Fraction(1, 25))
    info = probe(path)
    assert (info.num_frames, info.width, info.height, info.codec) == (10, 48, 32, "mpeg4")
    assert (info.fps_num, info.fps_den, info.variable_rate, info.rotation_deg) == (25, 1, False, 0)
    np.testing.assert_allclose(info.timestamps_sec, np.arange(10) / 25, atol=1e-12)
    assert info.duration_sec == pytest.approx(0.4)


def test_a_variable_rate_keeps_its_timestamps_from_the_first_frame(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    write_video(path, [40, 80, 200, 240, 500], tick=Fraction(1, 1000))
    info = probe(path)
    assert info.variable_rate
    np.testing.assert_allclose(info.timestamps_sec, [0, 0.04, 0.16, 0.2, 0.46], atol=1e-12)


@pytest.mark.parametrize("content", [b"", b"not a video at all\n" * 50])
def test_what_is_no_video_is_refused_with_a_reason(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(DecodeError, match="cannot be read") as caught:
        probe(path)
    assert str(tmp_path) not in str(caught.value)


def test_a_missing_file_and_a_web_address_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match="not there"):
        probe(tmp_path / "none.mp4")
    with pytest.raises(DecodeError, match="not there"):
        probe(Path("http://127.0.0.1:9/a.mp4"))


def test_a_playlist_is_not_followed_to_the_network(tmp_path: Path) -> None:
    path = tmp_path / "list.m3u8"
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(DecodeError):
        probe(path)


def test_times_fall_back_on_decoding_times_as_in_ffmpeg() -> None:
    timeline = Timeline(Fraction(1, 25), Fraction(25))
    pairs = [(1, 1), (2, 2), (4, 3), (3, 4), (5, 5), (7, 6), (6, 7), (8, None)]
    # By hand: the first step back of the pts (4 to 3) makes the dts the better clock from there on.
    assert [round(timeline.add(pts, dts, 1)[0] * 25) + 1 for pts, dts in pairs] == [1, 2, 4, 4, 5, 6, 7, 8]


def test_frames_without_any_time_follow_the_stated_rate_or_are_refused() -> None:
    timeline = Timeline(Fraction(1, 1000), Fraction(20))
    assert [timeline.add(None, None, None) for _ in range(3)] == [(0.0, 0.05), (0.05, 0.05), (0.1, 0.05)]
    unknown = Timeline(Fraction(1, 1000), None)
    assert unknown.add(None, None, None) == (0.0, 0.0)
    with pytest.raises(DecodeError, match="no timestamps"):
        unknown.add(None, None, None)


NUM_DAMAGED = 30


def damage(path: Path, *, seed: int) -> None:
    """Overwrite 64 bytes in the middle half of the file."""
    random = Random(seed)
    data = bytearray(path.read_bytes())
    start = random.randrange(len(data) // 4, 3 * len(data) // 4)
    data[start : start + 64] = random.randbytes(64)
    path.write_bytes(data)


@pytest.mark.parametrize(("codec", "name"), [("mpeg4", "a.avi"), ("h264", "a.mp4")])
def test_damage_that_the_decoder_patches_over_is_counted(codec: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    write_clip(path, codec=codec, height=120, width=160, fps=30, num_frames=60)
    whole = path.read_bytes()
    assert probe(path).num_corrupt_frames == 0
    found = []
    for seed in range(NUM_DAMAGED):
        path.write_bytes(whole)
        damage(path, seed=seed)
        try:
            found.append(probe(path).num_corrupt_frames)
        except DecodeError:
            found.append(-1)
    assert max(found) <= 60
    # streams have no checksums: here and there 64 other bytes are as good a stream as the first
    assert sum(count != 0 for count in found) >= 0.9 * NUM_DAMAGED, found
    assert sum(count > 0 for count in found) >= 0.5 * NUM_DAMAGED, found
