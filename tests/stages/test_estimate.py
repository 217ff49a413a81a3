"""`kineflow estimate` against what the stages then take, and stages that refuse what the disk has no room for."""

import csv
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kineflow.errors import DataError, StorageFullError
from kineflow.params import load_params
from kineflow.stages import estimate as estimation
from kineflow.stages import paths
from kineflow.stages.estimate import (
    Amount,
    drawn,
    estimate,
    in_parallel,
    in_time,
    refuse_what_will_not_fit,
    total_of,
)
from kineflow.stages.extract_frames import ExtractTask, extract_into_store
from kineflow.stages.video_results import VideoPlan, VideoTask, check_room
from kineflow.store import ResultStore, file_sha256, home, in_bytes
from kineflow.video.extract import FrameSize
from kineflow.video.frame_store import FrameReader
from kineflow.video.result_index import VideoResult, read_index
from kineflow.video.sampling import VideoLength
from tests.faults.test_extraction_memory import write_loop
from tests.graph import change_params, report_of, run_command, run_stage, run_stages

FACTOR = 1.3  # an estimated size is within this factor of what is used then
FROZEN_EMBEDDINGS = {
    "task": "frame",
    "data__source": "data/sample/videos",
    "data__annotations": "data/sample/videos.csv",
    "clips__window_sec": 1.6,
    "promotion__metric": "frame_macro_f1",
    "distill__enabled": False,
    "embed__enabled": True,
    "embed__backbone": "resnet10_tiny",
    "embed__precision": "bf16",
    "streams__rgb__model": "embedding.lstm",
    "streams__rgb__options": {"hidden_dim": 16, "num_layers": 1},
    "streams__flow__model": "resnet10_tiny.lstm",
    "streams__flow__options": {"hidden_dim": 16, "num_layers": 1},
}


def used_bytes(kind: str) -> int:
    return sum(path.stat().st_size for path in (home() / "store" / kind).rglob("*") if path.is_file())


def check_against_use(monkeypatch: pytest.MonkeyPatch, kinds: dict[str, str]) -> None:
    params = load_params(Path("params.yaml"))
    before = estimate(params, num_samples=4)
    assert [stage.stage for stage in before.stages] == list(kinds)
    assert all(stage.num_missing == stage.num_videos for stage in before.stages)
    assert not (home() / "store").joinpath("frames").exists()  # it leaves nothing behind
    run_stages(monkeypatch, list(kinds))
    for stage in before.stages:
        used = used_bytes(kinds[stage.stage])
        assert used / FACTOR < stage.num_bytes.value < used * FACTOR, stage
        assert stage.seconds.value > 0
    after = estimate(params, num_samples=4)
    assert [(stage.num_missing, stage.num_bytes.value) for stage in after.stages] == [(0, 0.0)] * len(kinds)


