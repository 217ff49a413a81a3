"""Late fusion: one prediction from the streams' probabilities, weighed alike or as validation clips say.

The weights of the rule `validation` minimise, over non-negative weights w that sum to 1,

    num_clips * (mean log loss of the fused probabilities) + PULL_CLIPS * KL(equal || w)

A class that holds has the fused probability sum_s w_s p_s, one that does not has sum_s w_s (1 - p_s), so the loss of
exclusive and of independent labels alike is the negative log of a linear function: convex, with one minimum. A clip
counts once, however many frames, classes and repeats of the folds it is told in. The second term counts as PULL_CLIPS
clips that every stream tells alike: with tens of clips no stream is left without weight, with thousands it is unseen.

What is fitted on a row flatters its score. So the validation rows of a fold are fused by weights of the other folds'
rows, without the groups of that fold, which other repeats hold too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kineflow.data.probabilities import Floats
from kineflow.errors import DataError
from kineflow.evaluation.predictions import Predictions

Rule = Literal["equal", "validation"]
Weights = Mapping[str, float]  # of each stream, relative to one another

KEYS = ["fold", "clip_id", "video_id", "frame"]
PULL_CLIPS = 10.0
DIGITS = 6  # of a weight, here as in metrics.json and the release bundle, so that all three fuse alike
MAX_STEPS = 100
TOLERANCE = 1e-9  # of the loss


@dataclass(frozen=True)
class Fusion:
    """How streams are fused, and what that gives on validation rows.

    Args:
        weights: of the streams; for test rows and the release model, so `validation` fits them on all validation rows.
        of_folds: those that the validation rows of each fold are fused by, of other groups' rows only.
        out_of_fold: the validation rows, fused.
        without: the same without one stream, by its name; the others are weighed anew by the same rule.
    """

    rule: Rule
    weights: Weights
    of_folds: Mapping[int, Weights]
    out_of_fold: Predictions
    without: Mapping[str, Predictions]


def fit_fusion(streams: Sequence[Predictions], groups_N: NDArray[np.object_], *, rule: Rule) -> Fusion:
    """Weigh `streams`, the out-of-fold predictions of two models or more.

    Args:
        groups_N: of each validation row; what a group says never weighs the streams of its own rows. A fold beside
            which no other group is left weighs them alike.

    Raises:
        DataError: fewer than two streams, or streams with other rows or classes than the first.
    """
    if len(streams) < 2:
        raise DataError(f"fusion needs two streams, {len(streams)} given")
    _check_alike(streams)
    of_folds = _fold_weights(streams, groups_N, rule)
    everywhere = np.ones(len(groups_N), dtype=bool)
    without = {}
    for left_out in streams:
        others = [stream for stream in streams if stream is not left_out]
        without[left_out.name] = _fuse_folds(others, _fold_weights(others, groups_N, rule))
    return Fusion(rule, _weigh(streams, everywhere, rule), of_folds, _fuse_folds(streams, of_folds), without)


def fuse(streams: Sequence[Predictions], weights: Weights, *, name: str = "fusion") -> Predictions:
    """The weighted mean of the streams' probabilities.

    Raises:
        DataError: streams with other rows or classes than the first.
    """
    _check_alike(streams)
    return Predictions(name, streams[0].examples, _mean([stream.probs_NK for stream in streams], streams, weights))


def best_weights(told_MS: Floats, *, num_clips: int) -> Floats:
    """The weights that minimise the loss above, by Newton steps along the simplex; equal ones where M is 0.

    Args:
        told_MS: the probability that each of S streams gives to what is true, above 0: of the true class of each row,
            or of each class of each row whether it holds.
        num_clips: how many clips the M values are of.

    Returns:
        float64 (S,), above 0; they sum to 1.
    """
    num_streams = told_MS.shape[1]
    weights_S = np.full(num_streams, 1 / num_streams)
    if len(told_MS) == 0:
        return weights_S
    pull = PULL_CLIPS / num_streams

    def loss(weights_S: Floats) -> float:
        return float(-num_clips * np.log(told_MS @ weights_S).mean() - pull * np.log(weights_S).sum())

    for _ in range(MAX_STEPS):
        share_MS = told_MS / (told_MS @ weights_S)[:, None]
        slope_S = -num_clips * share_MS.mean(axis=0) - pull / weights_S
        curve_SS = num_clips * (share_MS.T @ share_MS) / len(told_MS) + np.diag(pull / weights_S**2)
        free_S, held_S = np.linalg.solve(curve_SS, np.stack([slope_S, np.ones(num_streams)], axis=1)).T
        step_S = held_S * (free_S.sum() / held_S.sum()) - free_S  # its sum is 0
        gain = float(-slope_S @ step_S)
        while (weights_S + step_S).min() <= 0 or (gain > TOLERANCE and loss(weights_S + step_S) > loss(weights_S)):
            step_S = step_S / 2
        weights_S = weights_S + step_S
        if gain <= TOLERANCE:
            break
    return weights_S


def _fold_weights(streams: Sequence[Predictions], groups_N: NDArray[np.object_], rule: Rule) -> dict[int, Weights]:
    examples = streams[0].examples
    held_out = {fold: np.isin(groups_N, np.unique(groups_N[examples.of_fold(fold)])) for fold in examples.folds}
    return {fold: _weigh(streams, ~held_out_N, rule) for fold, held_out_N in held_out.items()}


def _fuse_folds(streams: Sequence[Predictions], of_folds: Mapping[int, Weights]) -> Predictions:
    examples = streams[0].examples
    probs_NK = np.empty_like(streams[0].probs_NK)
    for fold, weights in of_folds.items():
        rows_N = examples.of_fold(fold)
        probs_NK[rows_N] = _mean([stream.probs_NK[rows_N] for stream in streams], streams, weights)
    return Predictions("fusion", examples, probs_NK)


def _mean(probs_SNK: Sequence[Floats], streams: Sequence[Predictions], weights: Weights) -> Floats:
    return np.asarray(np.average(probs_SNK, axis=0, weights=[weights[stream.name] for stream in streams]))


def _weigh(streams: Sequence[Predictions], rows_N: NDArray[np.bool_], rule: Rule) -> Weights:
    """The weights by `rule`, fitted on the rows of the mask `rows_N`."""
    told_MS, row_M = _told(streams, rows_N if rule == "validation" else np.zeros_like(rows_N))
    num_clips = streams[0].examples.rows["clip_id"].iloc[row_M].nunique()
    weights_S = best_weights(told_MS, num_clips=num_clips).round(DIGITS)
    return {stream.name: float(weight) for stream, weight in zip(streams, weights_S, strict=True)}


def _told(streams: Sequence[Predictions], rows_N: NDArray[np.bool_]) -> tuple[Floats, NDArray[np.int64]]:
    """What each stream gives to what is true, (M, S) above 0, and the row of each; unlabelled ones are left out."""
    truth = streams[0].examples.truth
    if truth.ndim == 1:
        row_M = np.flatnonzero(rows_N & np.isfinite(truth))
        true_M = truth[row_M].astype(np.int64)
        told = [stream.probs_NK[row_M, true_M] for stream in streams]
    else:
        row_M, class_M = np.nonzero(rows_N[:, None] & np.isfinite(truth))
        holds_M = truth[row_M, class_M] == 1
        probs = [stream.probs_NK[row_M, class_M] for stream in streams]
        told = [np.where(holds_M, probs_M, 1 - probs_M) for probs_M in probs]
    return np.clip(np.stack(told, axis=1), np.finfo(np.float64).eps, 1.0), row_M


def _check_alike(streams: Sequence[Predictions]) -> None:
    first = streams[0]
    for other in streams[1:]:
        if other.examples.classes != first.examples.classes:
            raise DataError(f"the streams {first.name} and {other.name} have different classes")
        if not first.examples.rows[KEYS].equals(other.examples.rows[KEYS]):
            raise DataError(f"the streams {first.name} and {other.name} have different rows, so they cannot be fused")
