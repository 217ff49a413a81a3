"""Exhaustive folds, repeats, named tests, folds by hand, and classes without support."""

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kineflow.data.fold_file import read_fold_file
from kineflow.data.held_out import deal_test_groups, named_test_groups, official_test_clips
from kineflow.data.partitions import num_partitions, partitions
from kineflow.data.splits import (
    GroupCounts,
    _fold_cost,
    _sums,
    deal_folds,
    deal_repeats,
    folds_table,
    leave_one_out,
    repeated,
)
from kineflow.data.support import supported_clips, supported_labels
from kineflow.errors import AnnotationError, DataError

GROUPS = st.lists(st.lists(st.integers(0, 40), min_size=3, max_size=3), min_size=3, max_size=8)


def counts_of(rows: list[list[int]]) -> GroupCounts:
    """Groups g0, g1, ... with counts of three classes; the last column is their sum."""
    counts_GK = np.array([[*row, sum(row)] for row in rows], dtype=np.float64)
    return GroupCounts(tuple(f"g{i}" for i in range(len(rows))), counts_GK)


def test_partitions_are_all_there_once() -> None:
    assert [num_partitions(n, k) for n, k in ((4, 2), (5, 3), (12, 4))] == [7, 25, 611501]  # Stirling's
    for num_groups, num_folds in ((4, 2), (6, 3), (5, 5), (3, 2)):
        found = [tuple(row) for row in partitions(num_groups, num_folds).tolist()]
        assert len(found) == len(set(found)) == num_partitions(num_groups, num_folds)
        assert all(set(row) == set(range(num_folds)) for row in found)


@settings(max_examples=25, deadline=None)
@given(GROUPS, st.integers(2, 3), st.integers(0, 9))
def test_no_way_to_deal_few_groups_balances_better(rows: list[list[int]], num_folds: int, seed: int) -> None:
    counts = counts_of(rows)
    cost = _fold_cost(counts.counts_GK, num_folds)

    def cost_of(folds: tuple[int, ...]) -> float:
        return float(cost(_sums(counts.counts_GK, np.array(folds), num_folds)).sum())

    every = [way for way in product(range(num_folds), repeat=len(rows)) if len(set(way)) == num_folds]
    dealt = deal_folds(counts, num_folds=num_folds, seed=seed)
    assert cost_of(tuple(dealt[group] for group in counts.groups)) <= min(map(cost_of, every)) + 1e-6
    assert dealt == deal_folds(counts, num_folds=num_folds, seed=seed)


@settings(max_examples=25, deadline=None)
@given(GROUPS, st.integers(0, 9))
def test_a_class_that_groups_can_spread_is_in_every_fold_and_training_set(rows: list[list[int]], seed: int) -> None:
    counts = counts_of([[count + 1 for count in row] for row in rows])  # every group shows every class
    dealt = deal_folds(counts, num_folds=3, seed=seed)
    sums_FK = _sums(counts.counts_GK, np.array([dealt[group] for group in counts.groups]), 3)
    assert (sums_FK > 0).all() and (sums_FK.sum(axis=0) - sums_FK > 0).all()


@settings(max_examples=25, deadline=None)
@given(GROUPS, st.integers(0, 9), st.sampled_from([0.2, 0.3]))
def test_groups_keep_their_role_when_others_come(rows: list[list[int]], seed: int, fraction: float) -> None:
    few, all_groups = counts_of(rows), counts_of([*rows, [3, 2, 1], [9, 9, 9]])
    known = deal_test_groups(few, {}, test_fraction=fraction, seed=seed)
    new = deal_test_groups(all_groups, known, test_fraction=fraction, seed=seed)
    assert set(new) == set(all_groups.groups) - set(few.groups)
    assert set((known | new).values()) == {"test", "development"}


@settings(max_examples=25, deadline=None)
@given(st.integers(4, 9), st.integers(2, 3), st.integers(1, 3), st.integers(0, 9))
def test_no_group_is_in_two_roles_of_any_repeat(num_groups: int, num_folds: int, num_repeats: int, seed: int) -> None:
    counts = counts_of([[i, 1, 2] for i in range(num_groups)])
    clips = pd.DataFrame(
        [(f"c{i}{j}", f"g{i}") for i in range(num_groups) for j in range(2)], columns=["clip_id", "group"]
    )
    dealt = deal_repeats(counts, num_folds=num_folds, num_repeats=num_repeats, seed=seed)
    assert len({tuple(folds.values()) for folds in dealt}) == num_repeats  # each another partition
    folds = repeated([folds_table(clips, test_clips=set(), fold_of_group=fold_of) for fold_of in dealt])
    rows = folds.merge(clips, on="clip_id")
    assert set(rows["fold"]) == set(range(num_folds * num_repeats))
    assert (rows.groupby(["fold", "group"])["role"].nunique() == 1).all()
    assert (rows[rows["role"] == "val"].groupby("clip_id").size() == num_repeats).all()


def test_repeats_that_cannot_differ_are_refused() -> None:
    with pytest.raises(DataError, match=r"3 groups cannot be dealt to 2 folds in 4 good ways; lower splits\.num_rep"):
        deal_repeats(counts_of([[1, 1, 1]] * 3), num_folds=2, num_repeats=5, seed=0)


