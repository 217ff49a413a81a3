"""Annotations held against the decoded frames of their videos, before they are written or drawn."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kineflow import storage
from kineflow.annotations import Annotations
from kineflow.annotations.locate import list_videos
from kineflow.annotations.timing import check_times, fit_frame_tables, frames_inside, row_differences
from kineflow.errors import DataError
from kineflow.store import home
from kineflow.video.probe_cache import VideoFile, probe_all

MAX_NAMED = 3


@dataclass(frozen=True)
class Held:
    """What held.

    Args:
        times_sec: of the frames of each video that was decoded, float64 (N,).
        unreadable: why, of the others.
        notes: what fits, but may surprise.
    """

    times_sec: Mapping[str, NDArray[np.float64]]
    unreadable: Mapping[str, str]
    notes: tuple[str, ...]


def hold_against_videos(found: Annotations, videos: str, *, whole_videos: bool = True) -> Held:
    """Decode the annotated videos and check times and rows; what decoding gave is kept in the workspace's store.

    Args:
        found: its labels.
        videos: their folder or s3:// prefix.
        whole_videos: whether videos whose labels have no times are decoded too.

    Raises:
        AnnotationError: an event is outside its video, or a per-frame table has another number of rows than it has
            frames; names file and row.
        DataError: no video can be decoded.
    """
    timed = {event.video_id for event in found.events if whole_videos or event.start_sec is not None}
    wanted = timed | set(found.frame_tables)
    files = []
    for info in list_videos(videos):
        if info.key in wanted:
            sha256 = storage.sha256_of(videos, info, cache_dir=home() / "objects")
            files.append(VideoFile(info.key, storage.join(videos, info.key), sha256, info.num_bytes))
    if not files:
        return Held({}, {}, ())
    probed, _ = probe_all(files, home=home(), label="frame times")
    unreadable = {key: info.reason for key, info in probed.items() if info.reason is not None}
    good = {key: info for key, info in probed.items() if info.reason is None}
    if not good:
        key, reason = next(iter(unreadable.items()))
        raise DataError(f"none of {len(probed)} annotated videos can be decoded ({key}: {reason}); replace them")
    durations_sec = {key: float(info.values["duration_sec"]) for key, info in good.items()}
    num_frames = {key: int(info.values["num_frames"]) for key, info in good.items()}
    check_times(found.events, durations_sec, {key: durations_sec[key] / num_frames[key] for key in good})
    fit_frame_tables(found.frame_tables, num_frames)
    times_sec = {key: info.timestamps_sec() for key, info in good.items()}
    notes = [*row_differences(found.frame_tables, num_frames), *_between_frames(found, times_sec)]
    return Held(times_sec, unreadable, tuple(notes))


def without_videos(found: Annotations, keys: Set[str]) -> Annotations:
    """The annotations of all videos but these."""
    return replace(
        found,
        events=[event for event in found.events if event.video_id not in keys],
        frame_tables={key: table for key, table in found.frame_tables.items() if key not in keys},
    )


def named(what: str, items: Sequence[str]) -> list[str]:
    """One note on some items, the first of them by name; none where there are none."""
    more = f" and {len(items) - MAX_NAMED} more" if len(items) > MAX_NAMED else ""
    return [f"{what}: {'; '.join(items[:MAX_NAMED])}{more}"] if items else []


def _between_frames(found: Annotations, times_sec: Mapping[str, NDArray[np.float64]]) -> list[str]:
    short = [
        f"{event.label} {event.start_sec:g} to {event.stop_sec:g} s ({event.source})"
        for event in found.events
        if event.video_id in times_sec and event.start_sec is not None and event.stop_sec is not None
        if not frames_inside(event.start_sec, event.stop_sec, times_sec[event.video_id]).any()
    ]
    return named(f"{len(short)} states label no frame, for they lie between two", short)
