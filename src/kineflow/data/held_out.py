"""Who is held out for test: groups that are dealt, named by a person, or said by official lists."""

import math
from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kineflow.data.partitions import Counts
from kineflow.data.splits import (
    ABSENT,
    CONCENTRATED,
    MAX_SWAP_CANDIDATES,
    NUM_RESTARTS,
    GroupCounts,
    order_hash,
)
from kineflow.errors import DataError

WITHOUT_LISTS = "set splits.kind: group_kfold and splits.test: none (or groups)"


def deal_test_groups(
    counts: GroupCounts, known: Mapping[str, str], *, test_fraction: float, seed: int
) -> dict[str, str]:
    """Roles of the groups that have none yet.

    As many new groups become test as bring the test set to `test_fraction` of all present groups (rounded, at least
    one); they are chosen so that the test set resembles the whole and every class keeps two groups for development.

    Args:
        counts: of every group with clips.
        known: `test` or `development` of groups dealt before; also of groups that are not present any more.
        test_fraction: of the present groups.
        seed: breaks ties.

    Returns:
        `test` or `development` for each present group that `known` lacks.

    Raises:
        DataError: there is no group to make a test set of, or none would be left for development.
    """
    present = set(counts.groups)
    new = sorted(present - set(known), key=lambda group: order_hash(seed, group))
    test = {group for group in present if known.get(group) == "test"}
    wanted = max(1, math.floor(test_fraction * len(present) + 0.5))
    missing = min(max(0, wanted - len(test)), len(new))
    if not test and not missing:
        raise DataError(
            f"none of the {len(present)} groups is held out for test and no group is new; "
            "set splits.test: none, or add a group"
        )
    if len(test) + missing >= len(present):
        raise DataError(
            f"{len(test) + missing} of {len(present)} groups would be held out for test, and none left to train on; "
            "lower splits.test_fraction, or set splits.test: none"
        )
    chosen = _choose_test(counts, test, new, missing, wanted)
    return {group: "test" if group in chosen else "development" for group in sorted(new)}


def _choose_test(counts: GroupCounts, test: set[str], new: list[str], missing: int, wanted: int) -> set[str]:
    """`missing` of the `new` groups: greedy, then swaps while they help; `new` is in order of preference."""
    rows = {group: i for i, group in enumerate(counts.groups)}
    counts_GK, has_GK = counts.counts_GK, (counts.counts_GK > 0).astype(np.int64)
    target_K = counts_GK.sum(axis=0) * wanted / len(counts.groups)
    spread_K = has_GK.sum(axis=0)

    def cost(sums_K: Counts, held_K: NDArray[np.int64]) -> Counts:
        starved = ((spread_K - held_K < 2) & (spread_K >= 2)).sum(axis=-1)
        absent = ((held_K == 0) & (spread_K > 2)).sum(axis=-1)
        deviation_K = (sums_K - target_K) / np.maximum(target_K, 1)
        return np.asarray(np.round(CONCENTRATED * starved + ABSENT * absent + (deviation_K**2).sum(axis=-1), 9))

    members = [rows[group] for group in sorted(test)]
    sums_K, held_K = counts_GK[members].sum(axis=0), has_GK[members].sum(axis=0)
    free, chosen = [rows[group] for group in new], list[int]()
    for _ in range(missing):
        others = free[:MAX_SWAP_CANDIDATES]
        chosen.append(free.pop(int(np.argmin(cost(sums_K + counts_GK[others], held_K + has_GK[others])))))
        sums_K, held_K = sums_K + counts_GK[chosen[-1]], held_K + has_GK[chosen[-1]]
    # many groups resemble the whole at the first deal
    num_sweeps = NUM_RESTARTS if missing <= MAX_SWAP_CANDIDATES else 1
    for i in [*range(missing)] * num_sweeps if free else []:
        others = free[:MAX_SWAP_CANDIDATES]
        swapped_OK = sums_K - counts_GK[chosen[i]] + counts_GK[others]
        swapped_held_OK = held_K - has_GK[chosen[i]] + has_GK[others]
        cost_O = cost(swapped_OK, swapped_held_OK)
        best = int(np.argmin(cost_O))
        if cost_O[best] < cost(sums_K, held_K):
            sums_K, held_K = swapped_OK[best], swapped_held_OK[best]
            chosen[i], free[best] = free[best], chosen[i]
    return {counts.groups[i] for i in chosen}


def named_test_groups(names: Collection[str], clips: pd.DataFrame) -> set[str]:
    """The groups that `names` (of groups or videos) hold out for test, each as a whole.

    Raises:
        DataError: a name is neither, or every group would be held out.
    """
    groups = set(clips["group"])
    group_of = dict(zip(clips["video_id"], clips["group"], strict=True))
    for name in names:
        if name not in groups and name not in group_of:
            raise DataError(f"splits.test_names: {name!r} is no group and no video with clips; correct or remove it")
    held_out = {name if name in groups else group_of[name] for name in names}
    if held_out == groups:
        raise DataError("splits.test_names holds every group out, and none is left to train on; remove some")
    return held_out


def official_test_role(roles: Collection[str | None]) -> str:
    """The official role that is tested on, from those of the labelled videos.

    Many sets (Kinetics-400, Something-Something, ActivityNet) publish no labels of their test list, and are reported on
    their validation list: without a labelled `test`, `val` is the test side.
    """
    return "test" if "test" in roles else "val"


def official_test_clips(clips: pd.DataFrame, videos: pd.DataFrame) -> set[str]:
    """The clip_ids that the official lists hold out, see `official_test_role`; all others are development.

    Raises:
        DataError: a video with clips has no official role, or a side is empty.
    """
    official = dict(zip(videos["video_id"], videos["official_role"], strict=True))
    roles = {video_id: official.get(video_id) for video_id in sorted(set(clips["video_id"]))}
    for video_id, role in roles.items():
        if role not in ("train", "val", "test"):
            raise DataError(f"{video_id}: is in no official list; complete the lists, or {WITHOUT_LISTS}")
    tested = official_test_role(set(roles.values()))
    test = {
        clip_id
        for clip_id, video_id in zip(clips["clip_id"], clips["video_id"], strict=True)
        if roles[video_id] == tested
    }
    if not test or len(test) == len(clips):
        side = "test or val" if not test else "train"
        raise DataError(f"the official lists put no clip into {side}; complete them, or {WITHOUT_LISTS}")
    return test
