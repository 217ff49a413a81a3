import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kineflow.data.held_out import deal_test_groups, official_test_clips
from kineflow.data.splits import (
    GroupCounts,
    balance_table,
    deal_folds,
    folds_table,
    group_counts,
    label_counts,
)
from kineflow.errors import DataError


def clips_table(counts: dict[str, dict[str, int]]) -> pd.DataFrame:
    """Clips of each label in each group."""
    rows = [
        (f"{group}/{label}{i}#0-9", f"{group}/{label}{i}", label, group)
        for group, labels in counts.items()
        for label, number in labels.items()
        for i in range(number)
    ]
    return pd.DataFrame(rows, columns=["clip_id", "video_id", "label", "group"])


def counts_of(counts: dict[str, dict[str, int]]) -> GroupCounts:
    clips = clips_table(counts)
    return group_counts(clips, label_counts(clips))


def uniform(num_groups: int) -> GroupCounts:
    return counts_of({f"g{i}": {"x": 2, "y": 2} for i in range(num_groups)})


def test_groups_are_summed_by_class_with_the_clips_last() -> None:
    counts = counts_of({"b": {"y": 2}, "a": {"x": 1, "y": 3}})
    assert counts.groups == ("a", "b")
    np.testing.assert_array_equal(counts.counts_GK, [[1, 3, 4], [0, 2, 2]])


def test_folds_are_the_balanced_ones_where_only_one_pairing_balances() -> None:
    # x: 4 + 1 = 3 + 2 and y: 0 + 5 = 1 + 4; every other pairing of two and two is worse.
    counts = counts_of({"a": {"x": 4}, "b": {"x": 3, "y": 1}, "c": {"x": 2, "y": 4}, "d": {"x": 1, "y": 5}})
    for seed in range(5):
        assert deal_folds(counts, num_folds=2, seed=seed) == {"a": 0, "d": 0, "b": 1, "c": 1}


def test_a_search_beats_the_greedy_deal() -> None:
    # Largest first deals 8+5+4 against 7+6; a swap makes 8+7 against 6+5+4.
    sizes = {"a": 8, "b": 7, "c": 6, "d": 5, "e": 4}
    folds = deal_folds(counts_of({name: {"x": size} for name, size in sizes.items()}), num_folds=2, seed=0)
    sums = [sum(size for name, size in sizes.items() if folds[name] == fold) for fold in (0, 1)]
    assert sums == [15, 15]


def test_a_class_of_two_groups_is_never_validated_in_one_fold_alone() -> None:
    rare = {"a": {"x": 9, "rare": 1}, "b": {"x": 9, "rare": 1}, "c": {"x": 9}, "d": {"x": 9}, "e": {"x": 40}}
    for seed in range(10):
        folds = deal_folds(counts_of(rare), num_folds=2, seed=seed)
        assert folds["a"] != folds["b"]


def test_more_folds_than_groups_names_both_numbers() -> None:
    with pytest.raises(DataError, match=r"splits\.num_folds is 5, but there are only 3 groups"):
        deal_folds(uniform(3), num_folds=5, seed=0)


def test_as_many_folds_as_groups_leave_one_group_out() -> None:
    assert sorted(deal_folds(uniform(4), num_folds=4, seed=0).values()) == [0, 1, 2, 3]


def test_the_seed_deals_equal_groups_and_only_the_seed() -> None:
    dealt = {seed: deal_folds(uniform(8), num_folds=4, seed=seed) for seed in range(6)}
    assert dealt[0] == deal_folds(uniform(8), num_folds=4, seed=0)
    assert len({tuple(folds.values()) for folds in dealt.values()}) > 1
    tests = {tuple(deal_test_groups(uniform(8), {}, test_fraction=0.25, seed=seed).items()) for seed in range(6)}
    assert len(tests) > 1


