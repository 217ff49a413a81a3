"""Who is trained on and who validates: development groups into stratified folds (`held_out.py` says who is tested on).

Groups are dealt to folds as wholes. Each class (each behaviour's positive frames on task frame) and the number of
clips are balanced over the folds: a greedy deal, the heaviest groups first, then moves and swaps for as long as they
help, from several seeded orders; with few groups, every way to deal them is looked at. Ties fall by a hash of seed
and group, so the order of rows never matters.
"""

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kineflow.data.clips import label_columns
from kineflow.data.partitions import Counts, best_partition, num_partitions
from kineflow.errors import DataError
from kineflow.tables import FOLDS

TEST_FOLD = -1
MAX_PARTITIONS = 700_000  # looked at one by one, in about a second: twelve groups in four folds
NUM_RESTARTS = 8
MAX_SWAP_CANDIDATES = 256  # of each group in one sweep; all of them for data sets of up to that many groups
CONCENTRATED = 1e4  # cost of a class that would leave a training set, above any imbalance
ABSENT = 2.0  # cost of a class that a fold or the test set lacks, beside that of its imbalance


@dataclass(frozen=True)
class GroupCounts:
    """How much each group holds of what is balanced.

    Args:
        groups: sorted names, G of them.
        counts_GK: the classes' counts, and the number of clips in the last column.
    """

    groups: tuple[str, ...]
    counts_GK: Counts

    def subset(self, groups: set[str]) -> "GroupCounts":
        """The same for some of the groups."""
        keep = [i for i, group in enumerate(self.groups) if group in groups]
        return GroupCounts(tuple(self.groups[i] for i in keep), self.counts_GK[keep])


def label_counts(clips: pd.DataFrame) -> pd.DataFrame:
    """One row for each clip (index clip_id), one 0/1 column for each label in sorted order."""
    if columns := label_columns(clips):
        return clips.set_index("clip_id")[columns].astype(np.int64)
    labels = sorted(set(clips["label"]))
    counts = {label: (clips["label"] == label).to_numpy(dtype=np.int64) for label in labels}
    return pd.DataFrame(counts, index=pd.Index(clips["clip_id"], name="clip_id"))


def group_counts(clips: pd.DataFrame, class_counts: pd.DataFrame) -> GroupCounts:
    """Sum `class_counts` (index clip_id, a column for each class) over the groups of `clips`."""
    counts = class_counts.loc[clips["clip_id"]].assign(**{"": 1}).groupby(clips["group"].to_numpy()).sum().sort_index()
    return GroupCounts(tuple(str(group) for group in counts.index), counts.to_numpy(dtype=np.float64))


def deal_folds(
    counts: GroupCounts, *, num_folds: int, seed: int, avoid: Collection[tuple[int, ...]] = ()
) -> dict[str, int]:
    """The validation fold of each development group, each fold with at least one group.

    Where there are at most `MAX_PARTITIONS` ways to deal the groups, none balances better than the one returned.

    Args:
        counts: of the development groups.
        num_folds: K; fold k validates on its own groups and trains on all others.
        seed: of the restarts and ties.
        avoid: folds of `counts.groups` that earlier repeats have dealt.

    Raises:
        DataError: there are fewer groups than folds, or no way to deal them that is not in `avoid`.
    """
    num_groups = len(counts.groups)
    if num_groups < num_folds:
        raise DataError(
            f"splits.num_folds is {num_folds}, but there are only {num_groups} groups to make folds of; "
            f"lower it to at most {num_groups}, add groups, or make data.group_from finer"
        )
    fold_cost = _fold_cost(counts.counts_GK, num_folds)
    best: tuple[float, list[int]] | None = None
    # Many groups balance at the first deal, and each restart costs seconds.
    num_restarts = (NUM_RESTARTS if num_groups <= MAX_SWAP_CANDIDATES else 1) * (1 + len(avoid))
    for restart in range(num_restarts):
        order = _deal_order(counts, seed, restart)
        folds_G = _deal_greedily(counts.counts_GK, order, num_folds, fold_cost)
        _improve(counts.counts_GK, folds_G, num_folds, fold_cost, np.random.default_rng([seed, restart]))
        total = round(float(fold_cost(_sums(counts.counts_GK, folds_G, num_folds)).sum()), 9)
        folds = _renumbered(folds_G)
        if tuple(folds) not in avoid and (best is None or total < best[0]):
            best = total, folds
    if num_partitions(num_groups, num_folds) <= MAX_PARTITIONS:
        exact = best_partition(counts.counts_GK, num_folds, fold_cost, avoid)
        if exact is not None and (best is None or exact[0] < best[0]):
            best = exact
    if best is None:
        raise DataError(
            f"{num_groups} groups cannot be dealt to {num_folds} folds in {len(avoid) + 1} good ways; "
            "lower splits.num_repeats"
        )
    return dict(zip(counts.groups, best[1], strict=True))


