"""From tables to clips: pure arithmetic on videos and events, in extracted frames.

A clip is named `<video_id>#<start>-<stop>`, so the same frames of the same video always have the same name.
Only videos of status `ok` have clips. What has no clip (a video without a label, a point event) is not dropped
unseen: the gate `raw` warns of it.
"""

import math
from collections.abc import Iterable, Mapping

import pandas as pd

from kineflow.errors import DataError
from kineflow.tables import CLIPS
from kineflow.video.resample import num_extracted_frames

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
    groups = _groups(videos)
    whole = events["start_sec"].isna() & events["stop_sec"].isna()
    state = events["start_sec"].notna() & events["stop_sec"].notna()
    labels = _labels_by_video(events[state]) | _labels_by_video(events[whole])
    rows: list[Row] = []
    for video_id, num_frames in extracted_frame_counts(videos, fps=fps).items():
        found = labels.get(video_id, [])
        if len(found) > 1:
            raise DataError(
                f"{video_id}: has the labels {', '.join(found)}, and a trimmed video has one; "
                "correct its annotation, or set clips.from: events to make one clip of each event"
            )
        if found:
            rows.append((video_id, 0, num_frames, found[0], groups[video_id], "trimmed"))
    return _table(rows)


def event_clips(videos: pd.DataFrame, events: pd.DataFrame, *, fps: float) -> pd.DataFrame:
    """One clip for each state event of an ok video: frames [start * fps, stop * fps), rounded, inside the video.

    A whole-video event gives the whole video; a point event gives no clip.

    Raises:
        DataError: the same frames of a video have two labels.
    """
    groups = _groups(videos)
    num_frames = extracted_frame_counts(videos, fps=fps)
    point = events["start_sec"].notna() & events["stop_sec"].isna()
    columns = ["video_id", "label", "start_sec", "stop_sec"]
    labels: dict[tuple[str, int, int], str] = {}
    for video_id, label, start_sec, stop_sec in events.loc[~point, columns].itertuples(index=False):
        if video_id not in num_frames:
            continue
        start, stop = 0, num_frames[video_id]
        if not pd.isna(start_sec):
            start, stop = _nearest_frame(start_sec, fps), min(_nearest_frame(stop_sec, fps), stop)
        known = labels.setdefault((video_id, start, stop), label)
        if known != label:
            raise DataError(
                f"{video_id}: frames {start}-{stop} have the labels {', '.join(sorted((known, label)))}, "
                "and a clip has one; remove one of the events"
            )
    return _table((video, start, stop, label, groups[video], "event") for (video, start, stop), label in labels.items())


def window_clips(videos: pd.DataFrame, video_ids: Iterable[str], *, fps: float, window_sec: float) -> pd.DataFrame:
    """Windows that tile each ok video of `video_ids`, every frame in exactly one; their label is null.

    Args:
        videos: the videos table.
        video_ids: the videos with frame labels; others have nothing to learn or to score.
        fps: of the extracted frames.
        window_sec: length of a window; see `num_window_frames`.
    """
    groups = _groups(videos)
    num_frames = extracted_frame_counts(videos, fps=fps)
    window = num_window_frames(window_sec, fps=fps)
    rows: list[Row] = []
    for video_id in sorted(set(video_ids) & set(num_frames)):
        for start, stop in tile(num_frames[video_id], window):
            rows.append((video_id, start, stop, None, groups[video_id], "window"))
    return _table(rows)


def num_window_frames(window_sec: float, *, fps: float) -> int:
    """Length of a window in extracted frames, at least one."""
    return max(1, _nearest_frame(window_sec, fps))


def tile(num_frames: int, window: int) -> list[tuple[int, int]]:
    """Consecutive (start, stop) that cover [0, num_frames) once; training and prediction cut videos alike.

    A rest of at least half a window is a window of its own; a shorter one lengthens the last window.
    """
    shortest = math.ceil(window / 2)
    num_windows = max(1, num_frames // window + (num_frames % window >= shortest))
    starts = [i * window for i in range(num_windows)]
    return list(zip(starts, [*starts[1:], num_frames], strict=True))


def _nearest_frame(seconds: float, fps: float) -> int:
    return math.floor(seconds * fps + 0.5)


def _groups(videos: pd.DataFrame) -> Mapping[str, str]:
    return dict(zip(videos["video_id"], videos["group"], strict=True))


def _labels_by_video(events: pd.DataFrame) -> dict[str, list[str]]:
    return {video_id: sorted(set(labels)) for video_id, labels in events.groupby("video_id")["label"]}


def _table(rows: Iterable[Row]) -> pd.DataFrame:
    values = [(f"{video_id}#{start}-{stop}", video_id, start, stop, *rest) for video_id, start, stop, *rest in rows]
    values.sort(key=lambda row: row[1:4])
    frame = pd.DataFrame(values, columns=[name for name, _ in CLIPS.columns])
    return frame.astype({"start_frame": "int64", "stop_frame": "int64"})
