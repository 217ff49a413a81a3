import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from kineflow.errors import DecodeError
from kineflow.video.probe import probe
from kineflow.video.timeline import Timeline

ODD_CLIPS = Path(__file__).parents[4] / "shared" / "data" / "odd_clips"

PROBE_ALL = """
import json, sys, time
from pathlib import Path
from kineflow.errors import DecodeError
from kineflow.video.probe import probe
for line in sys.stdin:
    path = Path(line.rstrip("\\n"))
    started = time.monotonic()
    try:
        info = probe(path)
        found = dict(frames=info.num_frames, width=info.width, height=info.height, codec=info.codec,
                     rate=info.fps_num / info.fps_den, variable=info.variable_rate, duration=info.duration_sec)
    except DecodeError as err:
        found = dict(reason=str(err))
    print(json.dumps(found | dict(seconds=time.monotonic() - started)), flush=True)
"""


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


@pytest.fixture(scope="module")
def odd_clips() -> Iterator[list[tuple[dict[str, str], dict[str, object]]]]:
    if not ODD_CLIPS.is_dir():
        pytest.skip("the folder of odd clips is not there")
    with (ODD_CLIPS / "MANIFEST.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    paths = "".join(f"{ODD_CLIPS / row['path']}\n" for row in rows)
    done = subprocess.run(
        [sys.executable, "-c", PROBE_ALL], input=paths, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, f"crashed at {rows[len(done.stdout.splitlines())]['path']}: {done.stderr}"
    yield list(zip(rows, map(json.loads, done.stdout.splitlines()), strict=True))


def test_every_odd_clip_has_the_frames_of_its_manifest_or_a_reason(
    odd_clips: list[tuple[dict[str, str], dict[str, object]]],
) -> None:
    assert len(odd_clips) == 133
    wrong = [
        (row["path"], row["frames"], found)
        for row, found in odd_clips
        if "reason" not in found and found["frames"] != int(row["frames"])
    ]
    assert wrong == []


def test_an_odd_clip_is_quarantined_just_where_the_manifest_tells_of_an_error_or_no_frames(
    odd_clips: list[tuple[dict[str, str], dict[str, object]]],
) -> None:
    expected = {row["path"] for row, _ in odd_clips if row["frames"] == "0" or row["error"]}
    assert {row["path"] for row, found in odd_clips if "reason" in found} == expected


def test_odd_clips_sizes_rates_and_time_limits(odd_clips: list[tuple[dict[str, str], dict[str, object]]]) -> None:
    for row, found in odd_clips:
        assert float(str(found["seconds"])) < 20, row["path"]
        if "reason" in found:
            continue
        size = [int(row["width"]), int(row["height"])]
        turned = any(mark in row["label"] for mark in ("rotation_90", "rotation_-90"))
        assert [found["width"], found["height"]] == (size[::-1] if turned else size), row["path"]
        if row["fps"]:
            assert found["rate"] == pytest.approx(float(row["fps"]), abs=0.001), row["path"]


def test_the_odd_clip_that_breaks_midway_says_after_how_many_frames(
    odd_clips: list[tuple[dict[str, str], dict[str, object]]],
) -> None:
    found = {row["path"]: found for row, found in odd_clips}
    assert "after 28 frames" in str(found["decord/corrupted.mp4"]["reason"])
