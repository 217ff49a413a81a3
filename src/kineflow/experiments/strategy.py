"""Which values a search tries and for how long, and how Ray Tune is told so."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np

from kineflow.evaluation.metrics import LOWER_IS_BETTER
from kineflow.experiments.space import Changes, Choice, Interval, Range, Space, draw, perturbed
from kineflow.experiments.trials import Trial, mean_of_known

Algorithm = Literal["grid", "random", "tpe", "pbt"]
REPLACED = 0.25  # of the trials, in each generation of pbt
FAILED = -1e9  # what Tune is told of a trial without a score; Tune always maximises


@dataclass(frozen=True)
class Halving:
    """Successive halving (ASHA): judged after so many folds, a trial goes on if it is among the best `keep`."""

    after_folds: int
    keep: float


@dataclass(frozen=True)
class Strategy:
    """Which values are tried, and for how long.

    Args:
        metric: of the folds; a trial is judged by its mean.
        num_trials: of random and tpe; the population of pbt.
        num_generations: of pbt, each a whole cross-validation.
        halving: None lets every trial see every fold.
    """

    space: Space
    algorithm: Algorithm
    metric: str
    num_trials: int | None
    num_generations: int | None
    halving: Halving | None
    seed: int


def first_draws(strategy: Strategy) -> list[Changes]:
    """What is tried whatever comes out: all of grid and random, the first population of pbt, nothing of tpe."""
    if strategy.algorithm == "tpe":
        return []
    return draw(strategy.space, num_draws=strategy.num_trials or 1, seed=strategy.seed)


def max_num_trials(strategy: Strategy) -> int:
    """How many trials there will be, for pbt at most: each later generation replaces its worst quarter."""
    num_trials = len(first_draws(strategy)) or strategy.num_trials or 0
    num_replaced = min(math.ceil(num_trials * REPLACED), num_trials // 2)
    return num_trials + num_replaced * ((strategy.num_generations or 1) - 1)


def searcher_of(strategy: Strategy, known: Sequence[Trial], left: Sequence[Changes]) -> Any:
    """Optuna's tree-structured Parzen estimator, told of the trials that are known; begins with what is `left`."""
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    num_random = min(10, max(3, (strategy.num_trials or 0) // 3))
    searcher = OptunaSearch(
        space={key: distribution(tried) for key, tried in strategy.space.items()},
        metric="score",
        mode="max",
        sampler=optuna.samplers.TPESampler(seed=strategy.seed + len(known), n_startup_trials=num_random),
        points_to_evaluate=list(left),
    )
    for trial in known:
        if np.isfinite(trial.mean):
            searcher.add_evaluated_point(trial.changes, score_for_tune(trial.values, strategy.metric))
    return searcher


def distribution(tried: Range) -> Any:
    """A range as Optuna knows it."""
    from optuna import distributions

    if isinstance(tried, Choice):
        return distributions.CategoricalDistribution(tried.values)
    if isinstance(tried, Interval):
        return distributions.FloatDistribution(tried.low, tried.high, log=tried.is_log)
    return distributions.IntDistribution(tried.low, tried.last, step=tried.step)


def scheduler_of(strategy: Strategy, num_folds: int, known: Sequence[Trial]) -> Any:
    """What ends or replaces trials; told of those that are known, so that a search that goes on is as strict."""
    from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, PopulationBasedTraining

    judged: dict[str, Any] = {"time_attr": "training_iteration", "metric": "score", "mode": "max"}
    if strategy.algorithm == "pbt":
        rng = np.random.default_rng(strategy.seed)
        return PopulationBasedTraining(
            perturbation_interval=num_folds,
            custom_explore_fn=lambda config: {"changes": perturbed(strategy.space, config["changes"], rng)},
            quantile_fraction=REPLACED,
            synch=True,
            **judged,
        )
    halving = strategy.halving
    if halving is None or halving.after_folds >= num_folds:
        return FIFOScheduler()
    scheduler = ASHAScheduler(
        max_t=num_folds, grace_period=halving.after_folds, reduction_factor=1 / halving.keep, **judged
    )
    for trial in known:
        stand_in = SimpleNamespace(trial_id=trial.key)
        scheduler.on_trial_add(None, stand_in)
        for num_done in range(1, len(trial.folds) + 1):
            score = score_for_tune(trial.values[:num_done], strategy.metric)
            scheduler.on_trial_result(None, stand_in, {"training_iteration": num_done, "score": score})
    return scheduler


def score_for_tune(values: Sequence[float], metric: str) -> float:
    """The mean of some folds' values as Tune is told of it, which always maximises."""
    mean = mean_of_known(values)
    if not np.isfinite(mean):
        return FAILED
    return -mean if metric in LOWER_IS_BETTER else mean
