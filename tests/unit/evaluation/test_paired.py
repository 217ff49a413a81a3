"""The bootstrap over groups: its scores are those of metrics.py, and its draws those of a slow loop."""

import numpy as np
import pytest

from kineflow.evaluation import metrics
from kineflow.evaluation.paired import draw_groups, group_scores

NUM_CLASSES, NUM_GROUPS, NUM_ROWS = 4, 7, 90


def exclusive(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, NUM_CLASSES, NUM_ROWS).astype(np.float64)
    truth[rng.random(NUM_ROWS) < 0.1] = np.nan
    return rng.dirichlet(np.ones(NUM_CLASSES), NUM_ROWS), truth, rng.integers(0, NUM_GROUPS, NUM_ROWS)


def independent(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = (rng.random((NUM_ROWS, NUM_CLASSES)) < 0.3).astype(np.float64)
    truth[rng.random(truth.shape) < 0.1] = np.nan
    probs = rng.random(truth.shape).round(1)  # with ties
    return probs, truth, rng.integers(0, NUM_GROUPS, NUM_ROWS)


NAMES = [(labels, name) for (task, labels), names in metrics.METRICS.items() if task == "clip" for name in names]
NAMES += [("independent", "frame_top1_acc")]


@pytest.mark.parametrize(("labels", "name"), NAMES)
def test_scores_are_those_of_the_metrics_on_all_rows_and_on_every_draw(labels: str, name: str) -> None:
    probs, truth, groups = exclusive(1) if labels == "exclusive" else independent(1)
    prefix, _, metric = name.partition("_")
    task = {"video": "clip", "frame": "frame"}[prefix]
    counts = draw_groups(NUM_GROUPS, seed=3, num_draws=20)
    found = group_scores(probs, truth, groups, counts, metric=metric)
    assert found.value == pytest.approx(metrics.scores(probs, truth, task=task)[name])
    for draw, value in zip(counts, found.draws_D, strict=True):
        rows = np.repeat(np.arange(NUM_ROWS), draw[groups])  # the slow way: repeat the rows of the groups drawn
        assert value == pytest.approx(metrics.scores(probs[rows], truth[rows], task=task)[name])


def test_top3_by_hand() -> None:
    probs = np.array([[0.4, 0.3, 0.2, 0.1], [0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]])
    truth, groups = np.array([2.0, 3.0, 1.0]), np.array([0, 1, 2])
    assert group_scores(probs, truth, groups, draw_groups(3), metric="top3_acc").value == pytest.approx(2 / 3)


def test_draws_are_of_as_many_groups_as_there_are() -> None:
    counts = draw_groups(5, num_draws=200)
    assert counts.shape == (200, 5) and (counts.sum(axis=1) == 5).all() and len(np.unique(counts, axis=0)) > 50
    np.testing.assert_array_equal(counts, draw_groups(5, num_draws=200))


def test_pairing_removes_what_makes_groups_hard_for_both() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 30)
    hard = rng.random(20)[groups]  # some groups are told always, some never, by both models
    right_a = rng.random(600) < hard
    right_b = right_a | (rng.random(600) < 0.05)
    truth = np.zeros(600)
    counts = draw_groups(20)
    one_hot = np.eye(2)
    a, b = (
        group_scores(one_hot[1 - r.astype(int)], truth, groups, counts, metric="top1_acc") for r in (right_a, right_b)
    )
    difference = b.minus(a)
    assert difference.value == pytest.approx(right_b.mean() - right_a.mean())
    assert 0 < difference.low < difference.value < difference.high
    alone = b.interval
    assert difference.high - difference.low < 0.2 * (alone.high - alone.low)


def test_the_interval_of_a_mean_is_that_of_theory() -> None:
    rng = np.random.default_rng(5)
    right = rng.random(400) < 0.7
    truth, groups = np.zeros(400), np.arange(400)  # every row a group of its own: the plain bootstrap
    found = group_scores(np.eye(2)[1 - right.astype(int)], truth, groups, draw_groups(400), metric="top1_acc").interval
    margin = 1.96 * np.sqrt(right.mean() * (1 - right.mean()) / 400)
    assert found.high - found.low == pytest.approx(2 * margin, rel=0.1)


def test_one_group_has_no_interval() -> None:
    found = group_scores(np.eye(2), np.array([0.0, 0.0]), np.zeros(2, dtype=int), draw_groups(1), metric="top1_acc")
    assert found.value == 0.5 and np.isnan(found.interval.low)