@pytest.mark.parametrize(("num_groups", "fraction", "num_test"), [(6, 0.2, 1), (10, 0.25, 3), (3, 0.0, 1), (2, 0.5, 1)])
def test_the_test_set_has_its_fraction_of_the_groups(num_groups: int, fraction: float, num_test: int) -> None:
    roles = deal_test_groups(uniform(num_groups), {}, test_fraction=fraction, seed=0)
    assert len(roles) == num_groups
    assert list(roles.values()).count("test") == num_test


def test_the_test_set_resembles_the_whole() -> None:
    # Only `even` holds both classes as the whole does.
    groups = {"x1": {"x": 4}, "x2": {"x": 4}, "y1": {"y": 4}, "y2": {"y": 4}, "even": {"x": 2, "y": 2}}
    for seed in range(5):
        roles = deal_test_groups(counts_of(groups), {}, test_fraction=0.2, seed=seed)
        assert [group for group, role in roles.items() if role == "test"] == ["even"]


def test_test_groups_leave_two_groups_of_each_class_for_development() -> None:
    groups = {"a": {"x": 5, "rare": 2}, "b": {"x": 5, "rare": 2}, "c": {"x": 5}, "d": {"x": 5}}
    for seed in range(10):
        roles = deal_test_groups(counts_of(groups), {}, test_fraction=0.5, seed=seed)
        assert {roles["a"], roles["b"]} == {"development"}


def test_dealt_groups_keep_their_role_whatever_the_seed_and_fraction() -> None:
    known = deal_test_groups(uniform(6), {}, test_fraction=0.34, seed=0)
    assert deal_test_groups(uniform(6), known, test_fraction=0.9, seed=3) == {}
    new = deal_test_groups(uniform(9), known, test_fraction=0.34, seed=3)
    assert set(new) == {"g6", "g7", "g8"} and list(new.values()).count("test") == 1


def test_no_group_left_to_hold_out_or_to_train_on_is_said() -> None:
    with pytest.raises(DataError, match="none of the 2 groups is held out for test and no group is new"):
        deal_test_groups(uniform(2), {"g0": "development", "g1": "development"}, test_fraction=0.5, seed=0)
    with pytest.raises(DataError, match="1 of 1 groups would be held out for test"):
        deal_test_groups(uniform(1), {}, test_fraction=0.2, seed=0)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)).filter(any), min_size=5, max_size=12),
    seed=st.integers(0, 1000),
    fraction=st.floats(0, 0.4),
)
def test_groups_never_cross_and_every_clip_is_validated_once(
    sizes: list[tuple[int, int]], seed: int, fraction: float
) -> None:
    clips = clips_table({f"g{i}": {"x": x, "y": y} for i, (x, y) in enumerate(sizes)})
    shuffled = clips.sample(frac=1, random_state=seed % 7)
    tables = []
    for table in (clips, shuffled):
        counts = group_counts(table, label_counts(table))
        roles = deal_test_groups(counts, {}, test_fraction=fraction, seed=seed)
        development = {group for group, role in roles.items() if role == "development"}
        fold_of_group = deal_folds(counts.subset(development), num_folds=3, seed=seed)
        test_clips = set(table.loc[~table["group"].isin(development), "clip_id"])
        tables.append(folds_table(table, test_clips=test_clips, fold_of_group=fold_of_group))
    assert tables[0].equals(tables[1])
    folds = tables[0].merge(clips, on="clip_id")
    assert (folds.groupby(["fold", "group"])["role"].nunique() == 1).all()
    test_groups = set(folds.loc[folds["role"] == "test", "group"])
    assert test_groups and not test_groups & set(folds.loc[folds["role"] != "test", "group"])
    developed = folds[folds["fold"] >= 0]
    assert (developed.groupby("clip_id").size() == 3).all()
    assert (developed[developed["role"] == "val"].groupby("clip_id").size() == 1).all()
    assert set(developed.loc[developed["role"] == "val", "clip_id"]) == set(developed["clip_id"])
    assert set(developed.loc[developed["role"] == "val", "fold"]) == {0, 1, 2}


