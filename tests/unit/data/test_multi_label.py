"""Clips with several labels, by hand-computed values."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kineflow.data.clips import joined, label_columns, negative_clips
from kineflow.data.dataset import Sample, collate
from kineflow.data.event_clips import EventRule, spans_of_event
from kineflow.data.items import clip_classes, clip_items
from kineflow.data.multi_label import event_label_sets, trimmed_label_sets
from kineflow.data.negatives import NegativeRule
from kineflow.data.preprocessing import ClipPixels
from kineflow.data.splits import label_counts
from kineflow.data.support import supported_clips
from kineflow.errors import DataError
from kineflow.tables import CLIPS, TableSchema, read_table, write_table
from tests.unit.data.test_clips import events_table, videos_table

NA = float("nan")
WHOLE = EventRule(overlap="keep")
WINDOW = EventRule(window_sec=1.0, overlap="keep")


def sets(rows: list[tuple[str, float, float]], rule: EventRule) -> list[tuple[int, int, str]]:
    """Start, stop and the labels, one letter each, of the clips of a video of ten seconds at ten frames a second."""
    events = events_table(*(("a", *row) for row in rows))
    clips = event_label_sets(videos_table(a=10.0), events, fps=10.0, rule=rule)
    labels = clips[label_columns(clips)].apply(lambda row: "".join(row.index[row == 1]), axis=1)
    return list(zip(clips["start_frame"], clips["stop_frame"], labels, strict=True))


def test_point_events_near_each_other_share_the_window_of_the_first() -> None:
    # frames 50 and 54: the window [45, 55) shows both; [49, 59) shares six of its ten frames
    assert sets([("x", 5.0, NA), ("y", 5.4, NA)], WINDOW) == [(45, 55, "xy")]
    # frames 50 and 55: no more than half of the windows is common; that of y still shows x at its first frame
    assert sets([("x", 5.0, NA), ("y", 5.5, NA)], WINDOW) == [(45, 55, "x"), (50, 60, "xy")]
    assert sets([("x", 5.0, NA), ("y", 5.6, NA)], WINDOW) == [(45, 55, "x"), (51, 61, "y")]
    assert sets([("x", 5.0, NA), ("y", 5.0, NA), ("z", 5.2, NA)], WINDOW) == [(45, 55, "xyz")]


def test_events_of_one_label_are_clips_of_their_own() -> None:
    assert sets([("x", 5.0, NA), ("x", 5.2, NA)], WINDOW) == [(45, 55, "x"), (47, 57, "x")]


def test_an_event_outside_of_its_own_window_keeps_its_label() -> None:
    # windows begin 0.2 s after their events: [52, 62) and [53, 63) become one, which shows neither frame
    rule = EventRule(window_sec=1.0, position="start", margin_sec=-0.2, overlap="keep")
    assert sets([("x", 5.0, NA), ("y", 5.1, NA)], rule) == [(52, 62, "xy")]


def test_whole_state_events_become_their_union() -> None:
    # 12 of 20 frames are common: one clip; 8 of 20: two, each with its own label
    assert sets([("x", 2.0, 4.0), ("y", 2.8, 4.8)], WHOLE) == [(20, 48, "xy")]
    assert sets([("x", 2.0, 4.0), ("y", 3.2, 5.2)], WHOLE) == [(20, 40, "x"), (32, 52, "y")]
    assert sets([("x", 2.0, 8.0), ("y", 3.0, 4.0)], WHOLE) == [(20, 80, "xy")]


def test_windows_inside_a_state_event_have_the_labels_that_fill_them() -> None:
    rule = EventRule(window_sec=1.0, states="windows", overlap="keep")
    # y fills [40, 50) and six frames of [30, 40), four of [50, 60)
    assert sets([("x", 2.0, 6.0), ("y", 3.4, 5.4)], rule) == [
        (20, 30, "x"), (30, 40, "xy"), (40, 50, "xy"), (50, 60, "x"),
    ]  # fmt: skip


EVENT = st.tuples(st.sampled_from("xyz"), st.integers(0, 80), st.one_of(st.none(), st.integers(1, 19)))
EVENTS = st.lists(EVENT, min_size=1, max_size=8)


@settings(max_examples=40, deadline=None)
@given(EVENTS, st.sampled_from([WHOLE, WINDOW, replace(WINDOW, states="windows"), replace(WINDOW, position="end")]))
def test_no_event_that_makes_a_clip_loses_its_label(rows: list[tuple[str, int, int | None]], rule: EventRule) -> None:
    timed = [(label, start / 10, NA if length is None else (start + length) / 10) for label, start, length in rows]
    clips = sets(timed, rule)
    for label, start_sec, stop_sec in timed:
        for start, stop in spans_of_event(start_sec, stop_sec, 100, fps=10.0, rule=rule):
            near = [names for first, last, names in clips if first < stop and start < last]
            assert any(label in names for names in near), (label, start, stop, clips)
    assert len({(start, stop) for start, stop, _ in clips}) == len(clips) and all(names for *_, names in clips)


def test_a_trimmed_video_has_all_labels_of_its_events() -> None:
    videos = videos_table(a=2.0, b=1.0, bad=1.0)
    events = events_table(("a", "rest", NA, NA), ("a", "groom", NA, NA), ("b", "rest", 0.1, 0.5), ("bad", "x", NA, NA))
    clips = trimmed_label_sets(videos, events, fps=10.0)
    assert list(clips["clip_id"]) == ["a#0-20", "b#0-10"] and clips["label"].isna().all()
    assert clips[["groom", "rest"]].to_numpy().tolist() == [[1, 1], [0, 1]]


def test_negatives_have_no_label_and_targets_are_0_and_1(tmp_path: Path) -> None:
    videos = videos_table(a=60.0)
    events = events_table(("a", "x", 5.0, NA), ("a", "y", 5.1, NA), ("a", "y", 40.0, NA))
    positives = event_label_sets(videos, events, fps=10.0, rule=WINDOW)
    rule = NegativeRule(None, ratio=1.0, within=(), min_distance_sec=1.0)
    negatives = negative_clips(videos, events, events, positives, fps=10.0, window_sec=1.0, rule=rule, seed=0)
    write_table(tmp_path / "clips.parquet", CLIPS, joined(positives, negatives))
    clips = read_table(tmp_path / "clips.parquet", CLIPS)
    assert clip_classes(clips) == ("x", "y") and len(clips) == 4
    items = clip_items(clips, ("x", "y"))
    targets = sorted(np.asarray(item.target).tolist() for item in items.values())
    assert targets == [[0.0, 0.0], [0.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
    assert label_counts(clips).sum().to_dict() == {"x": 1, "y": 2}
    clip = ClipPixels(np.zeros((2, 1, 1, 1), np.uint8), np.ones(1, np.float32), np.zeros(1, np.float32))
    batch = collate([Sample(clip, item.target, 0) for item in items.values()])
    assert batch.targets is not None and batch.targets.shape == (4, 2) and batch.targets.dtype == np.float32


def test_of_several_labels_those_with_support_stay() -> None:
    clips = pd.DataFrame(
        {
            "clip_id": list("abcde"), "video_id": "v", "start_frame": 0, "stop_frame": 9, "label": None,
            "group": ["g", "h", "g", "h", "h"], "origin": ["event"] * 4 + ["negative"],
            "x": [1, 1, 1, 0, 0], "rare": [0, 0, 1, 1, 0], "alone": [1, 0, 1, 0, 0],
        }
    )  # fmt: skip
    kept, left_out = supported_clips(clips, min_clips=3)
    assert left_out == {"rare": "2 clips in 2 groups", "alone": "2 clips in 1 groups"}
    # d showed `rare` alone, and is no negative of x; e is one
    assert list(kept["clip_id"]) == ["a", "b", "c", "e"] and list(label_columns(kept)) == ["x"]


def test_a_class_named_like_a_column_is_refused() -> None:
    with pytest.raises(DataError, match="a class is named 'group'"):
        sets([("group", 5.0, NA)], WINDOW)


def test_a_clips_table_of_the_version_before_is_read(tmp_path: Path) -> None:
    before = TableSchema("clips", 1, CLIPS.columns)
    rows = pd.DataFrame([("a#0-9", "a", 0, 9, "x", "g", "trimmed")], columns=[name for name, _ in CLIPS.columns])
    write_table(tmp_path / "clips.parquet", before, rows)
    assert read_table(tmp_path / "clips.parquet", CLIPS).equals(rows)
