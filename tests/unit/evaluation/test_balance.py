"""The balance of folds: by hand, against another deal, and against what a study reached by hand."""

import numpy as np
import pandas as pd
import pytest

from kineflow.data.splits import GroupCounts, deal_folds, folds_table, greedy_folds, repeated
from kineflow.evaluation.balance import balance_of
from kineflow.evaluation.predictions import make_examples
from kineflow.evaluation.report import shown_percent

# group, class, clips: x is 6 in all, y is 9
GROUPS = {"a": {"x": 3, "y": 1}, "b": {"x": 1, "y": 4}, "c": {"x": 2, "y": 2}, "d": {"x": 0, "y": 2}}


def balance(*fold_of_group, test=(), kind="file"):
    rows = [
        (f"{group}{label}{i}", group, 0, 9, label, group, "trimmed")
        for group, labels in GROUPS.items()
        for label, count in labels.items()
        for i in range(count)
    ]
    columns = ["clip_id", "video_id", "start_frame", "stop_frame", "label", "group", "origin"]
    clips = pd.DataFrame(rows, columns=columns)
    in_test = set(clips.loc[clips["group"].isin(test), "clip_id"])
    folds = repeated([folds_table(clips, test_clips=in_test, fold_of_group=fold_of) for fold_of in fold_of_group])
    val, held_out = (
        make_examples("clip", clips, folds, role=role, classes=("x", "y"), labels="exclusive", labels_of=lambda v: None)
        for role in ("val", "test")
    )
    return balance_of(val, held_out, clips, folds, kind=kind)


def test_counts_and_distances_from_equal_shares_by_hand():
    found = balance({"a": 0, "d": 0, "b": 1, "c": 1})
    assert found.columns == (("fold 0", "train"), ("fold 0", "val"), ("fold 1", "train"), ("fold 1", "val"))
    assert [cell.count for cell in found.rows["x"]] == [3, 3, 3, 3]
    assert [cell.count for cell in found.rows["y"]] == [6, 3, 3, 6]
    # an equal share of y is 4.5: 3 is a third too few, 6 a third too many
    assert [cell.deviation for cell in found.rows["y"]] == [None, pytest.approx(-1 / 3), None, pytest.approx(1 / 3)]
    assert found.num_clips == (9, 6, 6, 9) and found.num_groups == (2, 2, 2, 2)
    own, greedy, search = found.deals
    assert own.name == "these folds, by hand"
    assert (own.mean, own.largest) == (pytest.approx(1 / 6), pytest.approx(1 / 3)) and own.where == "y, fold 0"
    assert search.name == "the search of splits.kind: group_kfold" and search.mean <= greedy.mean


def test_repeats_count_each_clip_once_in_every_fold():
    once, twice = ({"a": 0, "d": 0, "b": 1, "c": 1}, {"a": 0, "b": 0, "c": 1, "d": 1})
    found = balance(once, twice, kind="group_kfold")
    assert [cell.count for cell in found.rows["y"]] == [6, 3, 3, 6, 4, 5, 5, 4]
    assert found.columns[4] == ("fold 2", "train") and found.num_clips == (9, 6, 6, 9, 6, 9, 9, 6)
    assert [deal.name for deal in found.deals] == ["these folds, by search", "a greedy deal"]
    # x: 3, 3, 4, 2 where 3 is equal; y: 3, 6, 5, 4 where 4.5 is
    assert found.deals[0].mean == pytest.approx((0 + 0 + 1 / 3 + 1 / 3 + 1 / 3 + 1 / 3 + 1 / 9 + 1 / 9) / 8)


def test_test_is_counted_and_is_in_no_equal_share():
    found = balance({"a": 0, "b": 1, "c": 1}, test=("d",))
    assert found.columns[-1] == ("test", "test")
    assert [cell.count for cell in found.rows["y"]] == [6, 1, 1, 6, 2]
    assert found.rows["y"][1].deviation == pytest.approx(1 / 3.5 - 1)
    assert found.num_groups == (2, 1, 1, 2, 1)


def test_folds_that_nobody_dealt_are_compared_with_nothing():
    found = balance({"a": 0, "b": 1, "c": 2, "d": 3}, kind="leave_one_group_out")
    assert found.deals == () and all(cell.deviation is None for cells in found.rows.values() for cell in cells)


def test_percentages_have_their_sign():
    assert [shown_percent(value) for value in (0.1, -0.333, 0.001)] == ["+10%", "−33%", "±0%"]


def fish_counts(seed, num_recordings):
    """344 spawnings in six of twelve nests and 319 chases in all, as in the fish thesis, spread over nests at random
    and over the recordings of a nest."""
    rng = np.random.default_rng(seed)
    spawning = np.concatenate([rng.multinomial(344, rng.dirichlet(np.full(6, 2.0))), np.zeros(6, dtype=np.int64)])
    chase = rng.multinomial(319, rng.dirichlet(np.full(12, 3.0)))
    shares = rng.dirichlet(np.full(num_recordings, 2.0), size=12)
    spread = [[rng.multinomial(n, p) for n, p in zip(events, shares, strict=True)] for events in (spawning, chase)]
    counts_GK = np.array(spread, dtype=np.float64).reshape(2, -1).T
    names = tuple(f"nest{i:02}_{j}" for i in range(12) for j in range(num_recordings))
    return GroupCounts(names, np.column_stack([counts_GK, counts_GK.sum(axis=1)]))


def largest_deviation(counts, folds):
    sums_FK = np.zeros((4, 2))
    np.add.at(sums_FK, [folds[group] for group in counts.groups], counts.counts_GK[:, :2])
    return np.abs(sums_FK / sums_FK.mean(axis=0) - 1).max()


@pytest.mark.parametrize("num_recordings", [1, 4])
def test_the_search_is_more_even_than_a_greedy_deal_and_than_folds_by_hand(num_recordings):
    """The thesis dealt recordings; its four folds, by hand, held 30 to 50 clips of each class: up to 25% from 40."""
    drawn = [fish_counts(seed, num_recordings) for seed in range(8)]
    greedy, search = (
        float(np.median([largest_deviation(counts, deal(counts, num_folds=4, seed=0)) for counts in drawn]))
        for deal in (greedy_folds, deal_folds)
    )
    print(f"{12 * num_recordings} groups, largest deviation, median of 8: greedy {greedy:.3f}, search {search:.3f}")
    assert search < greedy
    if num_recordings > 1:  # of whole nests, one alone may hold more spawnings than a fold should
        assert search < 0.25
