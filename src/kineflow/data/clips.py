"""From tables to clips: pure arithmetic on videos and events, in extracted frames.

A clip is named `<video_id>#<start>-<stop>`, so the same frames of the same video always have the same name.
Only videos of status `ok` have clips. What has no clip (a video without a label, a point event) is not dropped
unseen: the gate `raw` warns of it.
"""

import math
from collections.abc import Iterable, Mapping

import pandas as pd

from kineflow.data.event_clips import EventRule, event_spans, nearest_frame
from kineflow.data.negatives import NegativeRule, draw_negatives, negative_starts
from kineflow.errors import DataError
from kineflow.tables import CLIPS
from kineflow.video.resample import num_extracted_frames

WHOLE_EVENTS = EventRule()
Row = tuple[str, int, int, str | None, str, str]  # video_id, start_frame, stop_frame, label, group, origin


def extracted_frame_counts(videos: pd.DataFrame, *, fps: float) -> dict[str, int]:
    """How many frames extraction at `fps` takes from each ok video of the videos table."""
    ok = videos[videos["status"] == "ok"]
    pairs = zip(ok["video_id"], ok["duration_sec"], strict=True)
    return {video_id: num_extracted_frames(duration_sec, fps) for video_id, duration_sec in pairs}


def trimmed_clips(videos: pd.DataFrame, events: pd.DataFrame, *, fps: float) -> pd.DataFrame:
    """One clip for each ok video, the whole of it, with the label of the video.

    The label is that of the video's whole-video event; without one, that of its state events.

    Raises:
        DataError: a video has several labels.
    """
    groups = groups_of_videos(videos)
    labels = labels_of_videos(events)
    rows: list[Row] = []
    for video_id, num_frames in extracted_frame_counts(videos, fps=fps).items():
        found = labels.get(video_id, [])
        if len(found) > 1:
            raise DataError(
                f"{video_id}: has the labels {', '.join(found)}, and a trimmed video has one; "
                "correct its annotation, set clips.from: events to make one clip of each event, or clips.overlap: keep "
                "for clips with several labels"
            )
        if found:
            rows.append((video_id, 0, num_frames, found[0], groups[video_id], "trimmed"))
    return clips_table(rows)


def event_clips(
    videos: pd.DataFrame, events: pd.DataFrame, *, fps: float, rule: EventRule = WHOLE_EVENTS
) -> pd.DataFrame:
    """The clips that `rule` makes of the events of ok videos; see `event_spans`.

    Raises:
        DataError: the same frames of a video have two labels.
    """
    groups = groups_of_videos(videos)
    spans = event_spans(events, extracted_frame_counts(videos, fps=fps), fps=fps, rule=rule)
    return clips_table((video, start, stop, label, groups[video], "event") for video, start, stop, label in spans)


def negative_clips(
    videos: pd.DataFrame,
    events: pd.DataFrame,
    positive_events: pd.DataFrame,
    positives: pd.DataFrame,
    *,
    fps: float,
    window_sec: float,
    rule: NegativeRule,
    seed: int,
) -> pd.DataFrame:
    """`rule.ratio` negatives for each of `positives`, or as many as there is room for.

    Args:
        positive_events: the events whose label is a class.
        positives: the clips made of them.
    """
    window = max(1, nearest_frame(window_sec, fps))
    num_frames = extracted_frame_counts(videos, fps=fps)
    starts = negative_starts(events, positive_events, positives, num_frames, fps=fps, window=window, rule=rule)
    number = math.floor(rule.ratio * len(positives) + 0.5)
    drawn = draw_negatives(starts, number=number, window=window, seed=seed)
    groups = groups_of_videos(videos)
    rows = ((video, start, start + window, rule.label, groups[video], "negative") for video, start in drawn)
    return clips_table(rows).assign(**dict.fromkeys(label_columns(positives), 0))


