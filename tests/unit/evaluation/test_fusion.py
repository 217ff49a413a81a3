"""Fusion against slow references: its weights, what a fold's own truth has to say in them, and what each stream is."""

from itertools import product

import numpy as np
import pandas as pd
import pytest

from kineflow.errors import DataError
from kineflow.evaluation.fusion import PULL_CLIPS, best_weights, fit_fusion, fuse
from kineflow.evaluation.predictions import Examples, Predictions

GROUPS = ("a", "b", "c", "d")
DEALS = ({"a": 0, "b": 0, "c": 1, "d": 1}, {"a": 2, "b": 3, "c": 2, "d": 3})  # two repeats of two folds
CLIPS_PER_GROUP = 3
NAMES = ("rgb", "flow", "fv")


def examples_of(labels="exclusive", *, deals=DEALS, seed=0, classes=("x", "y", "z")):
    clips = [f"{group}{i}" for group in GROUPS for i in range(CLIPS_PER_GROUP)]
    rows = [(deal[clip[0]], clip, f"{clip}.mp4", -1) for deal in deals for clip in clips]
    rows = pd.DataFrame(rows, columns=["fold", "clip_id", "video_id", "frame"])
    rows = rows.sort_values(["fold", "clip_id"], ignore_index=True)
    rng = np.random.default_rng(seed)
    if labels == "exclusive":
        told = dict(zip(clips, rng.integers(0, len(classes), len(clips)).astype(float), strict=True))
        told[clips[1]] = np.nan
    else:
        told = dict(zip(clips, rng.choice([0.0, 1.0, np.nan], (len(clips), len(classes))), strict=True))
    truth = np.stack([told[clip] for clip in rows["clip_id"]])
    return Examples("clip", classes, rows, truth, rows, np.arange(len(rows)))


def streams_of(examples, *, names=NAMES, seed=1):
    """Each stream knows the truth better than the one before."""
    rng = np.random.default_rng(seed)
    found = []
    num_classes = len(examples.classes)
    if examples.labels == "exclusive":
        true_NK = np.eye(num_classes)[np.nan_to_num(examples.truth).astype(int)]
    else:
        true_NK = np.nan_to_num(examples.truth, nan=0.5)
    for sure, name in enumerate(names):
        raw_NK = rng.uniform(0.05, 1.0, true_NK.shape) + sure * true_NK
        share_NK = raw_NK / raw_NK.sum(axis=1, keepdims=True)
        found.append(Predictions(name, examples, share_NK))
    return found


def groups_of(examples):
    return np.array([clip_id[0] for clip_id in examples.rows["clip_id"]], dtype=object)


def slow_loss(streams, weights, rows_N):
    """The loss in the module's words, row by row."""
    examples = streams[0].examples
    losses, clips = [], set()
    for row in np.flatnonzero(rows_N):
        fused_K = sum(w * stream.probs_NK[row] for w, stream in zip(weights, streams, strict=True))
        truth = np.atleast_1d(examples.truth[row])
        cells = [fused_K[int(truth[0])]] if examples.labels == "exclusive" and np.isfinite(truth[0]) else []
        if examples.labels == "independent":
            cells = [p if t == 1 else 1 - p for p, t in zip(fused_K, truth, strict=True) if np.isfinite(t)]
        losses += [-np.log(p) for p in cells]
        clips |= {examples.rows["clip_id"][row]} if cells else set()
    even = 1 / len(weights)
    return len(clips) * np.mean(losses) + PULL_CLIPS * sum(even * np.log(even / w) for w in weights)


@pytest.mark.parametrize("labels", ["exclusive", "independent"])
def test_weights_are_the_best_of_all_that_a_grid_holds(labels):
    examples = examples_of(labels)
    streams = streams_of(examples)
    found = fit_fusion(streams, groups_of(examples), rule="validation")
    steps = np.arange(0.02, 1.0, 0.02)
    grid = [(a, b, 1 - a - b) for a, b in product(steps, steps) if a + b < 0.99]
    folds = examples.rows["fold"].to_numpy()
    # fold 0 holds the groups a and b: its weights come from c and d, in either repeat
    of_others = np.isin(groups_of(examples), ["c", "d"])
    for weights, rows_N in ((found.weights, folds >= 0), (found.of_folds[0], of_others)):
        values = [slow_loss(streams, candidate, rows_N) for candidate in grid]
        best = grid[int(np.argmin(values))]
        assert list(weights) == list(NAMES)
        assert list(weights.values()) == pytest.approx(best, abs=0.03)
        assert slow_loss(streams, list(weights.values()), rows_N) <= min(values) + 1e-6
    assert found.weights["fv"] > found.weights["rgb"] + 0.05  # else the grid would say little


