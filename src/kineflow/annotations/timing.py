"""Events against the decoded frames of their videos."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from kineflow.annotations.model import MAX_SHOWN, Event, FrameTable, Problems

# Annotation programs write times in ms, so a frame's own time may have been rounded up or down by half of one.
ROUNDING_SEC = 0.0005
Times = TypeVar("Times", float, NDArray[np.float64])


def seconds_outside(start_sec: Times, last_sec: Times, *, duration_sec: Times, frame_sec: Times) -> Times:
    """How far events reach out of their videos; 0 where they are inside.

    An event may begin a rounding early, and end a frame and a rounding late: a last frame lasts too.

    Args:
        start_sec, last_sec: of each event; the last second of a point event is its start.
        duration_sec, frame_sec: of each event's video and of one of its frames.
    """
    early_sec, late_sec = -ROUNDING_SEC - start_sec, last_sec - duration_sec - frame_sec - ROUNDING_SEC
    return np.maximum(np.maximum(early_sec, late_sec), 0.0)


def check_times(events: Sequence[Event], durations_sec: Mapping[str, float], frame_sec: Mapping[str, float]) -> None:
    """Make sure that events lie inside their videos and stop after they start.

    Args:
        events: those of videos without a duration are not looked at.
        durations_sec: of each decoded video.
        frame_sec: what one frame of it takes, see `seconds_outside`.

    Raises:
        AnnotationError: some do not; names file and row of the first five, and their number.
    """
    problems = Problems()
    for event in events:
        if event.start_sec is None or event.video_id not in durations_sec:
            continue
        length_sec = durations_sec[event.video_id]
        last_sec = event.start_sec if event.stop_sec is None else event.stop_sec
        outside_sec = seconds_outside(
            event.start_sec, last_sec, duration_sec=length_sec, frame_sec=frame_sec[event.video_id]
        )
        if outside_sec > 0 and event.start_sec < 0:
            problems.add(event.source, f"{event.label} starts at {event.start_sec:g} s, before the video; correct it")
        elif last_sec < event.start_sec:
            times = f"{last_sec:g} s, before its start at {event.start_sec:g} s"
            problems.add(event.source, f"{event.label} stops at {times}; correct it")
        elif outside_sec > 0:
            length = f"{event.video_id} lasts {length_sec:.3f} s"
            problems.add(
                event.source, f"{event.label} is at {last_sec:g} s but {length}; correct the time or the video"
            )
    problems.raise_if_any()


def label_frames(
    events: Sequence[Event], timestamps_sec: NDArray[np.float64], behaviours: Sequence[str]
) -> NDArray[np.int8]:
    """Which behaviours hold at each frame.

    Args:
        events: of one video; a state holds at a frame if `start <= timestamp < stop`; point events hold at none.
        timestamps_sec: float64 (N,), from the first frame.
        behaviours: K names.

    Returns:
        int8 (N, K) of 0 and 1.
    """
    values_NK = np.zeros((len(timestamps_sec), len(behaviours)), np.int8)
    column = {name: k for k, name in enumerate(behaviours)}
    for event in events:
        if event.start_sec is not None and event.stop_sec is not None and event.label in column:
            inside_N = frames_inside(event.start_sec, event.stop_sec, timestamps_sec)
            values_NK[inside_N, column[event.label]] = 1
    return values_NK


def frames_inside(start_sec: float, stop_sec: float, timestamps_sec: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Bool (N,): the frames at which a state holds; none where it lies between two."""
    shifted_N = timestamps_sec + ROUNDING_SEC + 1e-9
    return (shifted_N >= start_sec) & (shifted_N < stop_sec)


def row_differences(tables: Mapping[str, FrameTable], num_frames: Mapping[str, int]) -> list[str]:
    """What `fit_frame_tables` does to tables that have a row too many or too few, two notes at most.

    Args:
        tables: by video.
        num_frames: decoded, by video.
    """
    longer = [key for key, table in tables.items() if key in num_frames and len(table.values) == num_frames[key] + 1]
    shorter = [key for key, table in tables.items() if key in num_frames and len(table.values) == num_frames[key] - 1]
    notes = []
    for keys, have, done in (
        (longer, "a row more than their videos have frames", "the last row of each is left out"),
        (shorter, "a row less than their videos have frames", "the last frame of each is unlabelled"),
    ):
        if keys:
            named = ", ".join(tables[key].source for key in keys[:MAX_SHOWN])
            notes.append(f"{len(keys)} tables have {have}, and {done}: {named}{', ...' * (len(keys) > MAX_SHOWN)}")
    return notes


def fit_frame_tables(tables: Mapping[str, FrameTable], num_frames: Mapping[str, int]) -> dict[str, NDArray[np.int8]]:
    """The values of per-frame tables, one row for each decoded frame.

    Some programs write a row more or less than there are frames: a last row too many is left out, and a last frame
    without a row is unlabelled (-1). `row_differences` says where.

    Args:
        tables: by video; those of videos without a count are left out.
        num_frames: decoded.

    Raises:
        AnnotationError: a table and its video differ by more than one frame.
    """
    problems = Problems()
    fitted = {}
    for key, table in tables.items():
        if key not in num_frames:
            continue
        rows, frames = len(table.values), num_frames[key]
        if abs(rows - frames) > 1:
            text = f"{rows} rows for the {frames} frames of {key}; give one row for each frame"
            problems.add(table.source, text)
        elif rows < frames:
            unlabelled = np.full((1, table.values.shape[1]), -1, np.int8)
            fitted[key] = np.concatenate([table.values, unlabelled])
        else:
            fitted[key] = table.values[:frames]
    problems.raise_if_any()
    return fitted
