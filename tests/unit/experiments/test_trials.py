"""Trials: their means, their order, their table."""

import math

import pytest

from kineflow.experiments.trials import ranked, trials_table
from tests.unit.experiments.samples import fold_scores, trial


def test_finished_trials_come_first_and_the_best_of_them_leads() -> None:
    pruned = trial([0.99], "pruned", lr=1)
    listed = [trial([0.5, 0.7], lr=2), pruned, trial([0.9, 0.5], lr=3), trial([], "failed", lr=4)]
    assert [one.changes["lr"] for one in ranked(listed)] == [3, 2, 1, 4]


def test_of_a_log_loss_the_lowest_is_the_best() -> None:
    listed = [trial([value], metric="video_log_loss", lr=value) for value in (0.7, 0.2, 0.9)]
    assert [one.changes["lr"] for one in ranked(listed)] == [0.2, 0.7, 0.9]


def test_a_fold_counts_once_and_one_without_a_value_not_at_all() -> None:
    one = trial([0.5, math.nan, 0.8], lr=1)
    assert one.mean == pytest.approx(0.65) and one.seconds == 4.5
    assert not one.add(fold_scores(1, 0.1)) and one.add(fold_scores(3, 0.2))
    assert one.mean == pytest.approx(0.5)


def test_the_table_holds_every_trial_its_folds_and_its_values() -> None:
    table = trials_table([trial([0.4], "pruned", lr=0.1, flip=True), trial([0.5, 0.7], lr=0.2, flip=False)])
    assert table["state"].tolist() == ["done", "pruned"]
    assert table["video_top1_acc"].tolist() == pytest.approx([0.6, 0.4])
    assert table["std"].tolist() == pytest.approx([0.1, 0.0])
    assert table["fold_1"].tolist()[0] == 0.7 and math.isnan(table["fold_1"].tolist()[1])
    assert table["lr"].tolist() == [0.2, 0.1] and table["num_folds"].tolist() == [2, 1]
