"""Scores from probabilities and true labels, for both tasks, and their mean and spread over folds.

What is absent is left out, never counted as right or wrong by convention:

- F1 is averaged over the classes that occur in the truth or in the predictions (as scikit-learn does). A class
  that is predicted but never true counts with F1 = 0; one that occurs in neither says nothing.
- Recall (`video_mean_class_acc`) and average precision (`frame_mAP`) need positives: they are averaged over the
  classes that have one. A class has a precision only where it is predicted.
- A score without anything to average is nan, `null` in JSON, and is left out of the mean over folds.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics as skm

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
FoldScores = Mapping[str, float]

CLIP_METRICS = ("video_top1_acc", "video_macro_f1", "video_mean_class_acc", "video_log_loss")
FRAME_METRICS = ("frame_macro_f1", "frame_mAP", "frame_top1_acc")
LOWER_IS_BETTER = frozenset({"video_log_loss"})
THRESHOLD = 0.5  # a behaviour is predicted where its probability reaches this


@dataclass(frozen=True)
class ClassRow:
    """How well one class or behaviour is told; nan where there is nothing to divide by.

    Args:
        support: rows where it is true.
        average_precision: area under its precision-recall curve; task frame only, else nan.
    """

    name: str
    precision: float
    recall: float
    f1: float
    support: int
    average_precision: float = math.nan


@dataclass(frozen=True)
class FoldSummary:
    """One metric over the folds: mean and population standard deviation of the folds that have a value."""

    mean: float
    std: float
    folds: tuple[float, ...]

    def as_json(self) -> dict[str, object]:
        """As metrics.json holds it; nan becomes null."""
        return {"mean": _json(self.mean), "std": _json(self.std), "folds": [_json(value) for value in self.folds]}


def metric_names(task: str) -> tuple[str, ...]:
    """The metrics of a task, the headline first."""
    return CLIP_METRICS if task == "clip" else FRAME_METRICS


def clip_scores(probs_NK: Floats, labels_N: Ints) -> dict[str, float]:
    """The four scores of task clip.

    Args:
        probs_NK: N clips by K classes, rows sum to 1.
        labels_N: the true class of each clip, in [0, K).

    Returns:
        `CLIP_METRICS` by name. The log loss is in nats, of probabilities clipped at float64's epsilon.

    Raises:
        ValueError: no clips, shapes that do not fit, probabilities that are none, or a label out of range.
    """
    _check(probs_NK, labels_N)
    if labels_N.min() < 0 or labels_N.max() >= probs_NK.shape[1]:
        raise ValueError(f"labels must lie in [0, {probs_NK.shape[1]})")
    sums = probs_NK.sum(axis=1)
    if not np.allclose(sums, 1.0, atol=1e-4):
        raise ValueError(f"probabilities of a clip must sum to 1; row {int(np.abs(sums - 1).argmax())} does not")
    classes = np.arange(probs_NK.shape[1])
    predicted_N = probs_NK.argmax(axis=1)
    present = np.unique(labels_N)
    recalls = skm.recall_score(labels_N, predicted_N, labels=present, average=None, zero_division=0.0)
    true_probs = probs_NK[np.arange(len(labels_N)), labels_N] / sums
    return {
        "video_top1_acc": float(skm.accuracy_score(labels_N, predicted_N)),
        "video_macro_f1": _macro_f1(_one_hot(labels_N, classes), _one_hot(predicted_N, classes)),
        "video_mean_class_acc": float(np.mean(recalls)),
        "video_log_loss": float(-np.log(np.clip(true_probs, np.finfo(np.float64).eps, 1.0)).mean()),
    }


def frame_scores(probs_NK: Floats, labels_NK: Floats) -> dict[str, float]:
    """The three scores of task frame.

    Args:
        probs_NK: N frames by K behaviours, each a probability of its own.
        labels_NK: 0, 1, or nan where nobody said: masked.

    Returns:
        `FRAME_METRICS` by name. Top-1 is over the frames whose every behaviour is labelled and exactly one holds.
    """
    _check(probs_NK, labels_NK)
    rows = [_behaviour_row("", probs_NK[:, k], labels_NK[:, k]) for k in range(probs_NK.shape[1])]
    single_N = np.isfinite(labels_NK).all(axis=1) & (np.nan_to_num(labels_NK).sum(axis=1) == 1)
    hits = probs_NK[single_N].argmax(axis=1) == labels_NK[single_N].argmax(axis=1)
    return {
        "frame_macro_f1": _nanmean([row.f1 for row in rows]),
        "frame_mAP": _nanmean([row.average_precision for row in rows]),
        "frame_top1_acc": float(hits.mean()) if len(hits) else math.nan,
    }


def scores(task: str, probs_NK: Floats, labels: Floats) -> dict[str, float]:
    """`clip_scores` or `frame_scores`, by task."""
    return clip_scores(probs_NK, labels.astype(np.int64)) if task == "clip" else frame_scores(probs_NK, labels)


def class_table(probs_NK: Floats, labels_N: Ints, classes: Sequence[str]) -> list[ClassRow]:
    """Precision, recall, F1 and support of each class of task clip, in the order of `classes`."""
    _check(probs_NK, labels_N)
    predicted_N = probs_NK.argmax(axis=1)
    return [_class_row(name, labels_N == k, predicted_N == k) for k, name in enumerate(classes)]


def behaviour_table(probs_NK: Floats, labels_NK: Floats, classes: Sequence[str]) -> list[ClassRow]:
    """The same for each behaviour of task frame, over its labelled frames, with its average precision."""
    _check(probs_NK, labels_NK)
    return [_behaviour_row(name, probs_NK[:, k], labels_NK[:, k]) for k, name in enumerate(classes)]


def confusion_matrix(probs_NK: Floats, labels_N: Ints) -> Ints:
    """Counts, int64 (K, K): row the true class, column the predicted one."""
    _check(probs_NK, labels_N)
    matrix = skm.confusion_matrix(labels_N, probs_NK.argmax(axis=1), labels=np.arange(probs_NK.shape[1]))
    return np.asarray(matrix, dtype=np.int64)


def over_folds(fold_scores: Sequence[FoldScores]) -> dict[str, FoldSummary]:
    """Each metric that the folds report, over all of them in their order."""
    summaries = {}
    for name in fold_scores[0]:
        values = np.array([scores_of_fold[name] for scores_of_fold in fold_scores], dtype=np.float64)
        known = values[np.isfinite(values)]
        mean, std = (float(known.mean()), float(known.std())) if len(known) else (math.nan, math.nan)
        summaries[name] = FoldSummary(mean, std, tuple(float(value) for value in values))
    return summaries


def _class_row(name: str, true_N: NDArray[np.bool_], predicted_N: NDArray[np.bool_]) -> ClassRow:
    precision, recall, f1, _ = skm.precision_recall_fscore_support(
        true_N, predicted_N, average="binary", zero_division=np.nan
    )
    return ClassRow(name, float(precision), float(recall), float(f1), int(true_N.sum()))


def _behaviour_row(name: str, probs_N: Floats, labels_N: Floats) -> ClassRow:
    labelled_N = np.isfinite(labels_N)
    if not labelled_N.any():
        return ClassRow(name, math.nan, math.nan, math.nan, 0)
    true_N, probs_N = labels_N[labelled_N] == 1, probs_N[labelled_N]
    row = _class_row(name, true_N, probs_N >= THRESHOLD)
    area = float(skm.average_precision_score(true_N, probs_N)) if true_N.any() else math.nan
    return ClassRow(name, row.precision, row.recall, row.f1, row.support, area)


def _macro_f1(true_NK: NDArray[np.bool_], predicted_NK: NDArray[np.bool_]) -> float:
    return _nanmean([_class_row("", true_NK[:, k], predicted_NK[:, k]).f1 for k in range(true_NK.shape[1])])


def _one_hot(labels_N: Ints, classes: Ints) -> NDArray[np.bool_]:
    return np.asarray(labels_N[:, None] == classes[None, :])


def _nanmean(values: Sequence[float]) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=RuntimeWarning)  # all nan gives nan, as documented
        return float(np.nanmean(values))


def _json(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None


def _check(probs_NK: Floats, labels: Floats | Ints) -> None:
    if len(probs_NK) == 0:
        raise ValueError("there are no rows to score")
    expected = probs_NK.shape[: labels.ndim]
    if labels.shape != expected:
        raise ValueError(f"labels have the shape {labels.shape}, the probabilities {probs_NK.shape}")
    if not (np.isfinite(probs_NK).all() and probs_NK.min() >= 0 and probs_NK.max() <= 1 + 1e-6):
        raise ValueError("probabilities must lie between 0 and 1")
