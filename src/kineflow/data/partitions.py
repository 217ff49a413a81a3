"""Every way to deal few groups to folds, and the one that balances best."""

from collections.abc import Callable, Collection

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.float64]
CHUNK = 20_000


def num_partitions(num_groups: int, num_folds: int) -> int:
    """Ways to deal groups to folds whose numbers do not matter, none empty: a Stirling number of the second kind."""
    ways = [1] + [0] * num_folds
    for _ in range(num_groups):
        ways = [0] + [fold * ways[fold] + ways[fold - 1] for fold in range(1, num_folds + 1)]
    return ways[num_folds]


def partitions(num_groups: int, num_folds: int) -> NDArray[np.int8]:
    """All of them, (N, G): the fold of each group, folds numbered in the order of their first group."""
    folds_NG, used_N = np.zeros((1, 1), np.int8), np.ones(1, np.int64)
    for group in range(1, num_groups):
        still_open = num_groups - group  # groups left, this one with them
        choices_N = np.minimum(used_N + 1, num_folds)
        rows = np.repeat(np.arange(len(folds_NG)), choices_N)
        first_N = np.cumsum(choices_N) - choices_N
        fold_R = np.arange(len(rows)) - first_N[rows]
        used_R = np.maximum(used_N[rows], fold_R + 1)
        can_fill = num_folds - used_R <= still_open - 1
        folds_NG = np.column_stack([folds_NG[rows[can_fill]], fold_R[can_fill].astype(np.int8)])
        used_N = used_R[can_fill]
    return folds_NG


def best_partition(
    counts_GK: Counts, num_folds: int, fold_cost: Callable[[Counts], Counts], avoid: Collection[tuple[int, ...]]
) -> tuple[float, list[int]] | None:
    """The cost and folds of the cheapest partition that is not in `avoid`; the first of equals, None without any.

    Args:
        fold_cost: cost of each fold from its sums (..., K).
    """
    folds_NG = partitions(len(counts_GK), num_folds)
    costs = []
    for first in range(0, len(folds_NG), CHUNK):
        chunk = folds_NG[first : first + CHUNK]
        member_NFG = (chunk[:, None, :] == np.arange(num_folds)[:, None]).astype(np.float64)
        costs.append(fold_cost(member_NFG @ counts_GK).sum(axis=-1))
    cost_N = np.round(np.concatenate(costs), 9)
    for at in np.argsort(cost_N, kind="stable")[: len(avoid) + 1]:
        folds = [int(fold) for fold in folds_NG[at]]
        if tuple(folds) not in avoid:
            return float(cost_N[at]), folds
    return None
