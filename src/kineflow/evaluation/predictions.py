"""The rows that are scored, what is true of them, and the probabilities that a model gives them.

The rows come from the split tables, never from a model's own file: a file that lacks a row, repeats one, or
holds one that its fold was trained on is refused. So every model and baseline is scored on the same rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kineflow import tables
from kineflow.data.clips import label_columns
from kineflow.data.probabilities import Floats, Labels, mean_by_row, to_probs
from kineflow.errors import DataError
from kineflow.evaluation.metrics import scores

TEST_FOLD = -1


@dataclass(frozen=True)
class Examples:
    """Rows to score and their truth.

    Args:
        rows: fold, clip_id, video_id, frame (-1 on task clip); sorted, without repeats. A row of task frame belongs
            to the first of the windows that hold it.
        truth: float64, nan where unlabelled; of exclusive labels (N,) class indices, of independent ones (N, K) of 0
            and 1.
        window_rows: task frame: the rows before windows that overlap were joined, else the same as `rows`.
        row_of_window_row: int64, for each of `window_rows` its row.
    """

    task: str
    classes: tuple[str, ...]
    rows: pd.DataFrame
    truth: Floats
    window_rows: pd.DataFrame
    row_of_window_row: NDArray[np.int64]

    @property
    def labels(self) -> Labels:
        """Whether the classes exclude each other."""
        return "exclusive" if self.truth.ndim == 1 else "independent"

    @property
    def folds(self) -> list[int]:
        """The folds that occur, sorted."""
        return sorted(int(fold) for fold in self.rows["fold"].unique())

    def of_fold(self, fold: int) -> NDArray[np.bool_]:
        """Mask of the rows of one fold."""
        return np.asarray(self.rows["fold"] == fold)

    def joined(self, probs_WK: Floats) -> Floats:
        """Probabilities of `rows` from those of `window_rows`: a frame that several windows hold gets their mean."""
        return mean_by_row(probs_WK, self.row_of_window_row, num_rows=len(self.rows))


@dataclass(frozen=True)
class Predictions:
    """The probabilities of one model, or of one model for each fold, aligned with `examples.rows`."""

    name: str
    examples: Examples
    probs_NK: Floats

    def fold_scores(self) -> list[dict[str, float]]:
        """The scores of each fold, in order."""
        masks = [self.examples.of_fold(fold) for fold in self.examples.folds]
        return [scores(self.probs_NK[mask], self.examples.truth[mask], task=self.examples.task) for mask in masks]


def join_folds(folds: Sequence[Predictions]) -> Predictions:
    """The predictions of one model for each fold as one, in the order of the folds."""
    examples = [one.examples for one in folds]
    first_rows = np.cumsum([0, *(len(one.rows) for one in examples)])[:-1]
    joined = replace(
        examples[0],
        rows=pd.concat([one.rows for one in examples], ignore_index=True),
        truth=np.concatenate([one.truth for one in examples]),
        window_rows=pd.concat([one.window_rows for one in examples], ignore_index=True),
        row_of_window_row=np.concatenate(
            [one.row_of_window_row + first for one, first in zip(examples, first_rows, strict=True)]
        ),
    )
    return Predictions(folds[0].name, joined, np.concatenate([one.probs_NK for one in folds]))


LabelsOfVideo = Callable[[str], Floats]


def make_examples(
    task: str,
    clips: pd.DataFrame,
    folds: pd.DataFrame,
    *,
    role: str,
    classes: Sequence[str],
    labels: Labels,
    labels_of: LabelsOfVideo,
) -> Examples | None:
    """The rows of a role, `val` of every fold or `test`, and their truth; None where the role has no clips.

    Args:
        clips: the clips table.
        folds: the folds table.
        labels: whether the classes exclude each other.
        labels_of: task frame: the (N, K) labels of a video's extracted frames, columns as `classes`.

    Raises:
        DataError: a fold names an unknown clip, or a clip has a label that is no class.
    """
    chosen = folds[folds["role"] == role][["clip_id", "fold"]]
    if role == "test":
        chosen = chosen.assign(fold=TEST_FOLD)
    chosen = chosen.merge(clips, on="clip_id", how="left", validate="many_to_one")
    if chosen.empty:
        return None
    unknown = chosen["video_id"].isna()
    if unknown.any():
        raise DataError(f"folds names the clip {chosen['clip_id'][unknown].iloc[0]!r}, which the clips table lacks")
    chosen = chosen.sort_values(["fold", "clip_id"], ignore_index=True)
    if task == "clip":
        return _clip_examples(chosen, tuple(classes), labels, label_columns(clips))
    return _frame_examples(chosen, tuple(classes), labels, labels_of)


def _clip_examples(chosen: pd.DataFrame, classes: tuple[str, ...], labels: Labels, columns: Sequence[str]) -> Examples:
    index = {name: k for k, name in enumerate(classes)}
    unknown = [label for label in (columns if labels == "independent" else chosen["label"]) if label not in index]
    if unknown:
        raise DataError(f"the clips table has the label {unknown[0]!r}, but the models know {', '.join(classes)}")
    rows = chosen[["fold", "clip_id", "video_id"]].assign(frame=np.int64(-1))
    if labels == "independent":
        truth = chosen.reindex(columns=list(classes), fill_value=0).to_numpy(dtype=np.float64)
    else:
        truth = np.array([index[label] for label in chosen["label"]], dtype=np.float64)
    return Examples("clip", classes, rows, truth, rows, np.arange(len(rows)))


def _frame_examples(
    chosen: pd.DataFrame, classes: tuple[str, ...], labels: Labels, labels_of: LabelsOfVideo
) -> Examples:
    lengths = (chosen["stop_frame"] - chosen["start_frame"]).to_numpy()
    window_rows = chosen.loc[np.repeat(chosen.index, lengths), ["fold", "clip_id", "video_id"]].reset_index(drop=True)
    frames = [np.arange(start, stop) for start, stop in zip(chosen["start_frame"], chosen["stop_frame"], strict=True)]
    window_rows["frame"] = np.concatenate(frames).astype(np.int64)
    window_rows = window_rows.sort_values(["fold", "video_id", "frame", "clip_id"], ignore_index=True)
    repeated = window_rows.duplicated(["fold", "video_id", "frame"]).to_numpy()
    rows = window_rows[~repeated].reset_index(drop=True)
    truth = np.empty((len(rows), len(classes)))
    for video_id, index in rows.groupby("video_id", sort=True).indices.items():
        labels_FK, wanted = labels_of(str(video_id)), rows["frame"].to_numpy()[index]
        if wanted.max() >= len(labels_FK):
            raise DataError(f"{video_id}: a clip ends at frame {wanted.max()}, but {len(labels_FK)} were extracted")
        truth[index] = labels_FK[wanted]
    if labels == "exclusive":
        truth = class_indices(truth)
    return Examples("frame", classes, rows, truth, window_rows, np.cumsum(~repeated) - 1)


def class_indices(truth_NK: Floats) -> Floats:
    """The index of the one class of each row, nan for an unlabelled row."""
    labelled_N = np.isfinite(truth_NK).all(axis=1)
    return np.where(labelled_N, np.nan_to_num(truth_NK).argmax(axis=1), np.nan)


def read_predictions(path: Path, name: str, examples: Examples) -> Predictions:
    """Read a logits table and turn it into the probabilities of exactly the rows of `examples`.

    Raises:
        DataError: classes differ, or a row is missing, repeated or not one of its fold, or a logit is not finite.
    """
    table = tables.read_table(path, tables.LOGITS)
    found = tuple(tables.LOGITS.extra_columns([str(column) for column in table.columns]))
    if found != examples.classes:
        raise DataError(f"{path}: its classes are {', '.join(found)}, not {', '.join(examples.classes)}")
    table = table.assign(frame=table["frame"].fillna(-1).astype(np.int64), row=np.arange(len(table)))
    wanted, keys = examples.window_rows, ["fold", "clip_id", "video_id", "frame"]
    repeated = table.duplicated(keys)
    if repeated.any():
        raise DataError(f"{path}: {_row(table[repeated])} is there more than once; train that stream again")
    joined = wanted.merge(table[[*keys, "row"]], on=keys, how="outer", indicator=True)
    _refuse(path, joined[joined["_merge"] == "right_only"], "is no row that it may be scored on (a leak)")
    _refuse(path, joined[joined["_merge"] == "left_only"], "is missing")
    order = wanted.merge(table[[*keys, "row"]], on=keys, how="left")["row"].to_numpy(dtype=np.int64)
    logits_NK = table[list(found)].to_numpy(dtype=np.float64)[order]
    if not np.isfinite(logits_NK).all():
        raise DataError(f"{path}: {_row(wanted[~np.isfinite(logits_NK).all(axis=1)])} has a logit that is not finite")
    return Predictions(name, examples, examples.joined(to_probs(logits_NK, examples.labels)))


def _refuse(path: Path, rows: pd.DataFrame, reason: str) -> None:
    if len(rows):
        more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
        raise DataError(f"{path}: {_row(rows)}{more} {reason}; train that stream again")


def _row(rows: Any) -> str:
    first = rows.iloc[0]
    frame = f", frame {int(first['frame'])}" if first["frame"] >= 0 else ""
    return f"the clip {first['clip_id']!r} of fold {int(first['fold'])}{frame}"
