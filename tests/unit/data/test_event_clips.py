"""Clips of events and negatives, by hand-computed values; the fish thesis's tables 4.1 to 4.3 among them."""

import hashlib
import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kineflow.data.clips import event_clips, negative_clips, slide, window_clips
from kineflow.data.event_clips import EventRule, class_events, event_spans
from kineflow.data.negatives import NegativeRule, draw_negatives, negative_starts, redrawn_start
from kineflow.errors import DataError
from tests.unit.data.test_clips import events_table, videos_table

NA = float("nan")
CHASE, SPAWN = "20200603/1/GH010063.MP4", "20200603/7/GH10080.MP4"


def fish() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Table 4.1: two point events in parts of 1058 s."""
    events = events_table((CHASE, "chase", 278.919, NA), (SPAWN, "spawning", 718.686, NA))
    return videos_table(**{CHASE: 1058.0, SPAWN: 1058.0}), events


def spans(rows: list[tuple[str, float, float]], rule: EventRule, num_frames: int = 100) -> list[tuple[int, int, str]]:
    events = events_table(*(("a", *row) for row in rows))
    return [clip[1:] for clip in event_spans(events, {"a": num_frames}, fps=10.0, rule=rule)]


def test_three_frames_around_an_event_are_those_of_table_4_2() -> None:
    videos, events = fish()
    clips = event_clips(videos, events, fps=10.0, rule=EventRule(window_sec=0.3))
    # the table: frames 2788, 2789, 2790 chasing and 7186, 7187, 7188 spawning
    assert list(clips["clip_id"]) == [f"{CHASE}#2788-2791", f"{SPAWN}#7186-7189"]


def test_fifteen_frames_around_an_event_are_those_of_table_4_3() -> None:
    videos, events = fish()
    clips = event_clips(videos, events, fps=10.0, rule=EventRule(window_sec=1.5))
    # spawning: 7180 to 7194 as printed. Chasing is printed as 2782 to 2798, which are 17 frames; the rule of the
    # text (fifteen frames, the event's in the middle) gives 2782 to 2796.
    assert list(zip(clips["start_frame"], clips["stop_frame"] - 1, clips["label"], strict=True)) == [
        (2782, 2796, "chase"),
        (7180, 7194, "spawning"),
    ]


def test_the_fourth_of_seven_frames_is_the_event() -> None:
    assert spans([("chase", 5.0, NA)], EventRule(window_sec=0.7)) == [(47, 54, "chase")]


@pytest.mark.parametrize("length", range(7, 31))  # the lengths that the thesis tried
def test_the_event_is_in_the_middle_of_every_length(length: int) -> None:
    ((start, stop, _),) = spans([("chase", 5.0, NA)], EventRule(window_sec=length / 10))
    before, after = 50 - start, stop - 1 - 50
    assert before + 1 + after == length and before - after == (1 - length % 2)


@pytest.mark.parametrize(
    ("position", "margin_sec", "expected"),
    [
        ("start", 0.0, (50, 60)),
        ("end", 0.0, (41, 51)),
        ("centre", 0.0, (45, 55)),
        ("start", 0.3, (47, 57)),
        ("start", -0.2, (52, 62)),
    ],
)
def test_where_a_point_event_is_in_its_window(position: str, margin_sec: float, expected: tuple[int, int]) -> None:
    rule = EventRule(window_sec=1.0, position=position, margin_sec=margin_sec)  # type: ignore[arg-type]
    assert spans([("x", 5.0, NA)], rule) == [(*expected, "x")]


def test_a_window_is_moved_inside_its_video() -> None:
    rule = EventRule(window_sec=1.0)
    assert spans([("x", 0.1, NA), ("y", 9.9, NA)], rule) == [(0, 10, "x"), (90, 100, "y")]
    assert spans([("x", 0.1, NA)], rule, num_frames=6) == [(0, 6, "x")]


def test_state_events_are_whole_or_windows_inside() -> None:
    rows = [("x", 2.0, 4.5), ("y", 6.0, 6.4)]
    assert spans(rows, EventRule(margin_sec=0.5)) == [(15, 45, "x"), (55, 64, "y")]
    assert spans(rows, EventRule(window_sec=1.0)) == [(20, 45, "x"), (60, 64, "y")]
    inside = EventRule(window_sec=1.0, states="windows")
    assert spans(rows, inside) == [(20, 30, "x"), (30, 40, "x"), (57, 67, "y")]
    half = EventRule(window_sec=1.0, stride_sec=0.5, states="windows")
    assert spans(rows, half) == [(20, 30, "x"), (25, 35, "x"), (30, 40, "x"), (35, 45, "x"), (57, 67, "y")]


def test_what_overlapping_events_of_two_labels_become() -> None:
    rows = [("x", 2.0, 4.0), ("y", 3.0, 5.0), ("x", 4.5, 6.0), ("y", 6.0, 7.0)]
    separate = [(20, 40, "x"), (30, 50, "y"), (45, 60, "x"), (60, 70, "y")]
    assert spans(rows, EventRule()) == separate
    assert spans(rows, EventRule(overlap="drop")) == [(60, 70, "y")]
    assert spans(rows, EventRule(overlap="first")) == [(20, 40, "x"), (45, 60, "x"), (60, 70, "y")]
    same = [("x", 2.0, 4.0), ("y", 2.0, 4.0)]
    with pytest.raises(DataError, match=r"frames 20-40 have the labels x, y.*clips\.overlap"):
        spans(same, EventRule())
    assert spans(same, EventRule(overlap="drop")) == []
    assert spans(same, EventRule(overlap="first")) == [(20, 40, "x")]


def test_negatives_are_inside_male_present_and_away_from_positives() -> None:
    videos = videos_table(a=60.0, b=60.0)
    events = events_table(("a", "male present", 10.0, 40.0), ("a", "chase", 20.0, NA), ("b", "chase", 5.0, NA))
    rule = NegativeRule("none", ratio=2.0, within=("male present",), min_distance_sec=2.0)
    wanted = class_events(events, classes=None, not_classes=rule.within)
    assert list(wanted["label"]) == ["chase", "chase"]
    positives = event_clips(videos, wanted, fps=10.0, rule=EventRule(window_sec=1.5))
    assert list(positives["clip_id"]) == ["a#193-208", "b#43-58"]
    starts = negative_starts(events, wanted, positives, {"a": 600, "b": 600}, fps=10.0, window=15, rule=rule)
    # frames 100 to 400 less 173 to 228 (the clip and 20 frames on both sides), windows of 15; b has no male
    assert starts == {"a": [(100, 158), (228, 385)]}
    drawn = negative_clips(videos, events, wanted, positives, fps=10.0, window_sec=1.5, rule=rule, seed=3)
    assert len(drawn) == 4 and set(drawn["origin"]) == {"negative"} and set(drawn["label"]) == {"none"}
    again = negative_clips(videos[::-1], events[::-1], wanted, positives, fps=10.0, window_sec=1.5, rule=rule, seed=3)
    other = negative_clips(videos, events, wanted, positives, fps=10.0, window_sec=1.5, rule=rule, seed=4)
    assert again.equals(drawn) and not other.equals(drawn)


def test_what_nobody_annotated_has_no_negatives() -> None:
    events = events_table(("a", "chase", 20.0, NA), ("b", "male present", 10.0, 40.0))
    rule = NegativeRule("none", ratio=2.0, within=(), min_distance_sec=2.0)
    positives = event_clips(videos_table(a=60.0), events[:1], fps=10.0, rule=EventRule(window_sec=1.5))
    num_frames = dict.fromkeys("abc", 600)
    starts = negative_starts(events, events[:1], positives, num_frames, fps=10.0, window=15, rule=rule)
    assert set(starts) == {"a", "b"}  # in c nobody looked for a chase


def test_the_starts_of_smallest_priority_are_taken_first() -> None:
    """As by a list of all starts, sorted by the numbers that their videos' generators draw."""
    starts = {"a": [(3, 40), (60, 61)], "b": [(0, 30)], "c": [(7, 7)]}
    listed = []
    for video_id, spans_of in starts.items():
        named = int.from_bytes(hashlib.sha256(video_id.encode()).digest()[:8], "big")
        drawn_N = np.random.default_rng([5, named]).random(spans_of[-1][1] + 1)
        listed += [(drawn_N[at], video_id, at) for first, last in spans_of for at in range(first, last + 1)]
    chosen: list[tuple[str, int]] = []
    for _, video_id, at in sorted(listed):
        if all(name != video_id or abs(at - other) >= 6 for name, other in chosen):
            chosen.append((video_id, at))
    for number in (1, 4, 100):
        assert draw_negatives(starts, number=number, window=6, seed=5) == sorted(chosen[:number])