def test_the_disk_is_estimated_of_all_three_stages(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change_params(workspace, **FROZEN_EMBEDDINGS)
    run_stages(monkeypatch, ["sync", "ingest", "validate_raw"])
    check_against_use(monkeypatch, {"extract_frames": "frames", "compute_flow": "flow", "embed": "embeddings"})


def test_the_disk_is_estimated_on_real_clips(
    workspace: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = sorted((shared_data / "ut_interaction" / "videos").iterdir())[::6]
    (workspace / "videos").mkdir()
    for clip in clips:
        (workspace / "videos" / clip.name).symlink_to(clip)
    with (workspace / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *((clip.name, "ab"[i % 2]) for i, clip in enumerate(clips))])
    data = {"source": "videos", "annotations": "labels.csv", "format": "manifest", "group_from": "video"}
    change_params(workspace, sample=None, **{f"data__{key}": value for key, value in data.items()})
    change_params(workspace, frames__height_px=None, frames__width_px=None, frames__short_side_px=96)
    run_stages(monkeypatch, ["sync", "ingest", "validate_raw"])
    check_against_use(monkeypatch, {"extract_frames": "frames", "compute_flow": "flow"})


def test_without_a_table_of_videos_it_says_what_to_run(workspace: Path) -> None:
    with pytest.raises(DataError, match="dvc repro validate_raw"):
        estimate(load_params(Path("params.yaml")), num_samples=1)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of one megabyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True)
    except FileNotFoundError:
        pytest.skip("mount is not there")
    if done.returncode:
        pytest.skip("a file system can be mounted by root only")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_what_will_not_fit_is_not_begun(workspace: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_stages(monkeypatch, ["sync", "ingest", "validate_raw", "extract_frames"])
    frames_before = sorted(paths.FRAMES.rglob("*"))
    change_params(workspace, frames__height_px=640, frames__width_px=640)
    monkeypatch.setenv("KINEFLOW_HOME", str(small_disk / "home"))
    assert run_stage(monkeypatch, "extract_frames") == 4
    # By hand: 640 x 640 pixels by 0.04 bytes are 16384 bytes a frame; 24 clips of 10 or 11 frames.
    least = 16384 * sum(row.num_frames for row in read_index(paths.FRAMES))
    error = report_of(Path(), "extract_frames")["error"]
    assert f"24 videos take at least {least / 1e6:.3g} MB" in error
    assert f"the disk of {small_disk}/home/store/frames has 1.05 MB free; free some room" in error
    assert list((small_disk / "home").rglob("*.zip")) == []
    assert sorted(paths.FRAMES.rglob("*")) == frames_before
    done = run_command("kineflow", "estimate", "--videos", "2", cwd=workspace, check=False)
    assert done.returncode == 0  # with room enough; run_command leaves KINEFLOW_HOME out
    with pytest.raises(StorageFullError, match=r"will not fit into the 1\.05 MB free"):
        refuse_what_will_not_fit(estimate(load_params(Path("params.yaml")), num_samples=2))


def test_flow_that_will_not_fit_is_not_begun(
    workspace: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_params(workspace, frames__height_px=640, frames__width_px=640)
    run_stages(monkeypatch, ["sync", "ingest", "validate_raw", "extract_frames"])
    monkeypatch.setenv("KINEFLOW_HOME", str(small_disk / "home"))
    assert run_stage(monkeypatch, "compute_flow") == 4
    # By hand: 640 x 640 pixels by 0.025 bytes are 10240 bytes a flow; one flow less than frames in each of 24 clips.
    least = 10240 * sum(row.num_frames - 1 for row in read_index(paths.FRAMES))
    assert f"24 videos take at least {least / 1e6:.3g} MB" in report_of(Path(), "compute_flow")["error"]
    assert not paths.FLOW.exists()


def test_the_leanest_result_that_is_there_says_what_the_others_take_at_least(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "store")
    sizes = {"a": 1000, "b": 500}  # of ten frames each
    for key, size in sizes.items():
        with store.writing(key) as target:
            target.write_bytes(b"x" * size)
    results = [VideoResult(key, key, 10) for key in sizes] + [VideoResult("c", "c", 10**13)]
    tasks = [VideoTask(result, None, 1.0) for result in results]
    plan = VideoPlan(lambda _: 0, tasks, store, min_frame_bytes=lambda: 1e-6)
    # By hand: 50 bytes a frame of the leaner one, by ten million million frames.
    with pytest.raises(StorageFullError, match="1 videos take at least 500 TB"):
        check_room(plan, plan.missing(), out=tmp_path / "out")
    lean = VideoPlan(lambda _: 0, tasks[2:], store, min_frame_bytes=lambda: 1e-6)
    check_room(lean, lean.missing(), out=tmp_path / "out")  # 10 MB, by the rule alone


def test_what_fits_on_the_small_disk_is_made_there(
    workspace: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_stages(monkeypatch, ["sync", "ingest", "validate_raw"])
    monkeypatch.setenv("KINEFLOW_HOME", str(small_disk / "home"))
    assert run_stage(monkeypatch, "extract_frames") == 0
    assert used_bytes("frames") > 0


def test_the_command_prints_a_table(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_stages(monkeypatch, ["sync", "ingest", "validate_raw"])
    done = run_command("kineflow", "estimate", cwd=workspace)
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[0] == ["stage", "videos", "to", "do", "time", "disk"]
    assert [row[:3] for row in rows[1:3]] == [["extract_frames", "24", "24"], ["compute_flow", "24", "24"]]
    assert "free" in done.stdout


def test_videos_are_drawn_by_their_work() -> None:
    # By hand: the total is 10, so four draws fall at 1.25, 3.75, 6.25 and 8.75.
    assert drawn([1.0, 1.0, 6.0, 2.0], 4) == [1, 2, 2, 3]
    assert drawn([5.0], 3) == [0, 0, 0]
    assert drawn([1.0, 1.0, 1.0, 1.0], 2) == [1, 3]


def test_a_total_is_the_mean_by_work_with_twice_its_standard_error() -> None:
    # By hand: mean 2, standard deviation 1, so the error of three is 0.577.
    total = total_of([1.0, 2.0, 3.0], 10.0)
    assert total.value == pytest.approx(20.0)
    assert total.margin == pytest.approx(2 * 10 / 3**0.5)
    assert total_of([2.0], 10.0) == Amount(20.0, 0.0)


def test_time_in_parallel_is_never_less_than_the_longest_video() -> None:
    # By hand: 100 s shared by four workers are 25 s, but half of the work is one video: 50 s. The start takes 6.
    assert in_parallel(Amount(100.0, 10.0), [1.0] * 100, 4) == Amount(31.0, 2.5)
    assert in_parallel(Amount(100.0, 10.0), [10.0, 1.0, 20.0, 9.0], 4) == Amount(56.0, 5.0)
    assert in_parallel(Amount(100.0, 10.0), [1.0, 99.0], 4) == Amount(100.0, 10.0)  # nothing to win by a start
    assert in_parallel(Amount(4.0, 1.0), [1.0] * 10, 2) == Amount(4.0, 1.0)


@dataclass(frozen=True)
class SlowTask:
    frames: Path
    store_root: Path


def slow_start(task: SlowTask) -> int:
    """0.4 s whatever is asked for, and 2 ms for each frame."""
    num_frames = FrameReader(task.frames).num_frames
    time.sleep(0.4 + 0.002 * num_frames)
    with ResultStore(task.store_root).writing("key") as target:
        target.write_bytes(b"x" * num_frames)
    return num_frames


def test_what_a_long_video_costs_at_all_is_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    num_frames = write_loop(tmp_path / "a.mp4", num_minutes=10, height=54)
    sha256 = file_sha256(tmp_path / "a.mp4")
    store, length = ResultStore(tmp_path / "store"), VideoLength(num_frames, 600.0)
    size = FrameSize(short_side_px=32)
    task = ExtractTask(str(tmp_path / "a.mp4"), sha256, "key", store.root, tmp_path, 10.0, size, 90, None, length)
    entry = VideoTask(VideoResult("a", "key", 6000), task, 1.0)
    plan = VideoPlan(extract_into_store, [entry], store, lambda: 1.0)
    monkeypatch.setattr(estimation, "SAMPLE_SEC", 0.05)
    (tmp_path / "tried").mkdir()
    sampler = estimation._Sampler(tmp_path / "tried", {"a": task}, 1)
    tried = sampler.try_extraction(plan, entry)
    started = time.perf_counter()
    assert extract_into_store(task) == 6000
    took_sec = time.perf_counter() - started
    assert took_sec / 4 < tried.seconds_by_work < took_sec * 4  # 20 times, where the packets counted for each frame

    slow = VideoTask(VideoResult("a", "key", 6000), SlowTask(Path(), Path()), 1.0)
    tried = sampler.try_on_frames(VideoPlan(slow_start, [slow], store, lambda: 1.0), slow)
    assert tried.seconds_by_work == pytest.approx(0.4 + 0.002 * 6000, rel=0.3)
    assert tried.bytes_by_work == 6000


def test_a_workspace_on_another_disk_needs_room_for_all_results(
    workspace: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_stages(monkeypatch, ["sync", "ingest", "validate_raw"])
    change_params(workspace, frames__height_px=320, frames__width_px=320)
    monkeypatch.setattr(paths, "FRAMES", small_disk / "frames")
    found = estimate(load_params(Path("params.yaml")), num_samples=2)
    of_store, copied = found.disks
    assert copied.path == small_disk / "frames" and copied.num_bytes == found.stages[0].num_bytes.value
    assert of_store.num_bytes < of_store.free_bytes
    with pytest.raises(StorageFullError, match=rf"1\.05 MB free on the disk of {small_disk}/frames"):
        refuse_what_will_not_fit(found)


def test_amounts_are_told_in_one_unit() -> None:
    assert [in_time(seconds) for seconds in (45.0, 720.0, 12600.0)] == ["45 s", "12 min", "3.5 h"]
    assert [in_bytes(size) for size in (5200.0, 310e6, 2.4e9)] == ["5.2 KB", "310 MB", "2.4 GB"]