def greedy_folds(counts: GroupCounts, *, num_folds: int, seed: int) -> dict[str, int]:
    """One greedy deal, the heaviest groups first: what `deal_folds` begins with, to compare it with.

    Args:
        counts: of the development groups, at least `num_folds` of them.
        num_folds: each gets at least one group.
        seed: of ties.
    """
    order = _deal_order(counts, seed, 0)
    folds_G = _deal_greedily(counts.counts_GK, order, num_folds, _fold_cost(counts.counts_GK, num_folds))
    return dict(zip(counts.groups, _renumbered(folds_G), strict=True))


def deal_repeats(counts: GroupCounts, *, num_folds: int, num_repeats: int, seed: int) -> list[dict[str, int]]:
    """`deal_folds`, `num_repeats` times, each another partition of the groups and none better than those before.

    Raises:
        DataError: as `deal_folds`.
    """
    dealt: list[dict[str, int]] = []
    for repeat in range(num_repeats):
        avoid = {tuple(folds[group] for group in counts.groups) for folds in dealt}
        dealt.append(deal_folds(counts, num_folds=num_folds, seed=seed + repeat, avoid=avoid))
    return dealt


def leave_one_out(counts: GroupCounts) -> dict[str, int]:
    """A fold for each group.

    Raises:
        DataError: there are fewer than two groups.
    """
    if len(counts.groups) < 2:
        raise DataError(f"leaving one group out needs two groups, and there are {len(counts.groups)} for development")
    return {group: fold for fold, group in enumerate(counts.groups)}


def _fold_cost(counts_GK: Counts, num_folds: int) -> Callable[[Counts], Counts]:
    """Cost of folds by their sums (..., K): squared relative deviations, classes they lack, classes in one alone."""
    total_K = counts_GK.sum(axis=0)
    target_K = total_K / num_folds
    could_spread_K = (counts_GK > 0).sum(axis=0) >= 2

    def cost(sums_K: Counts) -> Counts:
        deviation_K = (sums_K - target_K) / np.maximum(target_K, 1)
        absent = ((sums_K == 0) & could_spread_K).sum(axis=-1)
        concentrated = ((sums_K == total_K) & could_spread_K).sum(axis=-1)
        return np.asarray((deviation_K**2).sum(axis=-1) + ABSENT * absent + CONCENTRATED * concentrated)

    return cost


def _deal_order(counts: GroupCounts, seed: int, restart: int) -> list[int]:
    """Heaviest groups first, by their share of each class; the restarts shake the weights a little."""
    share_GK = counts.counts_GK / np.maximum(counts.counts_GK.sum(axis=0), 1)
    noise_G = np.random.default_rng([seed, restart, 1]).uniform(1, 1 + 0.5 * restart, len(counts.groups))
    weight_G = np.round((share_GK**2).sum(axis=1) * noise_G, 12)
    return sorted(range(len(weight_G)), key=lambda i: (-weight_G[i], order_hash(seed, counts.groups[i])))


def _deal_greedily(
    counts_GK: Counts, order: list[int], num_folds: int, fold_cost: Callable[[Counts], Counts]
) -> NDArray[np.int64]:
    folds_G = np.full(len(counts_GK), -1, dtype=np.int64)
    sums_FK = np.zeros((num_folds, counts_GK.shape[1]))
    for position, group in enumerate(order):
        gain_F = np.round(fold_cost(sums_FK + counts_GK[group]) - fold_cost(sums_FK), 9)
        empty_F = np.bincount(folds_G[folds_G >= 0], minlength=num_folds) == 0
        if len(order) - position == empty_F.sum():  # only as many groups left as folds without one
            gain_F[~empty_F] = np.inf
        fold = int(np.argmin(gain_F))
        folds_G[group] = fold
        sums_FK[fold] += counts_GK[group]
    return folds_G


