"""How far a score, and the difference of two, could have come out otherwise: a bootstrap over groups.

Clips of one group (subject, nest, source video) resemble each other, so groups are drawn and not clips. Two models
are scored on the same draws, so that what makes a group hard for both does not blur their difference.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kineflow.data.probabilities import Floats
from kineflow.evaluation.metrics import THRESHOLD

NUM_DRAWS = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A value and where 95% of the draws lie; nan where there is nothing to draw."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class GroupScores:
    """A score of all rows, and of every draw of groups.

    Args:
        draws_D: nan where a draw has nothing to score.
    """

    value: float
    draws_D: Floats

    @property
    def interval(self) -> Interval:
        """The value in the percentiles of its draws."""
        return _interval(self.value, self.draws_D)

    def minus(self, other: "GroupScores") -> Interval:
        """The difference from `other`, of the same draws."""
        return _interval(self.value - other.value, self.draws_D - other.draws_D)


def draw_groups(num_groups: int, *, seed: int = 0, num_draws: int = NUM_DRAWS) -> NDArray[np.int64]:
    """How often each group is in each draw of as many groups, with replacement: int64 (D, G).

    A single group cannot be drawn otherwise, so there is no draw of it.
    """
    if num_groups < 2:
        return np.empty((0, num_groups), dtype=np.int64)
    return np.random.default_rng(seed).multinomial(num_groups, np.full(num_groups, 1 / num_groups), size=num_draws)


def group_scores(
    probs_NK: Floats, truth: Floats, group_N: NDArray[np.int64], counts_DG: NDArray[np.int64], *, metric: str
) -> GroupScores:
    """The score of all rows and of each draw of their groups.

    Args:
        truth: (N,) class indices, or (N, K) of independent labels; nan where nobody said.
        group_N: of each row, in [0, G).
        counts_DG: as `draw_groups` gives them.
        metric: without its task, such as `top1_acc` of video_top1_acc.

    Raises:
        ValueError: there is no such metric of these labels.
    """
    every = np.ones((1, counts_DG.shape[1]), dtype=np.int64)
    weights_DG = np.concatenate([every, counts_DG]).astype(np.float64)
    labels = "exclusive" if truth.ndim == 1 else "independent"
    if (labels, metric) == ("independent", "mAP"):
        found_D = _mean_average_precision(probs_NK, truth, group_N, weights_DG)
    else:
        sums = _sums(probs_NK, truth, group_N, weights_DG.shape[1])
        if (labels, metric) not in _SCORES:
            raise ValueError(f"there is no {metric} of {labels} labels")
        with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
            warnings.simplefilter("ignore", category=RuntimeWarning)  # all nan gives nan
            found_D = _SCORES[labels, metric]({name: np.tensordot(weights_DG, v, 1) for name, v in sums.items()})
    return GroupScores(float(found_D[0]), found_D[1:])


def _interval(value: float, draws_D: Floats) -> Interval:
    known = draws_D[np.isfinite(draws_D)]
    if not len(known):
        return Interval(value, np.nan, np.nan)
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, float(low), float(high))


Sums = Mapping[str, Floats]


def _sums(probs_NK: Floats, truth: Floats, group_N: NDArray[np.int64], num_groups: int) -> dict[str, Floats]:
    """Of each group, what scores are made of: counts that add up over groups."""
    if truth.ndim == 1:
        rows_N = np.isfinite(truth)
        probs_NK, group_N, true_N = probs_NK[rows_N], group_N[rows_N], truth[rows_N].astype(np.int64)
        num_classes = probs_NK.shape[1]
        true_NK, said_NK = np.eye(num_classes)[true_N], np.eye(num_classes)[probs_NK.argmax(axis=1)]
        of_true_N = probs_NK[np.arange(len(true_N)), true_N] / probs_NK.sum(axis=1)
        extra = {"surprise": -np.log(np.clip(of_true_N, np.finfo(np.float64).eps, 1.0))}
        order_NK = np.argsort(-probs_NK, axis=1, kind="stable")[:, :3]
        extra |= {"hits": (said_NK * true_NK).sum(axis=1), "hits3": (order_NK == true_N[:, None]).any(axis=1)}
        extra |= {"rows": np.ones(len(true_N))}
    else:
        known_NK = np.isfinite(truth)
        true_NK, said_NK = known_NK & (truth == 1), known_NK & (probs_NK >= THRESHOLD)
        whole_N = known_NK.all(axis=1)
        single_N = whole_N & (true_NK.sum(axis=1) == 1)
        extra = {
            "rows": single_N,
            "hits": single_N & (probs_NK.argmax(axis=1) == true_NK.argmax(axis=1)),
            "whole": whole_N,
            "matches": whole_N & (true_NK == said_NK).all(axis=1),
        }
    columns = {"true": true_NK, "said": said_NK, "both": true_NK * said_NK, **extra}
    return {name: _by_group(np.asarray(rows, dtype=np.float64), group_N, num_groups) for name, rows in columns.items()}


def _by_group(values: Floats, group_N: NDArray[np.int64], num_groups: int) -> Floats:
    found = np.zeros((num_groups, *values.shape[1:]))
    np.add.at(found, group_N, values)
    return found


def _f1(sums: Sums) -> Floats:
    """Mean over the classes that occur in the truth or in what is said."""
    either_DK = sums["true"] + sums["said"]
    return np.asarray(np.nanmean(2 * sums["both"] / np.where(either_DK > 0, either_DK, np.nan), axis=1))


def _recall(sums: Sums) -> Floats:
    return np.asarray(np.nanmean(sums["both"] / np.where(sums["true"] > 0, sums["true"], np.nan), axis=1))


_SCORES = {
    ("exclusive", "top1_acc"): lambda sums: sums["hits"] / sums["rows"],
    ("exclusive", "top3_acc"): lambda sums: sums["hits3"] / sums["rows"],
    ("exclusive", "macro_f1"): _f1,
    ("exclusive", "mean_class_acc"): _recall,
    ("exclusive", "log_loss"): lambda sums: sums["surprise"] / sums["rows"],
    ("independent", "macro_f1"): _f1,
    ("independent", "top1_acc"): lambda sums: sums["hits"] / sums["rows"],
    ("independent", "exact_match"): lambda sums: sums["matches"] / sums["whole"],
}


def _mean_average_precision(
    probs_NK: Floats, truth_NK: Floats, group_N: NDArray[np.int64], weights_DG: Floats
) -> Floats:
    """Over the classes that have a positive in the draw, as scikit-learn counts it."""
    found_DK = np.full((len(weights_DG), probs_NK.shape[1]), np.nan)
    for k in range(probs_NK.shape[1]):
        rows_N = np.isfinite(truth_NK[:, k])
        if not rows_N.any():
            continue
        order = np.argsort(-probs_NK[rows_N, k], kind="stable")
        probs, true = probs_NK[rows_N, k][order], truth_NK[rows_N, k][order]
        group = group_N[rows_N][order]
        ends = np.append(np.flatnonzero(np.diff(probs)), len(probs) - 1)  # rows of one probability count at once
        for d, weights_G in enumerate(weights_DG):
            weight = weights_G[group]
            hits, said = np.cumsum(weight * true)[ends], np.cumsum(weight)[ends]
            if hits[-1] > 0:
                precision = np.divide(hits, said, out=np.zeros_like(hits), where=said > 0)
                found_DK[d, k] = float((np.diff(hits, prepend=0.0) * precision).sum() / hits[-1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=RuntimeWarning)  # a draw without any positive is nan
        return np.asarray(np.nanmean(found_DK, axis=1))
