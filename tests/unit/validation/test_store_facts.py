"""Facts about real stores, written as the stages write them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import simplejpeg
from numpy.typing import NDArray

from kineflow.validation.store_facts import flow_stats, frame_stats, store_facts
from kineflow.video.flow_store import FlowRule, writing_flow
from kineflow.video.frame_store import FrameReader, writing_frames
from kineflow.video.pose_store import PoseRule, writing_pose

HEIGHT, WIDTH = 32, 48


def write_frames(path: Path, frames: Sequence[NDArray[np.uint8]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing_frames(path, fps=10.0, height=HEIGHT, width=WIDTH, quality=95) as writer:
        for i, frame_HWC in enumerate(frames):
            jpeg = simplejpeg.encode_jpeg(frame_HWC, quality=95)
            writer.append(jpeg, source_frame=2 * i, timestamp_sec=i / 10)


def write_flow(path: Path, flows: Sequence[NDArray[np.float32]], *, fps: float = 10.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rule = FlowRule(method="dis_fast", bound_px=4.0)
    with writing_flow(path, rule=rule, fps=fps, height=HEIGHT, width=WIDTH, jpeg_quality=None) as writer:
        for flow_HWD in flows:
            writer.append(flow_HWD)


def write_index(folder: Path, video_ids: Sequence[str]) -> None:
    rows = "".join(f"{video_id}\tkey\t4\n" for video_id in video_ids)
    (folder / "index.tsv").write_text("video_id\tkey\tnum_frames\n" + rows)


def plain(value: int) -> NDArray[np.uint8]:
    return np.full((HEIGHT, WIDTH, 3), value, np.uint8)


def moving(num_frames: int) -> list[NDArray[np.uint8]]:
    """A white square on grey, four pixels further in each frame."""
    frames = [plain(100) for _ in range(num_frames)]
    for i, frame_HWC in enumerate(frames):
        frame_HWC[8:16, 4 * i : 4 * i + 8] = 255
    return frames


def test_a_moving_square_is_bright_and_changes(tmp_path: Path) -> None:
    write_frames(tmp_path / "a.zip", moving(6))
    stats = frame_stats(tmp_path / "a.zip")
    assert stats.source_frames == [0, 2, 4, 6, 8, 10]
    assert stats.brightest == pytest.approx(255, abs=6)
    assert stats.largest_change == pytest.approx(155, abs=12)


def test_a_stuck_camera_and_a_black_one(tmp_path: Path) -> None:
    write_frames(tmp_path / "stuck.zip", [plain(100)] * 4)
    stuck = frame_stats(tmp_path / "stuck.zip")
    assert (stuck.largest_change, round(stuck.brightest)) == (0.0, 100)
    black = [plain(0) for _ in range(4)]
    for frame_HWC in black:
        frame_HWC[3, 3] = 255  # a hot pixel
    write_frames(tmp_path / "black.zip", black)
    assert frame_stats(tmp_path / "black.zip").brightest < 16
    write_frames(tmp_path / "one.zip", [plain(100)])
    assert frame_stats(tmp_path / "one.zip").largest_change is None


def test_the_share_of_clipped_flow(tmp_path: Path) -> None:
    flow_HWD = np.zeros((HEIGHT, WIDTH, 2), np.float32)
    flow_HWD[:8, :, 1] = -9.0  # a quarter of the pixels, beyond the bound of 4
    flow_HWD[8:16, :, 0] = 3.5
    write_flow(tmp_path / "a.zip", [flow_HWD] * 5)
    stats = flow_stats(tmp_path / "a.zip")
    assert (stats.num_flows, stats.fraction_at_bound) == (5, 0.25)
    write_flow(tmp_path / "none.zip", [])
    assert flow_stats(tmp_path / "none.zip").num_flows == 0


def test_stores_are_held_against_the_tables(tmp_path: Path) -> None:
    frames, flow = tmp_path / "frames", tmp_path / "flow"
    for name in ("good.mp4", "sub/short.mp4", "stray.mp4"):
        write_frames(frames / f"{name}.zip", moving(4))
        write_flow(flow / f"{name}.zip", [np.zeros((HEIGHT, WIDTH, 2), np.float32)] * 3)
    (frames / "cut.mp4.zip").write_bytes((frames / "good.mp4.zip").read_bytes()[:900])
    write_index(frames, ["good.mp4", "sub/short.mp4", "stray.mp4", "cut.mp4", "listed.mp4"])
    write_index(flow, ["good.mp4", "sub/short.mp4"])
    expected = {"good.mp4": 4, "sub/short.mp4": 6, "cut.mp4": 4, "listed.mp4": 4, "gone.mp4": 4}
    facts, source_frames = store_facts(expected, frames, flow, seen_root=tmp_path / "seen")
    facts = facts.set_index("item")
    assert list(facts.index) == ["cut.mp4", "gone.mp4", "good.mp4", "listed.mp4", "stray.mp4", "sub/short.mp4"]
    assert facts.loc["good.mp4", ["frames", "frames_difference", "flow", "flows_difference"]].tolist() == [
        "stored",
        0,
        "stored",
        0,
    ]
    assert facts.loc["sub/short.mp4", ["frames_difference", "flows_difference"]].tolist() == [-2, -2]
    assert facts.loc["sub/short.mp4", "frames_words"] == "4 frames, 6 expected"
    assert facts.loc["sub/short.mp4", "flows_words"] == "3 flows, 5 expected"
    assert facts.loc["stray.mp4", "frames"] == "of no video in the tables"
    assert facts.loc["gone.mp4", ["frames", "flow"]].tolist() == ["missing", "missing"]
    assert facts.loc["cut.mp4", "frames"].startswith("unreadable: ") and "cut off" in facts.loc["cut.mp4", "frames"]
    assert facts.loc["listed.mp4", "frames"].startswith("unreadable: ")
    assert sorted(source_frames) == ["good.mp4", "stray.mp4", "sub/short.mp4"]


def test_pictures_are_counted_and_their_joints(tmp_path: Path) -> None:
    frames, pose = tmp_path / "frames", tmp_path / "pose"
    pose.mkdir()
    for name, num_joints in (("a.mp4", [2, 0, 1, 3]), ("short.mp4", [0, 0, 0])):
        write_frames(frames / f"{name}.zip", moving(4))
        rule = PoseRule("files", None, 0.5, 0.02)
        with writing_pose(pose / f"{name}.zip", rule=rule, fps=10.0, height=HEIGHT, width=WIDTH) as writer:
            for number in num_joints:
                writer.append(plain(0), num_joints=number)
    write_index(frames, ["a.mp4", "short.mp4", "gone.mp4"])
    write_index(pose, ["a.mp4", "short.mp4"])
    facts, _ = store_facts(
        dict.fromkeys(("a.mp4", "short.mp4", "gone.mp4"), 4), frames, None, pose, seen_root=tmp_path / "seen"
    )
    facts = facts.set_index("item")
    wanted = ["pose", "pictures_difference", "fraction_with_joints"]
    assert facts.loc["a.mp4", wanted].tolist() == ["stored", 0, 0.75]
    assert facts.loc["short.mp4", wanted].tolist() == ["stored", -1, 0.0]
    assert facts.loc["short.mp4", "pictures_words"] == "3 pictures, 4 expected"
    assert facts.loc["gone.mp4", "pose"] == "missing"


def test_flow_of_frames_at_another_rate_is_noticed(tmp_path: Path) -> None:
    frames, flow = tmp_path / "frames", tmp_path / "flow"
    for name, fps in (("a", 10.0), ("b", 5.0)):
        write_frames(frames / f"{name}.zip", moving(3))
        write_flow(flow / f"{name}.zip", [np.zeros((HEIGHT, WIDTH, 2), np.float32)] * 2, fps=fps)
    for folder in (frames, flow):
        write_index(folder, ["a", "b"])
    facts, _ = store_facts({"a": 3, "b": 3}, frames, flow, seen_root=tmp_path / "seen")
    assert facts["flow_mismatch"].tolist() == [None, "flow of 48x32 at 5 fps, frames of 48x32 at 10 fps"]


def test_without_a_flow_store_there_is_nothing_to_say_about_flow(tmp_path: Path) -> None:
    write_frames(tmp_path / "a.zip", moving(4))
    write_index(tmp_path, ["a"])
    facts, _ = store_facts({"a": 4}, tmp_path, None, seen_root=tmp_path / "seen")
    assert facts.loc[0, "frames"] == "stored"
    assert facts[["flows_difference", "fraction_at_bound"]].isna().all(axis=None)


def test_what_was_seen_in_a_file_is_remembered_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames, seen = tmp_path / "frames", tmp_path / "seen"
    write_frames(frames / "a.zip", moving(4))
    write_frames(frames / "b.zip", moving(4))
    write_index(frames, ["a", "b"])
    first, _ = store_facts({"a": 4, "b": 4}, frames, None, seen_root=seen)
    looked_at: list[str] = []

    class Looking(FrameReader):
        def __init__(self, path: Path) -> None:
            looked_at.append(path.name)
            super().__init__(path)

    monkeypatch.setattr("kineflow.validation.store_facts.FrameReader", Looking)
    again, source_frames = store_facts({"a": 4, "b": 4}, frames, None, seen_root=seen)
    assert looked_at == []
    pd.testing.assert_frame_equal(again, first)
    assert source_frames["a"].tolist() == [0, 2, 4, 6]
    (frames / "b.zip").write_bytes((frames / "a.zip").read_bytes()[:900])
    damaged, _ = store_facts({"a": 4, "b": 4}, frames, None, seen_root=seen)
    assert looked_at == ["b.zip"]
    assert damaged["frames"].tolist()[0] == "stored" and "cut off" in damaged["frames"].tolist()[1]
