"""Writers: annotations as BORIS CSV, as a table for each video, or as a manifest.

Each returns texts and, in plain sentences, what its format cannot hold; it refuses where nothing would be left.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from kineflow.annotations.boris_csv import DURATION, EVENT_COLUMNS, MEDIA_NAMES, OFFSET, SOURCE
from kineflow.annotations.delimited import DELIMITERS
from kineflow.annotations.frame_csv import BACKGROUND, INDEX_NAMES
from kineflow.annotations.model import Annotations, Event
from kineflow.annotations.timing import label_frames
from kineflow.errors import AnnotationError


@dataclass(frozen=True)
class Written:
    """Texts by file name (a single file has an empty name), and what was lost or changed on the way."""

    files: Mapping[str, str]
    notes: tuple[str, ...]


def as_manifest(found: Annotations) -> Written:
    """A row for each video; group, role, subject and the other columns are kept.

    Raises:
        AnnotationError: labels have times, or a video has several labels.
    """
    timed = sum(event.start_sec is not None for event in found.events) + len(found.frame_tables)
    if timed:
        raise AnnotationError(f"{timed} labels have times, and a manifest labels whole videos; write --to boris_csv")
    labelled: dict[str, Event] = {}
    for event in found.events:
        if event.video_id in labelled:
            raise AnnotationError(f"{event.source}: {event.video_id} has a second label; a manifest holds one")
        labelled[event.video_id] = event
    fixed = ["path", "label", "group", "role", "subject"]
    own = sorted({name for row in found.columns.values() for name in row} - set(fixed))
    rows = [
        [
            key, event.label, found.groups.get(key, ""), found.roles.get(key, ""), event.subject,
            *(found.columns.get(key, {}).get(name, "") for name in own),
        ]
        for key, event in labelled.items()
    ]  # fmt: skip
    return Written({"": _csv([[*fixed, *own], *rows])}, ())


def as_boris_csv(found: Annotations, timestamps_sec: Mapping[str, NDArray[np.float64]]) -> Written:
    """Aggregated events, one row for each, so that states of one behaviour may overlap.

    Times are those of each video, so `Source` names it alone, whatever recording it was a part of.

    Args:
        found: labels of whole videos become states over the whole video, frame labels states.
        timestamps_sec: of the frames of each video that has such labels.

    Raises:
        AnnotationError: there is no event.
    """
    events, notes = states(found, timestamps_sec)
    if not events:
        raise AnnotationError("there is no event to write; a BORIS table would be empty")
    own, dropped = _boris_columns(found)
    if dropped:
        notes.append(f"the columns {', '.join(dropped)} are left out: BORIS, or another column, has the name")
    header = ["Source", "Media file name", *own, "Subject", "Behavior", "Behavior type", "Start (s)", "Stop (s)"]
    rows = []
    for event in events:
        values = dict(found.columns.get(event.video_id, {}))
        if event.video_id in found.groups:
            values["group"] = found.groups[event.video_id]
        kind = "POINT" if event.stop_sec is None else "STATE"
        stop_sec = event.start_sec if event.stop_sec is None else event.stop_sec
        times = [f"{time:.6f}".rstrip("0").rstrip(".") for time in (event.start_sec, stop_sec) if time is not None]
        media = [f"player #1:{event.video_id}", event.video_id]
        rows.append([*media, *(values.get(name, "") for name in own), event.subject, event.label, kind, *times])
    if found.roles:
        notes.append(f"the roles of {len(found.roles)} videos are left out: BORIS has no such column")
    return Written({"": _csv([header, *rows])}, tuple(notes))


def as_frame_csv(found: Annotations, timestamps_sec: Mapping[str, NDArray[np.float64]]) -> Written:
    """A table for each video, in folders like those of the videos, with a row of 0, 1 or -1 for each frame.

    Raises:
        AnnotationError: nothing would be left, two videos differ by extension only, or a behaviour has a reserved name.
    """
    events = [_over_whole_video(event, timestamps_sec) for event in found.events]
    points = sum(event.stop_sec is None for event in events)
    behaviours = tuple(name for name in found.labels if found.frame_tables or name in _labels_of_states(events))
    if not behaviours:
        raise AnnotationError(f"all {points} events are points, which label no frame; write --to boris_csv")
    if taken := set(behaviours) & {BACKGROUND, *INDEX_NAMES}:
        raise AnnotationError(f"a behaviour is named {min(taken)}, which means something else there; rename it")
    files: dict[str, str] = {}
    by_video: dict[str, list[Event]] = {key: [] for key in found.frame_tables}
    for event in events:
        by_video.setdefault(event.video_id, []).append(event)
    for key, own in by_video.items():
        name = f"{PurePosixPath(key).with_suffix('')}.csv"
        if name in files:
            raise AnnotationError(f"two videos are named {name[:-4]}, and a table goes by it; rename one")
        table = found.frame_tables.get(key)
        values_NK = table.values if table else label_frames(own, timestamps_sec[key], behaviours)
        files[name] = _csv([["frame", *behaviours], *([i, *row] for i, row in enumerate(values_NK.tolist()))])
    notes = []
    if points:
        notes.append(f"{points} point events are left out: they last no time and label no frame")
    if subjects := sum(bool(event.subject) for event in events):
        notes.append(f"the subjects of {subjects} events are left out: a frame has none")
    for what, held in (("groups", found.groups), ("roles", found.roles), ("other columns", found.columns)):
        if any(held.values()):
            notes.append(f"the {what} of {len(held)} videos are left out: a table of frames has none")
    return Written(files, tuple(notes))


def states(found: Annotations, timestamps_sec: Mapping[str, NDArray[np.float64]]) -> tuple[list[Event], list[str]]:
    """All labels as events with times, and notes on what that changed."""
    events = [_over_whole_video(event, timestamps_sec) for event in found.events]
    notes = []
    if whole := sum(event.start_sec is None for event in found.events):
        notes.append(f"{whole} labels of whole videos become states from the first frame to the end")
    unlabelled = 0
    for key, table in found.frame_tables.items():
        unlabelled += int((table.values == -1).sum())
        events += _runs(key, table.behaviours, table.values, _ends(timestamps_sec[key]), table.source)
    if unlabelled:
        notes.append(f"{unlabelled} unlabelled cells (-1) are left out: an event table cannot say that nobody looked")
    return events, notes


def _labels_of_states(events: Iterable[Event]) -> set[str]:
    return {event.label for event in events if event.stop_sec is not None}


def _over_whole_video(event: Event, timestamps_sec: Mapping[str, NDArray[np.float64]]) -> Event:
    if event.start_sec is not None:
        return event
    return replace(event, start_sec=0.0, stop_sec=round(float(_ends(timestamps_sec[event.video_id])[-1]), 6))


def _ends(timestamps_sec: NDArray[np.float64]) -> NDArray[np.float64]:
    """Float64 (N + 1,): the frames' times and when the last one ends, taken to last as long as the median frame."""
    frame_sec = float(np.median(np.diff(timestamps_sec))) if len(timestamps_sec) > 1 else 0.04
    return np.append(timestamps_sec, timestamps_sec[-1] + frame_sec)


