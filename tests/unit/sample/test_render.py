import csv
import errno
import hashlib
import json
from pathlib import Path

import av
import numpy as np
import pytest

from kineflow.errors import ParamsError, StorageFullError
from kineflow.sample import render
from kineflow.sample.boris import COLUMNS
from kineflow.sample.render import encoded, frames_of, render_sample, render_video
from kineflow.sample.spec import BEHAVIOURS, SampleSpec, plan_videos

TINY = SampleSpec(
    num_groups=2,
    clips_per_class_per_group=1,
    clip_sec=1.0,
    fps=10,
    size_px=48,
    long_videos_per_group=1,
    long_sec=6.0,
)


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_sample(tmp_path_factory.mktemp("sample") / "tiny", TINY)


def test_every_video_decodes_to_the_planned_frames(sample: Path) -> None:
    for video in plan_videos(TINY):
        with av.open(str(sample / video.name)) as container:
            stream = container.streams.video[0]
            assert stream.codec_context.name == "h264"
            assert stream.codec_context.pix_fmt == "yuv420p"
            assert stream.average_rate == TINY.fps
            frames = list(container.decode(video=0))
            assert float(stream.duration * stream.time_base) == pytest.approx(video.num_frames / TINY.fps)
        assert len(frames) == video.num_frames
        assert {(frame.height, frame.width) for frame in frames} == {(48, 48)}
        assert [round(frame.time * TINY.fps) for frame in frames] == list(range(video.num_frames))


def test_what_is_decoded_is_what_was_painted(sample: Path) -> None:
    video = plan_videos(TINY)[0]
    with av.open(str(sample / video.name)) as container:
        decoded = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    painted = np.stack(list(frames_of(TINY, video)))
    assert np.abs(decoded.astype(int) - painted).mean() < 6


def test_the_same_spec_gives_the_same_bytes_here_or_in_a_pool_and_another_seed_others(
    sample: Path, tmp_path: Path
) -> None:
    pooled = render_sample(tmp_path / "pooled", TINY, num_workers=2)
    assert digests(pooled) == digests(sample)
    other = SampleSpec(**{**vars(TINY), "seed": 1})
    render_video(tmp_path / "other.mp4", other, 0)
    assert (tmp_path / "other.mp4").read_bytes() != (sample / plan_videos(TINY)[0].name).read_bytes()


def test_the_encoder_gives_the_same_bytes_whatever_the_cpu_can_do(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = SampleSpec()
    clips = [list(frames_of(spec, video)) for video in plan_videos(spec)[:12]]
    plain_params = f"{render.X264_PARAMS}:asm=0"
    fast = [encoded(iter(clip), fps=spec.fps, size_px=spec.size_px) for clip in clips]
    monkeypatch.setattr(render, "X264_PARAMS", plain_params)
    plain = [encoded(iter(clip), fps=spec.fps, size_px=spec.size_px) for clip in clips]
    assert fast == plain


def test_a_whole_sample_is_left_alone_and_a_missing_video_comes_back(sample: Path) -> None:
    before = digests(sample)
    times = {path: path.stat().st_mtime_ns for path in sample.rglob("*.*")}
    seen: list[tuple[int, int]] = []
    render_sample(sample, TINY, progress=lambda done, wanted: seen.append((done, wanted)))
    assert seen == []
    lost = sample / plan_videos(TINY)[3].name
    lost.unlink()
    render_sample(sample, TINY, progress=lambda done, wanted: seen.append((done, wanted)))
    assert seen == [(14, 14)]
    assert digests(sample) == before
    changed = [path for path, time in times.items() if path.stat().st_mtime_ns != time]
    assert changed == [lost]


def test_an_interrupted_rendering_shows_nothing_and_goes_on(sample: Path, tmp_path: Path) -> None:
    seen: list[int] = []

    def stop_at_five(done: int, wanted: int) -> None:
        seen.append(done)
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render_sample(tmp_path / "out", TINY, progress=stop_at_five)
    assert not (tmp_path / "out").exists()
    for scrap in (".partial-99", "clips/.partial-99"):
        (tmp_path / ".out.rendering" / scrap).write_bytes(b"half of it")
    render_sample(tmp_path / "out", TINY, progress=lambda done, wanted: seen.append(done))
    assert seen == [1, 2, 3, 4, 5, *range(6, 15)]
    assert digests(tmp_path / "out") == digests(sample)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_sample_of_another_spec_is_replaced_and_other_files_are_refused(tmp_path: Path) -> None:
    small = SampleSpec(**{**vars(TINY), "num_groups": 1, "behaviours": ("groom", "rest")})
    smaller = SampleSpec(**{**vars(small), "long_videos_per_group": 0})
    render_sample(tmp_path / "out", small)
    render_sample(tmp_path / "out", smaller)
    assert sorted(digests(tmp_path / "out")) == [
        "clips.csv",
        "clips/arena1_clip001.mp4",
        "clips/arena1_clip002.mp4",
        "sample.json",
    ]
    assert json.loads((tmp_path / "out" / "sample.json").read_text())["spec"]["num_groups"] == 1
    (tmp_path / "out" / "thesis.txt").write_text("ten years of work")
    with pytest.raises(ParamsError, match=r"thesis\.txt"):
        render_sample(tmp_path / "out", small)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "clips.csv").write_text("mine")
    with pytest.raises(ParamsError, match="folder of its own"):
        render_sample(tmp_path / "mine", small)
    assert (tmp_path / "mine" / "clips.csv").read_text() == "mine"


def test_a_full_disk_is_said_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", no_room)
    with pytest.raises(StorageFullError, match="is full; make room"):
        render_sample(tmp_path / "out", TINY)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("table", "num_rows"), [("clips", 2 * 2 * 6), ("videos", 2 * 2 * 6)])
def test_boris_tables_pair_start_and_stop_inside_each_video(sample: Path, table: str, num_rows: int) -> None:
    with (sample / f"{table}.csv").open(newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
        assert tuple(reader.fieldnames or ()) == COLUMNS
    assert len(rows) == num_rows
    assert {row["Behavior"] for row in rows} == set(BEHAVIOURS)
    planned = {video.name: video for video in plan_videos(TINY)}
    for start, stop in zip(rows[::2], rows[1::2], strict=True):
        assert (start["Behavior type"], stop["Behavior type"]) == ("START", "STOP")
        assert start["Behavior"] == stop["Behavior"]
        assert start["Media file name"] == stop["Media file name"]
        assert (sample / start["Media file name"]).is_file()
        video_sec = planned[start["Media file name"]].num_frames / TINY.fps
        assert 0 <= float(start["Time"]) < float(stop["Time"]) <= video_sec
        assert float(stop["Media duration (s)"]) == video_sec
        if table == "clips":
            assert (float(start["Time"]), float(stop["Time"])) == (0.0, video_sec)
