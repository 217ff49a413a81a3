"""The rows that models are scored on, and what is true of them, from the tables of the workspace."""

import numpy as np
import pandas as pd

from kineflow.data.frame_labels import behaviours, extracted_labels
from kineflow.data.probabilities import Floats
from kineflow.errors import DataError
from kineflow.evaluation.predictions import Examples, LabelsOfVideo, make_examples
from kineflow.params import Params
from kineflow.stages import paths
from kineflow.stages.learned_labels import read_learned_labels
from kineflow.tables import CLIPS, FOLDS, VIDEOS, read_table
from kineflow.video.frame_store import FrameReader


def validation_rows(params: Params, classes: tuple[str, ...]) -> dict[int, Examples]:
    """The validation rows of each fold."""
    videos, clips = read_table(paths.VIDEOS, VIDEOS), read_table(paths.CLIPS, CLIPS)
    folds = read_table(paths.FOLDS, FOLDS)
    labels_of = labels_of_videos(params, videos, classes)
    found = {}
    for fold, of_fold in folds[folds["role"] == "val"].groupby("fold"):
        rows = make_examples(
            params.task, clips, of_fold, role="val", classes=classes, labels=params.labels, labels_of=labels_of
        )
        assert rows is not None  # a group has rows
        found[int(fold)] = rows
    if not found:
        raise DataError(f"{paths.FOLDS}: no clip has the role val, so nothing can be cross-validated")
    return found


def labels_of_videos(params: Params, videos: pd.DataFrame, classes: tuple[str, ...]) -> LabelsOfVideo:
    """The labels of a video's extracted frames; of task frame, for task clip has none."""
    if params.task == "clip":
        return _no_labels
    table = read_learned_labels(params, videos)
    found = behaviours(table)
    if tuple(found) != classes:
        raise DataError(f"{paths.FRAME_LABELS}: has the behaviours {', '.join(found)}, the models {', '.join(classes)}")
    by_video = dict(tuple(table.groupby("video_id", sort=False)))

    def labels_of(video_id: str) -> Floats:
        with FrameReader(paths.FRAMES / f"{video_id}.zip") as reader:
            rows = by_video.get(video_id, table.iloc[:0])
            return extracted_labels(rows, reader.source_frames).astype(np.float64)

    return labels_of


def _no_labels(video_id: str) -> Floats:
    raise AssertionError(f"{video_id}: task clip has no frame labels")