def _improve(
    counts_GK: Counts,
    folds_G: NDArray[np.int64],
    num_folds: int,
    fold_cost: Callable[[Counts], Counts],
    generator: np.random.Generator,
) -> None:
    """Move and swap groups in place while that lowers the cost; each sweep visits every group once."""
    sums_FK = _sums(counts_GK, folds_G, num_folds)
    for _ in range(max(2, 10_000 // len(folds_G))):
        improved = False
        for group in range(len(folds_G)):
            improved |= _move(group, counts_GK, folds_G, sums_FK, fold_cost)
            improved |= _swap(group, counts_GK, folds_G, sums_FK, fold_cost, generator)
        if not improved:
            return


def _move(
    group: int, counts_GK: Counts, folds_G: NDArray[np.int64], sums_FK: Counts, fold_cost: Callable[[Counts], Counts]
) -> bool:
    home = folds_G[group]
    if (folds_G == home).sum() == 1:
        return False
    now_F = fold_cost(sums_FK)
    leaves = float(fold_cost(sums_FK[home] - counts_GK[group]) - now_F[home])
    change_F = np.round(fold_cost(sums_FK + counts_GK[group]) - now_F + leaves, 9)
    change_F[home] = 0.0
    target = int(np.argmin(change_F))
    if change_F[target] >= 0:
        return False
    sums_FK[home] -= counts_GK[group]
    sums_FK[target] += counts_GK[group]
    folds_G[group] = target
    return True


def _swap(
    group: int,
    counts_GK: Counts,
    folds_G: NDArray[np.int64],
    sums_FK: Counts,
    fold_cost: Callable[[Counts], Counts],
    generator: np.random.Generator,
) -> bool:
    home = folds_G[group]
    others = np.flatnonzero(folds_G != home)
    if len(others) > MAX_SWAP_CANDIDATES:
        others = np.sort(generator.choice(others, MAX_SWAP_CANDIDATES, replace=False))
    if not len(others):
        return False
    difference_OK = counts_GK[others] - counts_GK[group]
    away_O = folds_G[others]
    now_F = fold_cost(sums_FK)
    change_O = fold_cost(sums_FK[home] + difference_OK) - now_F[home]
    change_O = np.round(change_O + fold_cost(sums_FK[away_O] - difference_OK) - now_F[away_O], 9)
    best = int(np.argmin(change_O))
    if change_O[best] >= 0:
        return False
    sums_FK[home] += difference_OK[best]
    sums_FK[away_O[best]] -= difference_OK[best]
    folds_G[group], folds_G[others[best]] = away_O[best], home
    return True


def _sums(counts_GK: Counts, folds_G: NDArray[np.int64], num_folds: int) -> Counts:
    sums_FK = np.zeros((num_folds, counts_GK.shape[1]))
    np.add.at(sums_FK, folds_G, counts_GK)
    return sums_FK


def _renumbered(folds_G: NDArray[np.int64]) -> list[int]:
    """Folds in the order of their first group by name, so that equal partitions have equal numbers."""
    numbers: dict[int, int] = {}
    return [numbers.setdefault(int(fold), len(numbers)) for fold in folds_G]


def order_hash(seed: int, group: str) -> str:
    """What ties between groups fall by."""
    return hashlib.sha256(f"{seed}:{group}".encode()).hexdigest()


def folds_table(clips: pd.DataFrame, *, test_clips: set[str], fold_of_group: Mapping[str, int]) -> pd.DataFrame:
    """The folds table: each development clip is `val` in the fold of its group and `train` in the others.

    Args:
        clips: the clips table.
        test_clips: clip_ids of the test set, in fold -1.
        fold_of_group: validation fold of each group with development clips.
    """
    rows: list[tuple[str, str, int]] = []
    num_folds = max(fold_of_group.values()) + 1
    for clip_id, group in zip(clips["clip_id"], clips["group"], strict=True):
        if clip_id in test_clips:
            rows.append((clip_id, "test", TEST_FOLD))
        else:
            rows += [(clip_id, "val" if fold == fold_of_group[group] else "train", fold) for fold in range(num_folds)]
    rows.sort(key=lambda row: (row[2], row[0]))
    return pd.DataFrame(rows, columns=[name for name, _ in FOLDS.columns])


def repeated(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The folds of several repeats as one table, numbered on from one to the next; test is there once."""
    shifted: list[pd.DataFrame] = []
    num_folds = 0
    for table in tables:
        development = table[table["fold"] != TEST_FOLD]
        shifted.append(development.assign(fold=development["fold"] + num_folds))
        num_folds += int(development["fold"].max()) + 1
    return pd.concat([tables[0][tables[0]["fold"] == TEST_FOLD], *shifted], ignore_index=True)


def balance_table(folds: pd.DataFrame, class_counts: pd.DataFrame, clips: pd.DataFrame) -> pd.DataFrame:
    """What each fold validates on and what test holds: a row for each class, then clips and groups.

    Args:
        folds: the folds table.
        class_counts: index clip_id, a column for each class.
        clips: the clips table.
    """
    groups = dict(zip(clips["clip_id"], clips["group"], strict=True))
    columns: dict[str, list[int]] = {}
    held_out = folds[folds["role"] != "train"]
    for fold, rows in held_out.groupby("fold"):
        sums = class_counts.loc[rows["clip_id"]].sum()
        num_groups = len({groups[clip_id] for clip_id in rows["clip_id"]})
        columns["test" if fold == TEST_FOLD else f"fold {fold}"] = [*map(int, sums), len(rows), num_groups]
    if "test" in columns:
        columns["test"] = columns.pop("test")  # last
    return pd.DataFrame(columns, index=[*class_counts.columns, "clips", "groups"])