def _runs(
    key: str, behaviours: Sequence[str], values_NK: NDArray[np.int8], edges_sec: NDArray[np.float64], source: str
) -> list[Event]:
    found = []
    for k, label in enumerate(behaviours):
        holds = np.concatenate([[0], (values_NK[:, k] == 1).astype(np.int8), [0]])
        starts, stops = np.flatnonzero(np.diff(holds) == 1), np.flatnonzero(np.diff(holds) == -1)
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
            last = min(stop, len(edges_sec) - 1)
            if start < last:
                times = (round(float(edges_sec[start]), 6), round(float(edges_sec[last]), 6))
                found.append(Event(key, label, *times, "", f"{source}:{start + 2}"))
    return sorted(found, key=lambda event: event.start_sec or 0.0)


def _boris_columns(found: Annotations) -> tuple[list[str], list[str]]:
    """The columns to write and those that cannot be: BORIS does not tell names apart by case.

    Offsets and durations, that the times were freed of, would be applied again by who reads the table.
    """
    names = {name for row in found.columns.values() for name in row} | ({"group"} if found.groups else set())
    taken = EVENT_COLUMNS | {*MEDIA_NAMES, SOURCE, OFFSET, DURATION}
    kept: dict[str, str] = {}
    for name in sorted(names, key=lambda name: (name != "group", name)):
        if name.lower() not in taken and not name.lower().startswith("modifier"):
            kept.setdefault(name.lower(), name)
    own = list(kept.values())
    needless = {"subject", SOURCE, OFFSET, DURATION}
    return own, sorted(name for name in names - set(own) if name.lower() not in needless)


def _csv(rows: Sequence[Sequence[object]]) -> str:
    """Rows below a header; a header that holds other separators is quoted, so that readers find the right one."""
    text = io.StringIO()
    header, *below = rows
    tricky = any(mark in str(name) for name in header for mark in DELIMITERS)
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL if tricky else csv.QUOTE_MINIMAL).writerow(header)
    csv.writer(text, lineterminator="\n").writerows(below)
    return text.getvalue()
