"""Clips that may have several labels: of whole videos, and of the events of long videos where those overlap.

Two clips of different labels that share more than half of the shorter one become one: of whole state events their
union, of windows the first. A clip has the label of every event that it shows: more than half of the event lies in
it, or the event fills more than half of it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from kineflow.data.clips import Row, clips_table, extracted_frame_counts, groups_of_videos, labels_of_videos
from kineflow.data.event_clips import EventRule, Span, nearest_frame, spans_of_event
from kineflow.errors import DataError
from kineflow.tables import CLIPS

LabelSets = list[tuple[str, int, int, frozenset[str]]]  # video_id, start_frame, stop_frame, labels


@dataclass(frozen=True)
class _Event:
    """An event, and one of the clips that it makes by itself.

    Args:
        shown: the frames of the event.
        clip: the frames of the clip.
        is_whole: the clip is the state event as it is, no window.
    """

    clip: Span
    label: str
    shown: Span
    is_whole: bool


def trimmed_label_sets(videos: pd.DataFrame, events: pd.DataFrame, *, fps: float) -> pd.DataFrame:
    """One clip for each ok video with labels, the whole of it, with all of them."""
    num_frames = extracted_frame_counts(videos, fps=fps)
    labels = labels_of_videos(events)
    sets = [(video, 0, count, frozenset(labels[video])) for video, count in num_frames.items() if video in labels]
    return _table(sets, groups_of_videos(videos), origin="trimmed")


def event_label_sets(videos: pd.DataFrame, events: pd.DataFrame, *, fps: float, rule: EventRule) -> pd.DataFrame:
    """The clips that `rule` makes of the events of ok videos, each with the labels of all events that it shows."""
    sets: LabelSets = []
    by_video = dict(tuple(events.groupby("video_id", sort=True)))
    for video_id, num_frames in sorted(extracted_frame_counts(videos, fps=fps).items()):
        if video_id in by_video:
            found = _events(by_video[video_id], num_frames, fps, rule)
            sets += [(video_id, start, stop, labels) for (start, stop), labels in _shared_clips(found)]
    return _table(sets, groups_of_videos(videos), origin="event")


def _events(events: pd.DataFrame, num_frames: int, fps: float, rule: EventRule) -> list[_Event]:
    found: list[_Event] = []
    for label, start_sec, stop_sec in events[["label", "start_sec", "stop_sec"]].itertuples(index=False):
        is_point = not pd.isna(start_sec) and pd.isna(stop_sec)
        start = 0 if pd.isna(start_sec) else nearest_frame(start_sec, fps)
        stop = start + 1 if is_point else num_frames if pd.isna(stop_sec) else nearest_frame(stop_sec, fps)
        is_whole = not is_point and (rule.window_sec is None or rule.states == "whole")
        for clip in spans_of_event(start_sec, stop_sec, num_frames, fps=fps, rule=rule):
            found.append(_Event(clip, label, (start, stop), is_whole))
    return sorted(found, key=lambda event: (event.clip, event.label, event.shown))


def _shared_clips(events: Sequence[_Event]) -> list[tuple[Span, frozenset[str]]]:
    """The clips of one video, joined where they share more than half, each once with its labels; `events` is sorted."""
    spans, labels = list[Span](), list[list[str]]()  # the first label of a clip is that of the event that began it
    still_open: list[int] = []  # clips that may reach the next event
    for event in events:
        still_open = [i for i in still_open if spans[i][1] > event.clip[0]]
        rivals = (i for i in still_open if labels[i][0] != event.label and _share_half(*spans[i], *event.clip))
        i = next(rivals, None)
        if i is None:
            still_open.append(len(spans))
            spans.append(event.clip)
            labels.append([event.label])
            continue
        labels[i].append(event.label)
        if event.is_whole:
            spans[i] = (spans[i][0], max(spans[i][1], event.clip[1]))
    shown_2E = np.array([event.shown for event in events], dtype=np.int64).reshape(-1, 2).T
    found: dict[Span, frozenset[str]] = {}
    for span, joined in zip(spans, labels, strict=True):
        shown = (events[int(i)].label for i in np.flatnonzero(_share_half(*span, *shown_2E)))
        found[span] = found.get(span, frozenset()) | {*joined, *shown}
    return list(found.items())


def _share_half(start: int, stop: int, other_start: Any, other_stop: Any) -> Any:
    """Whether two spans, or one and each of many, have more than half of the shorter one in common."""
    common = np.minimum(stop, other_stop) - np.maximum(start, other_start)
    return 2 * common > np.minimum(stop - start, other_stop - other_start)


def _table(sets: LabelSets, groups: Mapping[str, str], *, origin: str) -> pd.DataFrame:
    classes = sorted({label for *_, labels in sets for label in labels})
    _refuse_reserved(classes)
    rows: list[Row] = [(video, start, stop, None, groups[video], origin) for video, start, stop, _ in sets]
    labels_of = {(video, start, stop): labels for video, start, stop, labels in sets}
    clips = clips_table(rows)
    keys = list(zip(clips["video_id"], clips["start_frame"], clips["stop_frame"], strict=True))
    return clips.assign(**{name: [int(name in labels_of[key]) for key in keys] for name in classes})


def _refuse_reserved(classes: Collection[str]) -> None:
    fixed = {name for name, _ in CLIPS.columns}
    for name in classes:
        if name in fixed:
            raise DataError(f"a class is named {name!r}, as a column of the clips table is; rename it")