@settings(max_examples=60, deadline=None)
@given(arrivals=st.lists(st.integers(1, 4), min_size=1, max_size=5), seed=st.integers(0, 100))
def test_roles_stick_while_groups_arrive_and_leave(arrivals: list[int], seed: int) -> None:
    known: dict[str, str] = {}
    total = 1
    for arriving in arrivals:
        total += arriving
        present = {f"g{i}": {"x": 1 + i % 3, "y": 1} for i in range(total) if i != 1 or total % 2}  # g1 comes and goes
        if len(present) < 2:
            continue
        before = dict(known)
        counts = counts_of(present)
        new = deal_test_groups(counts, known, test_fraction=0.3, seed=seed)
        assert not set(new) & set(before)
        known |= new
        num_test = sum(known[group] == "test" for group in present)
        assert num_test >= 1
        assert num_test <= max(1, 0.3 * len(present) + 1.5)


def test_the_folds_table_by_hand() -> None:
    clips = clips_table({"a": {"x": 1}, "b": {"y": 1}, "c": {"x": 1}})
    folds = folds_table(clips, test_clips={"c/x0#0-9"}, fold_of_group={"a": 0, "b": 1})
    assert list(folds.itertuples(index=False, name=None)) == [
        ("c/x0#0-9", "test", -1),
        ("a/x0#0-9", "val", 0),
        ("b/y0#0-9", "train", 0),
        ("a/x0#0-9", "train", 1),
        ("b/y0#0-9", "val", 1),
    ]
    table = balance_table(folds, label_counts(clips), clips)
    assert table.to_dict() == {
        "fold 0": {"x": 1, "y": 0, "clips": 1, "groups": 1},
        "fold 1": {"x": 0, "y": 1, "clips": 1, "groups": 1},
        "test": {"x": 1, "y": 0, "clips": 1, "groups": 1},
    }


def test_official_lists_decide_the_test_clips() -> None:
    clips = clips_table({"a": {"x": 2}, "b": {"y": 1}})
    videos = pd.DataFrame({"video_id": ["a/x0", "a/x1", "b/y0"], "official_role": ["train", "test", "val"]})
    assert official_test_clips(clips, videos) == {"a/x1#0-9"}
    with pytest.raises(DataError, match="a/x1: is in no official list"):
        official_test_clips(clips, videos.assign(official_role=["train", None, "test"]))
    with pytest.raises(DataError, match="the official lists put no clip into test"):
        official_test_clips(clips, videos.assign(official_role="train"))


def imbalance(counts_GK: np.ndarray, folds_G: np.ndarray, num_folds: int) -> float:
    """The cost of a deal by its definition, one fold and class at a time."""
    total_K = counts_GK.sum(axis=0)
    cost = 0.0
    for fold in range(num_folds):
        sums_K = counts_GK[folds_G == fold].sum(axis=0)
        for k, total in enumerate(total_K):
            cost += ((sums_K[k] - total / num_folds) / max(total / num_folds, 1)) ** 2
            if (counts_GK[:, k] > 0).sum() >= 2:
                cost += 2.0 * (sums_K[k] == 0) + 1e4 * (sums_K[k] == total)
    return cost


def test_the_search_finds_the_best_deal_of_few_groups() -> None:
    """Against every possible deal of eight groups with uneven, partly missing classes to three folds."""
    num_best = 0
    deals = [np.array(deal) for deal in np.ndindex(*[3] * 8) if set(deal) == {0, 1, 2} and deal[0] == 0]
    for case in range(6):
        random = np.random.default_rng(case)
        counts_GK = random.poisson(3.0, (8, 3)) * (random.random((8, 3)) < 0.7)
        counts_GK = np.column_stack([counts_GK, counts_GK.sum(axis=1) + 1]).astype(float)
        names = tuple(f"g{i}" for i in range(8))
        folds = deal_folds(GroupCounts(names, counts_GK), num_folds=3, seed=case)
        found = imbalance(counts_GK, np.array([folds[name] for name in names]), 3)
        best = min(imbalance(counts_GK, deal, 3) for deal in deals)
        assert found <= 1.1 * best + 1e-9
        num_best += found <= best + 1e-9
    assert num_best >= 5
