"""Scores from probabilities and true labels, of both tasks and both kinds of labels; their mean and spread over folds.

What is absent is left out, never counted as right or wrong by convention:

- F1 is averaged over the classes that occur in the truth or in the predictions (as scikit-learn does). A class
  that is predicted but never true counts with F1 = 0; one that occurs in neither says nothing.
- Recall (`mean_class_acc`) and average precision (`mAP`) need positives: they are averaged over the
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

from kineflow.data.probabilities import Floats, Labels

Ints = NDArray[np.int64]
FoldScores = Mapping[str, float]

METRICS: dict[tuple[str, Labels], tuple[str, ...]] = {  # by task and labels, the headline first
    ("clip", "exclusive"): ("video_top1_acc", "video_macro_f1", "video_mean_class_acc", "video_log_loss"),
    ("clip", "independent"): ("video_mAP", "video_macro_f1", "video_exact_match"),
    ("frame", "exclusive"): ("frame_macro_f1", "frame_top1_acc", "frame_mean_class_acc", "frame_log_loss"),
    ("frame", "independent"): ("frame_macro_f1", "frame_mAP", "frame_top1_acc"),
}
LOWER_IS_BETTER = frozenset({"video_log_loss", "frame_log_loss"})
THRESHOLD = 0.5  # a class of independent labels is predicted where its probability reaches this


@dataclass(frozen=True)
class ClassRow:
    """How well one class or behaviour is told; nan where there is nothing to divide by.

    Args:
        support: rows where it is true.
        average_precision: area under its precision-recall curve; of independent labels only, else nan.
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


def metric_names(task: str, labels: Labels) -> tuple[str, ...]:
    """The metrics of a task, the headline first."""
    return METRICS[task, labels]


def scores(probs_NK: Floats, truth: Floats, *, task: str) -> dict[str, float]:
    """`exclusive_scores` where the truth is a class index (N,), `independent_scores` where it is (N, K)."""
    return (exclusive_scores if truth.ndim == 1 else independent_scores)(probs_NK, truth, task=task)


def exclusive_scores(probs_NK: Floats, labels_N: Floats, *, task: str) -> dict[str, float]:
    """The scores of classes that exclude each other.

    Args:
        probs_NK: N clips or frames by K classes, rows sum to 1.
        labels_N: the true class of each, in [0, K), or nan where nobody said: masked.
        task: clip or frame, which the names of the metrics begin with.

    Returns:
        The metrics by name; all nan where nothing is labelled. The log loss is in nats, of probabilities clipped at
        float64's epsilon.

    Raises:
        ValueError: no rows, shapes that do not fit, probabilities that are none, or a label out of range.
    """
    _check(probs_NK, labels_N)
    names = METRICS[task, "exclusive"]
    labelled_N = np.isfinite(labels_N)
    if not labelled_N.any():
        return dict.fromkeys(names, math.nan)
    probs_NK, true_N = probs_NK[labelled_N], labels_N[labelled_N].astype(np.int64)
    if true_N.min() < 0 or true_N.max() >= probs_NK.shape[1]:
        raise ValueError(f"labels must lie in [0, {probs_NK.shape[1]})")
    sums = probs_NK.sum(axis=1)
    if not np.allclose(sums, 1.0, atol=1e-4):
        raise ValueError(f"probabilities of a row must sum to 1; row {int(np.abs(sums - 1).argmax())} does not")
    classes = np.arange(probs_NK.shape[1])
    predicted_N = probs_NK.argmax(axis=1)
    present = np.unique(true_N)
    recalls = skm.recall_score(true_N, predicted_N, labels=present, average=None, zero_division=0.0)
    true_probs = probs_NK[np.arange(len(true_N)), true_N] / sums
    found = {
        "top1_acc": float(skm.accuracy_score(true_N, predicted_N)),
        "macro_f1": _macro_f1(_one_hot(true_N, classes), _one_hot(predicted_N, classes)),
        "mean_class_acc": float(np.mean(recalls)),
        "log_loss": float(-np.log(np.clip(true_probs, np.finfo(np.float64).eps, 1.0)).mean()),
    }
    return {name: found[name.partition("_")[2]] for name in names}


def independent_scores(probs_NK: Floats, labels_NK: Floats, *, task: str) -> dict[str, float]:
    """The scores of classes that may hold together.

    Args:
        probs_NK: N clips or frames by K classes, each a probability of its own.
        labels_NK: 0, 1, or nan where nobody said: masked.
        task: clip or frame, which the names of the metrics begin with.

    Returns:
        The metrics by name. Top-1 is over the rows whose every class is labelled and exactly one holds, an exact match
        over those whose every class is labelled.
    """
    _check(probs_NK, labels_NK)
    rows = [_behaviour_row("", probs_NK[:, k], labels_NK[:, k]) for k in range(probs_NK.shape[1])]
    whole_N = np.isfinite(labels_NK).all(axis=1)
    single_N = whole_N & (np.nan_to_num(labels_NK).sum(axis=1) == 1)
    hits = probs_NK[single_N].argmax(axis=1) == labels_NK[single_N].argmax(axis=1)
    matches = ((probs_NK[whole_N] >= THRESHOLD) == (labels_NK[whole_N] == 1)).all(axis=1)
    found = {
        "macro_f1": _nanmean([row.f1 for row in rows]),
        "mAP": _nanmean([row.average_precision for row in rows]),
        "top1_acc": float(hits.mean()) if len(hits) else math.nan,
        "exact_match": float(matches.mean()) if len(matches) else math.nan,
    }
    return {name: found[name.partition("_")[2]] for name in METRICS[task, "independent"]}


def class_table(probs_NK: Floats, truth: Floats, classes: Sequence[str]) -> list[ClassRow]:
    """Precision, recall, F1 and support of each class over its labelled rows, in the order of `classes`.

    Args:
        truth: (N,) class indices, or (N, K) of independent labels, whose rows have an average precision too.
    """
    _check(probs_NK, truth)
    if truth.ndim == 2:
        return [_behaviour_row(name, probs_NK[:, k], truth[:, k]) for k, name in enumerate(classes)]
    labelled_N = np.isfinite(truth)
    labels_N, predicted_N = truth[labelled_N], probs_NK[labelled_N].argmax(axis=1)
    return [_class_row(name, labels_N == k, predicted_N == k) for k, name in enumerate(classes)]


def confusion_matrix(probs_NK: Floats, labels_N: Floats) -> Ints:
    """Counts of the labelled rows, int64 (K, K): row the true class, column the predicted one."""
    _check(probs_NK, labels_N)
    labelled_N = np.isfinite(labels_N)
    true_N, predicted_N = labels_N[labelled_N].astype(np.int64), probs_NK[labelled_N].argmax(axis=1)
    num_classes = probs_NK.shape[1]
    counts_KK = np.zeros((num_classes, num_classes), dtype=np.int64)
    np.add.at(counts_KK, (true_N, predicted_N), 1)
    return counts_KK


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