@pytest.mark.parametrize("num_clips", [2, 60, 100_000])
@pytest.mark.parametrize("kind", ["random", "one is right", "one is hopeless"])
def test_weights_satisfy_the_condition_of_the_minimum(num_clips, kind):
    told_MS = np.random.default_rng(3).uniform(0.01, 1.0, (200, 4))
    if kind == "one is right":
        told_MS[:, 2], told_MS[:, [0, 1, 3]] = 1.0, 1e-12
    if kind == "one is hopeless":
        told_MS[:, 1] = 1e-15
    weights_S = best_weights(told_MS, num_clips=num_clips)
    # at the minimum a weight is the stream's share of what is told, its share of the pull included
    share_S = (weights_S * told_MS / (told_MS @ weights_S)[:, None]).mean(axis=0)
    wanted_S = (num_clips * share_S + PULL_CLIPS / 4) / (num_clips + PULL_CLIPS)
    assert weights_S == pytest.approx(wanted_S, abs=1e-7)
    assert weights_S.sum() == pytest.approx(1.0, abs=1e-12)
    assert weights_S.min() >= PULL_CLIPS / 4 / (num_clips + PULL_CLIPS) - 1e-9


def test_streams_that_say_the_same_weigh_the_same():
    examples = examples_of()
    one = streams_of(examples)[1]
    streams = [Predictions(name, examples, one.probs_NK) for name in NAMES]
    found = fit_fusion(streams, groups_of(examples), rule="validation")
    for weights in (found.weights, *found.of_folds.values()):
        assert list(weights.values()) == [0.333333] * 3
    assert found.out_of_fold.probs_NK == pytest.approx(one.probs_NK, abs=1e-12)


@pytest.mark.parametrize("labels", ["exclusive", "independent"])
@pytest.mark.parametrize("group", GROUPS)
def test_what_is_true_of_a_group_does_not_change_its_own_fused_probabilities(labels, group):
    examples = examples_of(labels)
    groups_N = groups_of(examples)
    before = fit_fusion(streams_of(examples), groups_N, rule="validation")
    truth = examples.truth.copy()
    own_N = groups_N == group
    truth[own_N] = (truth[own_N] + 1) % 3 if labels == "exclusive" else 1 - truth[own_N]
    other = Examples("clip", examples.classes, examples.rows, truth, examples.rows, examples.row_of_window_row)
    same = [Predictions(stream.name, other, stream.probs_NK) for stream in streams_of(examples)]
    after = fit_fusion(same, groups_N, rule="validation")
    assert np.array_equal(after.out_of_fold.probs_NK[own_N], before.out_of_fold.probs_NK[own_N])
    for name in NAMES:
        assert np.array_equal(after.without[name].probs_NK[own_N], before.without[name].probs_NK[own_N])
    assert not np.allclose(after.out_of_fold.probs_NK, before.out_of_fold.probs_NK, atol=1e-4)
    assert after.weights != before.weights


def test_a_fold_beside_which_no_group_is_left_weighs_alike():
    examples = examples_of(deals=[dict.fromkeys(GROUPS, 1)])
    found = fit_fusion(streams_of(examples), groups_of(examples), rule="validation")
    assert list(found.of_folds[1].values()) == [0.333333] * 3
    assert found.weights["fv"] > found.weights["rgb"]


def test_repeats_of_the_folds_count_a_clip_once():
    once, twice = examples_of(deals=DEALS[:1]), examples_of()
    of_once = streams_of(once)
    row_N = once.rows.reset_index().set_index("clip_id")["index"].loc[twice.rows["clip_id"]].to_numpy()
    again = [Predictions(stream.name, twice, stream.probs_NK[row_N]) for stream in of_once]
    wanted = fit_fusion(of_once, groups_of(once), rule="validation").weights
    assert fit_fusion(again, groups_of(twice), rule="validation").weights == pytest.approx(wanted, abs=2e-6)


def test_equal_fusion_is_the_mean_and_without_one_stream_the_mean_of_the_others():
    examples = examples_of()
    streams = streams_of(examples)
    found = fit_fusion(streams, groups_of(examples), rule="equal")
    rgb, flow, fv = (stream.probs_NK for stream in streams)
    assert found.out_of_fold.probs_NK == pytest.approx((rgb + flow + fv) / 3)
    assert found.without["flow"].probs_NK == pytest.approx((rgb + fv) / 2)
    of_two = fit_fusion(streams[:2], groups_of(examples), rule="equal")
    assert of_two.without["rgb"].probs_NK == pytest.approx(flow)


def test_fuse_weighs_by_name():
    examples = examples_of(deals=DEALS[:1])
    first, second, _ = streams_of(examples)
    fused = fuse([first, second], {"flow": 0.75, "rgb": 0.25}).probs_NK
    assert fused == pytest.approx(0.25 * first.probs_NK + 0.75 * second.probs_NK)


def test_other_rows_other_classes_and_a_single_stream_are_refused():
    examples = examples_of()
    rgb = streams_of(examples)[0]
    fewer, others = examples_of(deals=DEALS[:1]), examples_of(classes=("x", "y"))
    with pytest.raises(DataError, match="rgb and flow have different rows"):
        fuse([rgb, streams_of(fewer)[1]], {"rgb": 0.5, "flow": 0.5})
    with pytest.raises(DataError, match="rgb and flow have different classes"):
        fit_fusion([rgb, streams_of(others)[1]], groups_of(examples), rule="equal")
    with pytest.raises(DataError, match="needs two streams, 1 given"):
        fit_fusion([rgb], groups_of(examples), rule="validation")
