import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kineflow.data.clips import event_clips, extracted_frame_counts, tile, trimmed_clips, window_clips
from kineflow.errors import DataError
from kineflow.tables import CLIPS

NA = float("nan")


def videos_table(**durations_sec: float) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "video_id": list(durations_sec),
            "duration_sec": list(durations_sec.values()),
            "group": [f"g_{name}" for name in durations_sec],
            "status": ["quarantined" if name.startswith("bad") else "ok" for name in durations_sec],
        }
    )


def events_table(*rows: tuple[str, str, float, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["video_id", "label", "start_sec", "stop_sec"]).astype(
        {"start_sec": "float64", "stop_sec": "float64"}
    )


def as_tuples(clips: pd.DataFrame) -> list[tuple[object, ...]]:
    return list(clips.itertuples(index=False, name=None))


def test_frames_are_counted_from_durations_alone() -> None:
    assert extracted_frame_counts(videos_table(a=2.0, b=1.04, c=0.001, bad=5.0), fps=10.0) == {"a": 20, "b": 10, "c": 1}


def test_a_trimmed_clip_is_its_whole_video() -> None:
    videos = videos_table(b=1.0, a=2.04, bad=1.0, silent=3.0)
    events = events_table(
        ("b", "rest", 0.2, 0.8),
        ("a", "circle", NA, NA),
        ("a", "scratch", 0.1, 0.2),  # a detail of a video that has a label of its own
        ("bad", "rest", NA, NA),
        ("silent", "call", 1.0, NA),  # a point event labels no video
    )
    clips = trimmed_clips(videos, events, fps=10.0)
    assert list(clips.columns) == [name for name, _ in CLIPS.columns]
    assert as_tuples(clips) == [
        ("a#0-20", "a", 0, 20, "circle", "g_a", "trimmed"),
        ("b#0-10", "b", 0, 10, "rest", "g_b", "trimmed"),
    ]


def test_two_state_events_of_one_label_agree_and_of_two_do_not() -> None:
    videos = videos_table(a=2.0)
    same = events_table(("a", "rest", 0.0, 0.5), ("a", "rest", 1.0, 1.5))
    assert as_tuples(trimmed_clips(videos, same, fps=10.0)) == [("a#0-20", "a", 0, 20, "rest", "g_a", "trimmed")]
    differ = events_table(("a", "rest", 0.0, 0.5), ("a", "groom", 1.0, 1.5))
    with pytest.raises(DataError, match=r"a: has the labels groom, rest, .* clips\.from: events"):
        trimmed_clips(videos, differ, fps=10.0)


def test_event_clips_are_rounded_to_frames_inside_the_video() -> None:
    videos = videos_table(a=2.0, bad=2.0)
    events = events_table(
        ("a", "groom", 1.25, 2.04),  # 12.5 rounds up; the video ends at frame 20
        ("a", "rest", 0.14, 0.66),
        ("a", "rest", 0.13, 0.67),  # the same frames by another subject
        ("a", "call", 1.0, NA),
        ("bad", "rest", 0.0, 1.0),
    )
    assert as_tuples(event_clips(videos, events, fps=10.0)) == [
        ("a#1-7", "a", 1, 7, "rest", "g_a", "event"),
        ("a#13-20", "a", 13, 20, "groom", "g_a", "event"),
    ]


def test_two_labels_on_the_same_frames_are_refused() -> None:
    events = events_table(("a", "rest", 0.1, 0.5), ("a", "groom", 0.1, 0.5))
    with pytest.raises(DataError, match="a: frames 1-5 have the labels groom, rest"):
        event_clips(videos_table(a=2.0), events, fps=10.0)


def test_windows_tile_each_labelled_video() -> None:
    clips = window_clips(videos_table(a=2.4, b=0.3, other=9.0, bad=1.0), ["b", "a", "bad"], fps=10.0, window_sec=1.0)
    assert as_tuples(clips) == [
        ("a#0-10", "a", 0, 10, None, "g_a", "window"),
        ("a#10-24", "a", 10, 24, None, "g_a", "window"),  # four frames are less than half a window
        ("b#0-3", "b", 0, 3, None, "g_b", "window"),
    ]


@pytest.mark.parametrize(
    ("num_frames", "window", "expected"),
    [
        (20, 10, [(0, 10), (10, 20)]),
        (24, 10, [(0, 10), (10, 24)]),
        (25, 10, [(0, 10), (10, 20), (20, 25)]),
        (4, 10, [(0, 4)]),
        (3, 1, [(0, 1), (1, 2), (2, 3)]),
    ],
)
def test_the_rest_of_a_tiling(num_frames: int, window: int, expected: list[tuple[int, int]]) -> None:
    assert tile(num_frames, window) == expected


@given(num_frames=st.integers(1, 500), window=st.integers(1, 60))
def test_every_frame_is_in_exactly_one_window(num_frames: int, window: int) -> None:
    windows = tile(num_frames, window)
    assert [frame for start, stop in windows for frame in range(start, stop)] == list(range(num_frames))
    assert all(stop - start >= min(window / 2, num_frames) for start, stop in windows)


def test_the_order_of_rows_does_not_matter() -> None:
    videos = videos_table(a=2.0, b=1.0, c=1.5)
    events = events_table(("a", "rest", 0.1, 0.5), ("c", "groom", 0.1, 0.5), ("b", "rest", 0.0, 1.0))
    clips = event_clips(videos, events, fps=10.0)
    assert event_clips(videos[::-1], events[::-1], fps=10.0).equals(clips)
