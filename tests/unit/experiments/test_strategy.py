"""What is tried, and when trials are pruned, also by a search that goes on."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from kineflow.experiments.space import make_space
from kineflow.experiments.strategy import first_draws, max_num_trials, scheduler_of
from tests.unit.experiments.samples import strategy, trial


def told(scheduler: Any, name: str, num_folds: int, score: float) -> str:
    stand_in = SimpleNamespace(trial_id=name)
    if num_folds == 1:
        scheduler.on_trial_add(None, stand_in)
    answer: str = scheduler.on_trial_result(None, stand_in, {"training_iteration": num_folds, "score": score})
    return answer


def test_a_search_that_goes_on_is_as_strict_as_one_that_was_not_stopped() -> None:
    known = [trial([value, value], lr=value) for value in (0.5, 0.6, 0.7, 0.8)]
    assert told(scheduler_of(strategy(), 4, []), "new", 1, 0.55) == TrialScheduler.CONTINUE  # the first of all
    assert told(scheduler_of(strategy(), 4, known), "new", 1, 0.55) == TrialScheduler.STOP  # below their median
    assert told(scheduler_of(strategy(), 4, known), "new", 1, 0.9) == TrialScheduler.CONTINUE


def test_a_low_log_loss_goes_on() -> None:
    known = [trial([value], "pruned", metric="video_log_loss", lr=value) for value in (0.5, 0.6, 0.7, 0.8)]
    with_loss = strategy(metric="video_log_loss")
    assert told(scheduler_of(with_loss, 4, known), "new", 1, -0.4) == TrialScheduler.CONTINUE
    assert told(scheduler_of(with_loss, 4, known), "new", 1, -0.75) == TrialScheduler.STOP


def test_nothing_is_pruned_after_the_last_fold() -> None:
    assert type(scheduler_of(strategy(after_folds=4), 4, [])) is FIFOScheduler


@pytest.mark.parametrize(("algorithm", "number"), [("random", 8), ("pbt", 8), ("tpe", 0)])
def test_what_is_tried_whatever_comes_out(algorithm: str, number: int) -> None:
    assert len(first_draws(strategy(algorithm))) == number


def test_how_many_trials_there_will_be() -> None:
    assert max_num_trials(strategy()) == 8 and max_num_trials(strategy("tpe")) == 8
    assert max_num_trials(replace(strategy("pbt"), num_generations=3)) == 8 + 2 * 2  # a quarter, twice
    grid = make_space({"a": {"grid": [1, 2, 3]}, "lr": {"uniform": [0.0, 1.0]}})
    assert max_num_trials(replace(strategy(), space=grid)) == 24