def test_leave_one_out_makes_a_fold_of_each_group() -> None:
    assert leave_one_out(counts_of([[1, 1, 1]] * 3)) == {"g0": 0, "g1": 1, "g2": 2}
    with pytest.raises(DataError, match="needs two groups, and there are 1"):
        leave_one_out(counts_of([[1, 1, 1]]))


def test_a_named_video_takes_its_group_with_it() -> None:
    clips = pd.DataFrame({"video_id": ["v0", "v1", "v2", "v3"], "group": ["a", "a", "b", "c"]})
    assert named_test_groups(["v1", "b"], clips) == {"a", "b"}
    with pytest.raises(DataError, match=r"splits\.test_names: 'd' is no group and no video"):
        named_test_groups(["d"], clips)
    with pytest.raises(DataError, match="every group"):
        named_test_groups(["a", "b", "c"], clips)


def test_a_fold_file_of_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "folds.csv"
    path.write_bytes("group,fold\nk\u00e4fig,0\n".encode("latin-1"))
    with pytest.raises(AnnotationError, match=r"folds\.csv:2: not UTF-8 text; save it as UTF-8"):
        read_fold_file(path, groups={"k\u00e4fig"})


def test_val_is_held_out_where_no_clip_is_in_test() -> None:
    clips = pd.DataFrame({"clip_id": ["c0", "c1", "c2"], "video_id": ["v0", "v1", "v2"]})
    videos = pd.DataFrame({"video_id": ["v0", "v1", "v2", "v3"], "official_role": ["train", "val", "test", None]})
    assert official_test_clips(clips, videos) == {"c2"}
    assert official_test_clips(clips[:2], videos) == {"c1"}  # the labels of v2 are not published
    wanted = r"splits\.kind: group_kfold and splits\.test: none \(or groups\)"
    with pytest.raises(DataError, match=f"no clip into test or val; complete them, or set {wanted}"):
        official_test_clips(clips[:1], videos)
    with pytest.raises(DataError, match=f"no clip into train; complete them, or set {wanted}"):
        official_test_clips(clips[2:], videos)
    with pytest.raises(DataError, match=f"v1: is in no official list; complete the lists, or set {wanted}"):
        official_test_clips(clips, videos.assign(official_role=["train", None, "test", None]))


def test_folds_by_hand_are_read(tmp_path: Path) -> None:
    path = tmp_path / "folds.csv"
    path.write_text("group,fold,role\na,0,\nb,1,development\nc,,test\n")
    assert read_fold_file(path, groups={"a", "b", "c"}) == ({"a": 0, "b": 1}, {"c"})
    path.write_text("group,fold\na,1\nb,0\n")
    assert read_fold_file(path, groups={"a", "b"}) == ({"a": 1, "b": 0}, set())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fold,group\n", r"folds\.csv:1: 'fold,group' is not"),
        ("group,fold\na,0\nz,1\n", r"\.csv:3: 'z,1' names no group with clips"),
        ("group,fold\na,0\na,1\n", r"\.csv:3: group 'a' has a row above"),
        ("group,fold\na,x\n", r"\.csv:2: 'a,x' needs a fold from 0"),
        ("group,fold,role\na,0,test\n", r"\.csv:2: 'a,0,test' needs a fold from 0"),
        ("group,fold\na,0,test\n", r"\.csv:2: 'a,0,test' names no group"),
        ("group,fold\na,0\n", r"group 'b' has clips and no row"),
        ("group,fold\na,0\nb,2\n", r"its folds are 0, 2; number at least two from 0"),
        ("group,fold\na,0\nb,0\n", r"its folds are 0; number at least two from 0"),
    ],
)
def test_wrong_rows_of_a_fold_file_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "folds.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_fold_file(path, groups={"a", "b"})


def test_classes_without_support_are_left_out_and_named() -> None:
    clips = pd.DataFrame({"label": ["x"] * 4 + ["y"] * 4 + ["z"], "group": ["a", "b"] * 2 + ["a"] * 4 + ["b"]})
    kept, left_out = supported_clips(clips, min_clips=3)
    assert set(kept["label"]) == {"x"} and left_out == {"y": "4 clips in 1 groups", "z": "1 clips in 1 groups"}


def test_behaviours_that_one_group_shows_are_left_out() -> None:
    videos = pd.DataFrame(
        {"video_id": ["v", "w", "bad"], "group": ["a", "b", "c"], "status": ["ok", "ok", "quarantined"]}
    )
    labels = pd.DataFrame(
        {
            "video_id": ["v", "w", "bad"],
            "frame": [0, 0, 0],
            "walk": pd.array([1, 1, 0], dtype="Int64"),
            "stand": pd.array([0, 0, None], dtype="Int64"),
            "fall": pd.array([1, None, 1], dtype="Int64"),
        }
    )
    kept, left_out = supported_labels(labels, videos)
    assert list(kept.columns) == ["video_id", "frame", "walk"]
    assert left_out == {"stand": "0 frames in 0 groups", "fall": "2 frames in 1 groups"}
