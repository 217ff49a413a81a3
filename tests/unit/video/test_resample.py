import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kineflow.video.resample import num_extracted_frames, resample


def chosen(timestamps_sec: list[float], duration_sec: float, fps: float) -> list[int]:
    frames = [(timestamp, duration_sec, "image") for timestamp in timestamps_sec]
    return [source for source, _ in resample(frames, fps=fps)]


@pytest.mark.parametrize(
    ("duration_sec", "fps", "wanted"),
    [(1.0, 10.0, 10), (0.94, 10.0, 9), (0.95, 10.0, 10), (0.01, 10.0, 1), (0.0, 10.0, 1), (10.0, 29.97, 300)],
)
def test_number_of_extracted_frames(duration_sec: float, fps: float, wanted: int) -> None:
    assert num_extracted_frames(duration_sec, fps) == wanted


def test_the_same_rate_takes_every_frame_once() -> None:
    assert chosen([i / 25 for i in range(6)], 1 / 25, 25.0) == [0, 1, 2, 3, 4, 5]


def test_half_and_double_the_rate() -> None:
    assert chosen([i / 20 for i in range(6)], 0.05, 10.0) == [0, 2, 4]
    assert chosen([i / 10 for i in range(3)], 0.1, 20.0) == [0, 0, 1, 1, 2, 2]


def test_thirty_to_twenty_by_hand() -> None:
    # Wanted at 0, 50, 100, 150 ms; shown from 0, 33.3, 66.7, 100, 133.3, 166.7 ms.
    assert chosen([i / 30 for i in range(6)], 1 / 30, 20.0) == [0, 1, 3, 4]


def test_a_gap_repeats_the_frame_that_was_shown() -> None:
    # 0, 0.1, then nothing until 0.5: the second frame stays on the screen.
    assert chosen([0.0, 0.1, 0.5], 0.1, 10.0) == [0, 1, 1, 1, 1, 2]


def test_times_within_half_a_millisecond_count_as_reached() -> None:
    assert chosen([0.0, 0.1004, 0.2006], 0.1, 10.0) == [0, 1, 1]


def test_the_count_is_that_of_the_duration_even_where_a_late_frame_was_due() -> None:
    # 0.31 s at 10 fps are 3 frames, though the source shows a frame at 0.3 s.
    assert chosen([0.0, 0.1, 0.2, 0.3, 0.305], 0.005, 10.0) == [0, 1, 2]


def test_a_time_that_runs_backwards_counts_as_the_latest_so_far() -> None:
    assert chosen([0.0, 0.2, 0.1, 0.3], 0.1, 10.0) == [0, 0, 2, 3]


def test_no_frames_give_none() -> None:
    assert list(resample([], fps=10.0)) == []


@settings(max_examples=300, deadline=None)
@given(
    steps_ms=st.lists(st.integers(-20, 300), max_size=40),
    last_ms=st.integers(0, 200),
    fps=st.sampled_from([1.0, 7.3, 10.0, 25.0, 29.97, 60.0]),
)
def test_it_equals_a_search_with_all_timestamps_at_hand(steps_ms: list[int], last_ms: int, fps: float) -> None:
    times_sec = np.cumsum([0, *steps_ms]) / 1000
    times_sec = times_sec - times_sec[0]
    latest_sec = np.maximum.accumulate(np.maximum(times_sec, 0.0))
    number = max(1, int(np.floor((latest_sec[-1] + last_ms / 1000) * fps + 0.5)))
    wanted = [int(np.flatnonzero(latest_sec <= i / fps + 0.0005)[-1]) for i in range(number)]
    assert chosen(times_sec.tolist(), last_ms / 1000, fps) == wanted
