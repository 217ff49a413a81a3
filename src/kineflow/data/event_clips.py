"""Clips from the events of long videos: where a window lies around an event, and what overlapping events become.

Pure arithmetic in extracted frames. A point event at t seconds is in frame `t * fps`, rounded half up.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from kineflow.errors import DataError

Position = Literal["start", "centre", "end"]
Overlap = Literal["separate", "drop", "first", "keep"]
Span = tuple[int, int]  # first frame, one past the last
Labelled = tuple[str, int, int, str]  # video_id, start_frame, stop_frame, label


@dataclass(frozen=True)
class EventRule:
    """How events become clips; the defaults make one clip of each whole state event.

    Args:
        window_sec: length of a clip, rounded to frames; None: whole state events, and no clip of a point event.
        stride_sec: from one window inside a state event to the next; None: the window's length.
        position: where in the window the frame of a point event is: its first, its middle or its last frame.
        margin_sec: how much earlier a window begins than `position` says; a state event counts from that much earlier.
        states: with `window_sec`, whether a state event is one whole clip or windows inside it.
        overlap: of clips of different labels in one video. `separate` keeps each, and refuses two labels of the very
            same frames; `drop` leaves out all of them; `first` keeps the one that starts first; `keep` gives a clip
            several labels, see `multi_label.py`.
    """

    window_sec: float | None = None
    stride_sec: float | None = None
    position: Position = "centre"
    margin_sec: float = 0.0
    states: Literal["whole", "windows"] = "whole"
    overlap: Overlap = "separate"


def nearest_frame(seconds: float, fps: float) -> int:
    """The frame nearest to a time; of two equally near ones the later."""
    return math.floor(seconds * fps + 0.5)


def class_events(events: pd.DataFrame, *, classes: Sequence[str] | None, not_classes: Sequence[str]) -> pd.DataFrame:
    """The events whose label is a class: those of `classes` (None: every label) without `not_classes`."""
    wanted = ~events["label"].isin(not_classes)
    return events[wanted if classes is None else wanted & events["label"].isin(classes)]


def event_spans(events: pd.DataFrame, num_frames: Mapping[str, int], *, fps: float, rule: EventRule) -> list[Labelled]:
    """The clips of the events, each once, sorted; events of videos that `num_frames` lacks have none.

    A window that would leave its video is moved inside it; a video shorter than the window is one clip.

    Args:
        events: video_id, label, start_sec, stop_sec; without times it is of the whole video.
        num_frames: extracted frames of each video.

    Raises:
        DataError: the same frames have two labels, and `rule.overlap` is `separate`.
    """
    found: set[Labelled] = set()
    columns = ["video_id", "label", "start_sec", "stop_sec"]
    for video_id, label, start_sec, stop_sec in events[columns].itertuples(index=False):
        if video_id in num_frames:
            spans = spans_of_event(start_sec, stop_sec, num_frames[video_id], fps=fps, rule=rule)
            found |= {(video_id, start, stop, label) for start, stop in spans}
    clips = sorted(found)
    if rule.overlap == "separate":
        _refuse_two_labels(clips)
        return clips
    return _without_overlaps(clips, rule.overlap)


def spans_of_event(start_sec: float, stop_sec: float, num_frames: int, *, fps: float, rule: EventRule) -> list[Span]:
    """The clips that one event makes by itself in a video of `num_frames` extracted frames."""
    margin = nearest_frame(rule.margin_sec, fps)
    window = None if rule.window_sec is None else max(1, nearest_frame(rule.window_sec, fps))
    is_point = not pd.isna(start_sec) and pd.isna(stop_sec)
    if is_point:
        if window is None:
            return []
        before = {"start": 0, "centre": window // 2, "end": window - 1}[rule.position]
        return [_inside(nearest_frame(start_sec, fps) - before - margin, window, num_frames)]
    start, stop = 0, num_frames
    if not pd.isna(start_sec):
        start = max(0, nearest_frame(start_sec, fps) - margin) if margin else nearest_frame(start_sec, fps)
        stop = min(nearest_frame(stop_sec, fps), num_frames)
    if window is None or rule.states == "whole":
        return [(start, stop)]
    if stop - start < window:
        return [_inside((start + stop) // 2 - window // 2, window, num_frames)]
    stride = window if rule.stride_sec is None else max(1, nearest_frame(rule.stride_sec, fps))
    return [(first, first + window) for first in range(start, stop - window + 1, stride)]


def _inside(start: int, window: int, num_frames: int) -> Span:
    start = max(0, min(start, num_frames - window))
    return start, min(start + window, num_frames)


def _refuse_two_labels(clips: Sequence[Labelled]) -> None:
    labels: dict[tuple[str, int, int], str] = {}
    for video_id, start, stop, label in clips:
        known = labels.setdefault((video_id, start, stop), label)
        if known != label:
            raise DataError(
                f"{video_id}: frames {start}-{stop} have the labels {', '.join(sorted((known, label)))}, "
                "and a clip has one; remove one of the events, or set clips.overlap: drop, first or keep"
            )


def _without_overlaps(clips: Sequence[Labelled], overlap: Overlap) -> list[Labelled]:
    """`clips` (sorted) without those that overlap one of another label; `first` leaves the first of them."""
    assert overlap in ("drop", "first")
    kept: list[Labelled] = []
    hit: set[Labelled] = set()
    open_clips: list[Labelled] = []  # that may still reach the next one
    for clip in clips:
        video_id, start, _, label = clip
        open_clips = [other for other in open_clips if other[0] == video_id and other[2] > start]
        rivals = [other for other in open_clips if other[3] != label]
        if rivals and overlap == "first":
            continue
        if rivals:
            hit |= {clip, *rivals}
        open_clips.append(clip)
        kept.append(clip)
    return [clip for clip in kept if clip not in hit]
