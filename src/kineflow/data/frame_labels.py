"""Labels of frames: from the frames of a source video to its extracted frames, and their counts by clip."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kineflow.errors import DataError
from kineflow.tables import FRAME_LABELS

BACKGROUND = "background"  # the class of frames without a behaviour, where classes exclude each other


def behaviours(frame_labels: pd.DataFrame) -> list[str]:
    """Names of the behaviour columns of a frame_labels table, in its order."""
    return FRAME_LABELS.extra_columns([str(name) for name in frame_labels.columns])


def exclusive_labels(frame_labels: pd.DataFrame) -> pd.DataFrame:
    """The frame_labels table with exactly one class in each labelled frame: a behaviour, or the first, `background`.

    A frame of which one behaviour is known to hold shows no other; one of which that is not known, and not every
    behaviour is known to be absent, is unlabelled. Without a frame of the background it is no class.

    Raises:
        DataError: two behaviours hold in one frame, or one is named `background`.
    """
    names = behaviours(frame_labels)
    if BACKGROUND in names:
        raise DataError(f"a behaviour is named {BACKGROUND!r}, as frames without one are; rename it")
    values_RK = frame_labels[names].to_numpy(dtype=np.float32, na_value=np.nan)
    holds_RK = values_RK == 1
    num_holding_R = holds_RK.sum(axis=1)
    if (num_holding_R > 1).any():
        row = int(np.argmax(num_holding_R > 1))
        both = " and ".join(name for name, holds in zip(names, holds_RK[row], strict=True) if holds)
        where = f"{frame_labels['video_id'].iloc[row]}: frame {frame_labels['frame'].iloc[row]}"
        raise DataError(f"{where} shows {both}; correct its labels, or set clips.frame_labels: independent")
    labelled_R = (num_holding_R == 1) | np.isfinite(values_RK).all(axis=1)
    columns = dict(zip(names, holds_RK.T, strict=True))
    is_background_R = labelled_R & (num_holding_R == 0)
    if is_background_R.any():
        columns = {BACKGROUND: is_background_R} | columns
    table = frame_labels[["video_id", "frame"]].copy()
    for name, holds_R in columns.items():
        table[name] = pd.Series(holds_R, index=table.index).astype("Int8").where(labelled_R)
    return table


def unlabel_frames_without_class(frame_labels: pd.DataFrame) -> pd.DataFrame:
    """Exclusive labels after columns were left out: what showed one of those is unlabelled, not something else."""
    names = behaviours(frame_labels)
    shows_one_R = (frame_labels[names] == 1).any(axis=1).fillna(False).to_numpy(dtype=bool)
    return frame_labels.assign(**{name: frame_labels[name].where(shows_one_R) for name in names})


def extracted_labels(frame_labels_of_video: pd.DataFrame, source_frames_N: NDArray[np.int64]) -> NDArray[np.float32]:
    """Labels of each extracted frame of one video: those of the source frame that it shows.

    Args:
        frame_labels_of_video: the rows of one video in the frame_labels table, in any order; may be empty.
        source_frames_N: int64, the source frame of each extracted frame (`FrameReader.source_frames`).

    Returns:
        float32 (N, K), one column for each behaviour in the table's order: 0, 1, or nan where unlabelled.

    Raises:
        DataError: a frame of the video is labelled twice.
    """
    names = behaviours(frame_labels_of_video)
    labels_NK = np.full((len(source_frames_N), len(names)), np.nan, dtype=np.float32)
    rows = frame_labels_of_video.sort_values("frame", kind="stable")
    frames_R = rows["frame"].to_numpy(dtype=np.int64)
    twice = np.flatnonzero(np.diff(frames_R) == 0)
    if len(twice):
        video_id = rows["video_id"].iloc[twice[0]]
        raise DataError(f"{video_id}: frame {frames_R[twice[0]]} is labelled twice; keep one row for each frame")
    if not len(frames_R):
        return labels_NK
    values_RK = rows[names].to_numpy(dtype=np.float32, na_value=np.nan)
    at_N = np.minimum(np.searchsorted(frames_R, source_frames_N), len(frames_R) - 1)
    labelled_N = frames_R[at_N] == source_frames_N
    labels_NK[labelled_N] = values_RK[at_N[labelled_N]]
    return labels_NK


def positive_frame_counts(
    clips: pd.DataFrame,
    frame_labels: pd.DataFrame,
    *,
    num_source_frames: Mapping[str, int],
    num_extracted_frames: Mapping[str, int],
) -> pd.DataFrame:
    """How many labelled source frames of each clip show each behaviour, known before anything is extracted.

    A source frame is placed on the extracted frames by its share of the video, which is exact at a constant rate and
    near enough to balance folds at a variable one.

    Args:
        clips: the clips table; a frame of several windows counts in each.
        frame_labels: the frame_labels table.
        num_source_frames: decoded frames of each video.
        num_extracted_frames: extracted frames of each video.

    Returns:
        int64 counts, indexed by clip_id, one column for each behaviour.
    """
    names = behaviours(frame_labels)
    counts = pd.DataFrame(0, index=pd.Index(clips["clip_id"], name="clip_id"), columns=names, dtype=np.int64)
    rows_by_video = dict(tuple(frame_labels.groupby("video_id", sort=False)))
    for video_id, clips_of_video in clips.groupby("video_id"):
        if video_id not in rows_by_video:
            continue
        rows = rows_by_video[video_id]
        positive_RK = rows[names].to_numpy(dtype=np.float32, na_value=np.nan) == 1
        scale = num_extracted_frames[video_id] / num_source_frames[video_id]
        extracted_R = rows["frame"].to_numpy(dtype=np.int64) * scale
        for clip_id, start, stop in clips_of_video[["clip_id", "start_frame", "stop_frame"]].itertuples(index=False):
            inside_R = (extracted_R >= start) & (extracted_R < stop)
            counts.loc[clip_id] = positive_RK[inside_R].sum(axis=0)
    return counts