@given(
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 60)), min_size=1, max_size=4),
    st.integers(1, 12),
    st.integers(0, 99),
)
def test_drawn_windows_start_where_they_may_and_never_overlap(
    spans_of_a: list[tuple[int, int]], window: int, seed: int
) -> None:
    starts, at = {"a": list[tuple[int, int]](), "b": [(0, 30)]}, 0
    for gap, length in spans_of_a:
        starts["a"].append((at + gap, at + gap + length))
        at += gap + length + window
    drawn = draw_negatives(starts, number=6, window=window, seed=seed)
    assert drawn == draw_negatives(starts, number=6, window=window, seed=seed)
    assert all(any(first <= start <= last for first, last in starts[video]) for video, start in drawn)
    for video in "ab":
        of_video = [start for name, start in drawn if name == video]
        assert all(after - before >= window for before, after in itertools.pairwise(of_video))
    for epoch in range(5):
        start = redrawn_start(starts["a"], seed=seed, epoch=epoch, index=2)
        assert any(first <= start <= last for first, last in starts["a"])


def test_a_redrawn_start_follows_from_seed_epoch_and_index() -> None:
    spans_of_a = [(0, 9), (100, 189)]
    drawn = [redrawn_start(spans_of_a, seed=0, epoch=epoch, index=0) for epoch in range(2000)]
    assert drawn == [redrawn_start(spans_of_a, seed=0, epoch=epoch, index=0) for epoch in range(2000)]
    assert set(drawn) == {*range(10), *range(100, 190)}  # each of the hundred, in two thousand draws
    assert drawn != [redrawn_start(spans_of_a, seed=0, epoch=epoch, index=1) for epoch in range(2000)]


def test_windows_slide_over_the_whole_video() -> None:
    assert slide(10, 4, 2) == [(0, 4), (2, 6), (4, 8), (6, 10)]
    assert slide(11, 4, 3) == [(0, 4), (3, 7), (6, 10), (7, 11)]
    assert slide(11, 2, 5) == [(0, 2), (5, 7)]
    assert slide(3, 4, 2) == [(0, 3)]
    # the mouse thesis cuts 6600 frames into 44, 22 and 11 sequences of 150, 300 and 600 frames
    assert [len(slide(6600, length, length)) for length in (150, 300, 600)] == [44, 22, 11]
    videos = videos_table(a=2.0)
    clips = window_clips(videos, ["a"], fps=10.0, window_sec=1.0, stride_sec=0.5)
    assert list(clips["clip_id"]) == ["a#0-10", "a#5-15", "a#10-20"]
