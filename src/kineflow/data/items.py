"""From the tables to clips with targets."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from kineflow.data.clips import label_columns
from kineflow.data.dataset import ClipItem
from kineflow.data.frame_labels import extracted_labels


def clip_classes(clips: pd.DataFrame) -> tuple[str, ...]:
    """The classes of task clip, in alphabetical order: the order of every model's outputs."""
    return tuple(label_columns(clips) or sorted(clips["label"].dropna().unique()))


def clip_items(clips: pd.DataFrame, classes: Sequence[str]) -> dict[str, ClipItem]:
    """Items of task clip by clip_id; targets are class indices, or float32 (K,) of 0 and 1 where several may hold."""
    if columns := label_columns(clips):
        targets_NK = clips[columns].to_numpy(dtype=np.float32)
        return {
            row.clip_id: ClipItem(row.clip_id, row.video_id, row.start_frame, row.stop_frame, target_K)
            for row, target_K in zip(clips.itertuples(), targets_NK, strict=True)
        }
    index_of = {label: index for index, label in enumerate(classes)}
    return {
        row.clip_id: ClipItem(row.clip_id, row.video_id, row.start_frame, row.stop_frame, index_of[row.label])
        for row in clips.itertuples()
    }


def window_items(
    clips: pd.DataFrame, frame_labels: pd.DataFrame, source_frames: Mapping[str, np.ndarray]
) -> dict[str, ClipItem]:
    """Items of task frame by clip_id, with float32 (T, K) targets, nan where unlabelled.

    Args:
        source_frames: by video, which source frame each extracted frame is.
    """
    items: dict[str, ClipItem] = {}
    labels_of = dict(tuple(frame_labels.groupby("video_id", sort=False)))
    empty = frame_labels.iloc[:0]
    for video_id, windows in clips.groupby("video_id", sort=False):
        labels_NK = extracted_labels(labels_of.get(video_id, empty), source_frames[video_id])
        for row in windows.itertuples():
            target = labels_NK[row.start_frame : row.stop_frame]
            items[row.clip_id] = ClipItem(row.clip_id, row.video_id, row.start_frame, row.stop_frame, target)
    return items
