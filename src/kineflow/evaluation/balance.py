"""How evenly the folds share each class: what every fold trains and validates on, and how other deals would do."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kineflow.data.probabilities import Floats
from kineflow.data.splits import GroupCounts, deal_folds, greedy_folds
from kineflow.evaluation.predictions import Examples

DEALT = ("group_kfold", "official", "file")  # kinds of splits whose folds could have been dealt otherwise
SEED = 0  # of ties in the deals that are compared with


@dataclass(frozen=True)
class Cell:
    """Clips of a class (frames, on task frame) in one role of one fold.

    Args:
        deviation: of a validation part from an equal share, 0.1 for a tenth too many; None where groups were not dealt.
        share: of the largest count, for shading.
    """

    count: int
    deviation: float | None = None
    share: float = 0.0


@dataclass(frozen=True)
class Deal:
    """How far the folds of one way to deal the groups are from equal shares of every class.

    Args:
        mean, largest: of the absolute deviations of all folds and classes; 0.1 is a tenth of an equal share.
        where: class and fold of the largest.
    """

    name: str
    mean: float
    largest: float
    where: str


@dataclass(frozen=True)
class Balance:
    """The table of the report.

    Args:
        columns: (fold, role) in order: train and val of each fold, then ("test", "test").
        rows: a cell for each column, by class.
        num_clips, num_groups: for each column.
        deals: these folds first, then other deals of the same groups.
    """

    columns: tuple[tuple[str, str], ...]
    rows: Mapping[str, tuple[Cell, ...]]
    num_clips: tuple[int, ...]
    num_groups: tuple[int, ...]
    deals: tuple[Deal, ...]


def balance_of(val: Examples, test: Examples | None, clips: pd.DataFrame, folds: pd.DataFrame, *, kind: str) -> Balance:
    """The balance of the folds.

    Args:
        val, test: the rows that are scored; test may be absent.
        clips, folds: the tables.
        kind: of the splits, as in params.
    """
    counts_NK = _shown(val)
    val_FK = np.stack([counts_NK[val.of_fold(fold)].sum(axis=0) for fold in val.folds])
    num_repeats = int(folds[folds["role"] == "val"].groupby("clip_id").size().max())
    total_K = val_FK.sum(axis=0) // num_repeats
    columns = [(f"fold {fold}", role) for fold in val.folds for role in ("train", "val")]
    deviation_FK = _deviations(val_FK)
    top = max(1, int(val_FK.max()), int(total_K.max()))
    rows: dict[str, list[Cell]] = {name: [] for name in val.classes}
    for f in range(len(val.folds)):
        for k, name in enumerate(val.classes):
            known = kind in DEALT and np.isfinite(deviation_FK[f, k])
            deviation = float(deviation_FK[f, k]) if known else None
            rows[name] += [_cell(total_K[k] - val_FK[f, k], top), _cell(val_FK[f, k], top, deviation)]
    if test is not None:
        columns.append(("test", "test"))
        for name, count in zip(test.classes, _shown(test).sum(axis=0), strict=True):
            rows[name].append(_cell(count, top))
    members = folds.merge(clips[["clip_id", "group"]], on="clip_id")
    parts = [_part(members, column) for column in columns]
    return Balance(
        tuple(columns),
        {name: tuple(cells) for name, cells in rows.items()},
        num_clips=tuple(len(part) for part in parts),
        num_groups=tuple(part["group"].nunique() for part in parts),
        deals=_deals(val, counts_NK, clips, val_FK, num_repeats, kind) if kind in DEALT else (),
    )


def _shown(examples: Examples) -> NDArray[np.int64]:
    """(N, K) of 0 and 1: which classes each row shows."""
    if examples.labels == "exclusive":
        return np.asarray(examples.truth[:, None] == np.arange(len(examples.classes)), dtype=np.int64)
    return np.asarray(examples.truth == 1, dtype=np.int64)


def _cell(count: int, top: int, deviation: float | None = None) -> Cell:
    return Cell(int(count), deviation, round(0.5 * int(count) / top, 3))


def _part(members: pd.DataFrame, column: tuple[str, str]) -> pd.DataFrame:
    name, role = column
    of_role = members[members["role"] == role]
    return of_role if role == "test" else of_role[of_role["fold"] == int(name.removeprefix("fold "))]


def _deviations(val_FK: NDArray[np.int64]) -> Floats:
    """Each count over an equal share of its class, less one; nan for a class that is never shown."""
    equal_K = val_FK.sum(axis=0) / len(val_FK)
    return np.asarray(np.where(equal_K > 0, val_FK / np.where(equal_K > 0, equal_K, 1.0) - 1.0, np.nan))


def _deals(
    val: Examples,
    counts_NK: NDArray[np.int64],
    clips: pd.DataFrame,
    val_FK: NDArray[np.int64],
    num_repeats: int,
    kind: str,
) -> tuple[Deal, ...]:
    first_repeat = val.folds[: len(val.folds) // num_repeats]
    counts = _group_counts(val, counts_NK, clips, first_repeat)
    num_folds = len(first_repeat)
    greedy = greedy_folds(counts, num_folds=num_folds, seed=SEED)
    others = {"a greedy deal": greedy}
    if kind == "file":
        others["the search of splits.kind: group_kfold"] = deal_folds(counts, num_folds=num_folds, seed=SEED)
    own = "these folds, by hand" if kind == "file" else "these folds, by search"
    return (
        _deal(own, val.classes, val_FK),
        *(_deal(name, val.classes, _sums(counts, folds, num_folds)) for name, folds in others.items()),
    )


def _group_counts(val: Examples, counts_NK: NDArray[np.int64], clips: pd.DataFrame, folds: list[int]) -> GroupCounts:
    """What each development group shows, and its clips in the last column."""
    of_repeat_N = val.rows["fold"].isin(folds).to_numpy()
    group_of = clips.set_index("clip_id")["group"]
    clip_ids = val.rows.loc[of_repeat_N, "clip_id"]
    sums = pd.DataFrame(counts_NK[of_repeat_N]).groupby(group_of.reindex(clip_ids).to_numpy()).sum().sort_index()
    num_clips = group_of.reindex(clip_ids.unique()).value_counts().reindex(sums.index)
    counts_GK = np.column_stack([sums.to_numpy(), num_clips.to_numpy()]).astype(np.float64)
    return GroupCounts(tuple(str(group) for group in sums.index), counts_GK)


def _sums(counts: GroupCounts, fold_of_group: Mapping[str, int], num_folds: int) -> NDArray[np.int64]:
    sums_FK = np.zeros((num_folds, counts.counts_GK.shape[1] - 1), dtype=np.int64)
    np.add.at(sums_FK, [fold_of_group[group] for group in counts.groups], counts.counts_GK[:, :-1].astype(np.int64))
    return sums_FK


def _deal(name: str, classes: tuple[str, ...], val_FK: NDArray[np.int64]) -> Deal:
    deviation_FK = np.abs(_deviations(val_FK))
    if not np.isfinite(deviation_FK).any():
        return Deal(name, 0.0, 0.0, "")
    fold, k = np.unravel_index(np.nanargmax(deviation_FK), deviation_FK.shape)
    return Deal(name, float(np.nanmean(deviation_FK)), float(deviation_FK[fold, k]), f"{classes[k]}, fold {fold}")
