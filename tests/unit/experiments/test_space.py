"""What a search draws: inside its ranges, evenly, repeatably, each combination once."""

import math

import numpy as np
import pytest

from kineflow.experiments.space import Choice, Interval, Steps, draw, make_space, perturbed, tidied, trial_key

SPACE = make_space(
    {
        "streams.rgb.lr": {"loguniform": [1.0e-5, 1.0e-1]},
        "streams.rgb.dropout": {"uniform": [0, 0.5]},
        "streams.rgb.num_frames": {"int_range": [8, 31, 8]},
        "train.batch_size": {"choice": [4, 8]},
    }
)


def test_draws_lie_in_their_ranges_and_fill_them_evenly() -> None:
    drawn = draw(SPACE, num_draws=2000, seed=0)
    exponents = np.log10([changes["streams.rgb.lr"] for changes in drawn])
    counts, _ = np.histogram(exponents, bins=[-5, -4, -3, -2, -1])
    assert exponents.min() >= -5 and exponents.max() <= -1 and counts.min() > 420  # 500 are expected of each decade
    dropouts = [changes["streams.rgb.dropout"] for changes in drawn]
    assert min(dropouts) >= 0 and max(dropouts) <= 0.5 and np.mean(dropouts) == pytest.approx(0.25, abs=0.015)
    frames, times = np.unique([changes["streams.rgb.num_frames"] for changes in drawn], return_counts=True)
    assert frames.tolist() == [8, 16, 24] and times.min() > 580  # 32 is beyond 31
    assert {changes["train.batch_size"] for changes in drawn} == {4, 8}


def test_a_seed_repeats_its_draws_and_more_of_them_begin_alike() -> None:
    assert draw(SPACE, num_draws=5, seed=1) == draw(SPACE, num_draws=9, seed=1)[:5]
    assert draw(SPACE, num_draws=5, seed=1) != draw(SPACE, num_draws=5, seed=2)


def test_nothing_is_drawn_twice_and_a_small_space_is_exhausted() -> None:
    space = make_space({"a": {"choice": [1, 2]}, "b": {"choice": ["x", "y"]}})
    drawn = draw(space, num_draws=50, seed=0)
    assert sorted((changes["a"], changes["b"]) for changes in drawn) == [(1, "x"), (1, "y"), (2, "x"), (2, "y")]


def test_grids_are_tried_whole_for_every_draw() -> None:
    space = make_space({"n": {"grid": [7, 15, 23, 29]}, "lr": {"uniform": [0.1, 0.2]}})
    drawn = draw(space, num_draws=3, seed=0)
    rates = list(dict.fromkeys(changes["lr"] for changes in drawn))
    assert len(rates) == 3
    assert [(changes["lr"], changes["n"]) for changes in drawn] == [(lr, n) for lr in rates for n in (7, 15, 23, 29)]
    whole = make_space({"a": {"grid": [1, 2]}, "b": {"grid": [None, True]}})
    assert draw(whole, num_draws=1, seed=0) == [
        {"a": 1, "b": None},
        {"a": 1, "b": True},
        {"a": 2, "b": None},
        {"a": 2, "b": True},
    ]


def test_numbers_are_short_and_stay_inside() -> None:
    assert Interval(0.001, 0.1).tidy(0.0123456789) == 0.01235
    assert Interval(0.00012344, 0.1).tidy(0.000123441) == 0.00012344  # rounding may not leave the range
    assert Steps(6, 14, 4).tidy(11) == 10 and Steps(6, 14, 4).tidy(99) == 14
    assert tidied({"a": Choice(("x",))}, {"a": "x"}) == {"a": "x"}


def test_a_perturbed_trial_stays_in_the_space_and_near() -> None:
    rng = np.random.default_rng(0)
    start = {"streams.rgb.lr": 0.01, "streams.rgb.dropout": 0.25, "streams.rgb.num_frames": 16, "train.batch_size": 4}
    moved = [perturbed(SPACE, start, rng) for _ in range(400)]
    ratios = np.array([changes["streams.rgb.lr"] / 0.01 for changes in moved])
    near = np.isclose(ratios, 0.8) | np.isclose(ratios, 1.2)
    assert 0.68 < near.mean() < 0.82  # one of four is drawn anew
    assert {changes["streams.rgb.num_frames"] for changes in moved} == {8, 16, 24}
    assert all(1e-5 <= changes["streams.rgb.lr"] <= 0.1 for changes in moved)
    assert Choice((1, 2)).beside(2, upwards=True) == 2 and Choice((1, 2)).beside(1, upwards=True) == 2


def test_a_trial_is_known_by_its_values() -> None:
    assert trial_key({"a": 1, "b": 2.0}) == trial_key({"b": 2.0, "a": 1}) != trial_key({"a": 1, "b": 2.5})
    assert math.isclose(Interval(1e-4, 1e-2, is_log=True).at(0.5), 1e-3)