def joined(*tables: pd.DataFrame) -> pd.DataFrame:
    """Clips tables as one, in the order of videos and frames."""
    clips = pd.concat([table for table in tables if len(table)] or tables[:1])
    return clips.sort_values(["video_id", "start_frame", "stop_frame"], kind="stable", ignore_index=True)


def window_clips(
    videos: pd.DataFrame,
    video_ids: Iterable[str],
    *,
    fps: float,
    window_sec: float,
    stride_sec: float | None = None,
) -> pd.DataFrame:
    """Windows over each ok video of `video_ids`; their label is null.

    Without a stride they tile it, every frame in exactly one (see `tile`); with one, a last window ends with the video.

    Args:
        videos: the videos table.
        video_ids: the videos with frame labels; others have nothing to learn or to score.
        fps: of the extracted frames.
        window_sec: length of a window; see `num_window_frames`.
        stride_sec: from the start of a window to that of the next; below the length they overlap.
    """
    groups = groups_of_videos(videos)
    num_frames = extracted_frame_counts(videos, fps=fps)
    window = num_window_frames(window_sec, fps=fps)
    stride = None if stride_sec is None else num_window_frames(stride_sec, fps=fps)
    rows: list[Row] = []
    for video_id in sorted(set(video_ids) & set(num_frames)):
        count = num_frames[video_id]
        for start, stop in tile(count, window) if stride is None else slide(count, window, stride):
            rows.append((video_id, start, stop, None, groups[video_id], "window"))
    return clips_table(rows)


def num_window_frames(window_sec: float, *, fps: float) -> int:
    """Length of a window in extracted frames, at least one."""
    return max(1, nearest_frame(window_sec, fps))


def tile(num_frames: int, window: int) -> list[tuple[int, int]]:
    """Consecutive (start, stop) that cover [0, num_frames) once; training and prediction cut videos alike.

    A rest of at least half a window is a window of its own; a shorter one lengthens the last window.
    """
    shortest = math.ceil(window / 2)
    num_windows = max(1, num_frames // window + (num_frames % window >= shortest))
    starts = [i * window for i in range(num_windows)]
    return list(zip(starts, [*starts[1:], num_frames], strict=True))


def slide(num_frames: int, window: int, stride: int) -> list[tuple[int, int]]:
    """(start, stop) of windows every `stride` frames, and one that ends at `num_frames` if none does.

    A stride above the window leaves frames between windows out on purpose, the end too.
    """
    last = max(0, num_frames - window)
    starts = list(range(0, last + 1, stride))
    if starts[-1] < last and stride <= window:
        starts.append(last)
    return [(start, min(start + window, num_frames)) for start in starts]


def label_columns(clips: pd.DataFrame) -> list[str]:
    """The classes of a clips table whose clips may have several labels: its 0/1 columns; none in any other."""
    return CLIPS.extra_columns([str(name) for name in clips.columns])


def groups_of_videos(videos: pd.DataFrame) -> Mapping[str, str]:
    """The group of each video."""
    return dict(zip(videos["video_id"], videos["group"], strict=True))


def labels_of_videos(events: pd.DataFrame) -> dict[str, list[str]]:
    """The labels of each video as a whole, sorted: of its whole-video events; without one, of its state events."""
    whole = events["start_sec"].isna() & events["stop_sec"].isna()
    state = events["start_sec"].notna() & events["stop_sec"].notna()
    by_video = [part.groupby("video_id")["label"] for part in (events[state], events[whole])]
    return {video_id: sorted(set(labels)) for part in by_video for video_id, labels in part}


def clips_table(rows: Iterable[Row]) -> pd.DataFrame:
    """The clips table, named and sorted, without columns of labels."""
    values = [(f"{video_id}#{start}-{stop}", video_id, start, stop, *rest) for video_id, start, stop, *rest in rows]
    values.sort(key=lambda row: row[1:4])
    frame = pd.DataFrame(values, columns=[name for name, _ in CLIPS.columns])
    return frame.astype({"start_frame": "int64", "stop_frame": "int64"})
