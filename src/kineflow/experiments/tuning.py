"""Carry out a search by Ray Tune: a trial is a process that trains one fold after another, each of them once.

The store of training results is the memory of a search. A fold that is there, from a trial of the same values, from
the stage `train` or from a search that was killed, is scored and not trained; so a search goes on by being started
again. Trials run side by side, as many as cores and GPUs allow.
"""

import logging
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np

from kineflow.data.decoded_cache import DecodedCache
from kineflow.errors import KineflowError
from kineflow.evaluation.metrics import LOWER_IS_BETTER, ClassRow
from kineflow.experiments.space import Changes, Choice, Interval, Range, Space, draw, perturbed, tidied, trial_key
from kineflow.experiments.trials import FoldScores, Trial, mean_of_known
from kineflow.parallel.capacity import machines, threads_with_room
from kineflow.parallel.session import ray_session, with_head_watched
from kineflow.parallel.threads import environment
from kineflow.training.folds import run_telling
from kineflow.training.job import Job, with_threads
from kineflow.training.result import result_store

Algorithm = Literal["grid", "random", "tpe", "pbt"]
REPLACED = 0.25  # of the trials, in each generation of pbt
FAILED = -1e9  # what Tune is told of a trial without a score; Tune always maximises
TUNE_ENVIRONMENT = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the trials' scores are kept by us
    "RAY_AIR_NEW_OUTPUT": "0",
}


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


@dataclass(frozen=True)
class Work:
    """What every trial needs; sent to each process once.

    Args:
        jobs_of: the trainings of some values, one for each fold.
        score: of a finished training and its result folder.
        home: of the results; absolute.
        workspace: that the stores' paths are relative to; absolute.
        threads: cores of a trial. gpus: of a GPU. max_failures: restarts of a trial whose process dies.
    """

    jobs_of: Callable[[Changes], list[Job]]
    score: Callable[[Job, Path], FoldScores]
    home: Path
    workspace: Path
    num_folds: int
    threads: int
    gpus: float
    max_failures: int
    cache_bytes: int


class Listener:
    """Is told of a search as it goes on."""

    def trial_began(self, trial: Trial) -> None:
        """A process is at the folds that a trial still lacks."""

    def fold_done(self, trial: Trial) -> None:
        """A trial has one more fold."""

    def trial_ended(self, trial: Trial) -> None:
        """A trial saw all its folds, was pruned, or failed."""


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


def from_store(work: Work, changes: Changes, metric: str) -> Trial:
    """The trial of these values with the folds that are in the store: `done` where none is missing, else `running`.

    It failed where the values do not go together.
    """
    trial, results = Trial(changes, metric), result_store(work.home)
    try:
        jobs = work.jobs_of(changes)
    except KineflowError as err:
        trial.state, trial.reason = "failed", sentence(err)
        return trial
    for job in jobs:
        if (key := job.key) in results:
            trial.add(work.score(job, results.path(key)))
    trial.state = "done" if len(trial.folds) == len(jobs) else "running"
    return trial


@dataclass(frozen=True)
class Tried:
    """Values that an earlier run of the same search tried.

    Args:
        pruned_on: the keys of the trainings after which it pruned them by the same rule; none where it did not.
    """

    changes: Changes
    pruned_on: frozenset[str]


def search(strategy: Strategy, work: Work, listener: Listener, *, tried: Sequence[Tried] = ()) -> list[Trial]:
    """Try values until the strategy's trials are done.

    Args:
        tried: by an earlier run; what of it is in the store counts, and is not tried again.

    Returns:
        Every trial, in no particular order.

    Raises:
        KineflowError: a trial ended with what looks like a bug.
        ServiceError: Ray cannot be reached, or its head is gone.
    """
    pruned = {trial_key(one.changes): one.pruned_on for one in tried}
    wanted = [one.changes for one in tried] if strategy.algorithm == "tpe" else first_draws(strategy)
    trials, left = _known(strategy, work, wanted, pruned)
    for trial in trials.values():
        listener.trial_ended(trial)
    num_left = (strategy.num_trials or 0) - len(trials) if strategy.algorithm == "tpe" else len(left)
    if num_left > 0:
        with environment(TUNE_ENVIRONMENT), ray_session(), _scratch(work.home / "search" / "tune") as folder:
            _tune(strategy, work, listener, trials, left, num_left, folder)
    return list(trials.values())


def _known(
    strategy: Strategy, work: Work, wanted: Sequence[Changes], pruned: Mapping[str, frozenset[str]]
) -> tuple[dict[str, Trial], list[Changes]]:
    """The trials that have ended already, by their keys, and the values of those that have not."""
    if strategy.algorithm == "pbt":
        return {}, list(wanted)
    known, left = {}, []
    for changes in wanted:
        trial = from_store(work, changes, strategy.metric)
        found = {fold.job_key for fold in trial.folds}
        if trial.state == "running" and found and found <= pruned.get(trial.key, frozenset()):
            trial.state = "pruned"  # on the same folds, by the same params
        if trial.state == "running":
            left.append(changes)
        else:
            known[trial.key] = trial
    return known, left


def _tune(
    strategy: Strategy,
    work: Work,
    listener: Listener,
    trials: dict[str, Trial],
    left: list[Changes],
    num_left: int,
    folder: Path,
) -> None:
    import ray
    from ray import tune

    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a dead worker is replaced; what stays broken, we tell
    DecodedCache(work.home / "decoded", work.cache_bytes).sweep()
    on_gpu = work.gpus > 0 and ray.cluster_resources().get("GPU", 0) > 0
    gpus = work.gpus if on_gpu else 0.0
    work = replace(work, threads=threads_with_room(work.threads, machines(), say=_say, gpus=gpus))
    resources = {"CPU": work.threads, "GPU": gpus}
    trainable = tune.with_parameters(_run_trial, strategy=strategy, work=work)
    searcher = _tpe(strategy, list(trials.values()), left) if strategy.algorithm == "tpe" else None
    tuner = tune.Tuner(
        tune.with_resources(trainable, resources),
        param_space=None if searcher else {"changes": tune.grid_search(left)},
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=_scheduler(strategy, work.num_folds, list(trials.values())),
            num_samples=num_left if searcher else 1,
            max_concurrent_trials=_num_slots(resources) if searcher else None,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(folder),
            failure_config=tune.FailureConfig(max_failures=work.max_failures),
            callbacks=[_teller(strategy, work, listener, trials)],
            verbose=0,
        ),
    )
    for error in with_head_watched(tuner.fit).errors:
        raise KineflowError(f"a trial broke off ({sentence(error)[-300:]}); run the search again to go on")


def _say(text: str) -> None:
    print(f"search: {text}", flush=True)


def _num_slots(resources: Mapping[str, float]) -> int:
    import ray

    available = ray.cluster_resources()
    return max(1, int(min(available.get(name, 0) / wanted for name, wanted in resources.items() if wanted)))


def _tpe(strategy: Strategy, known: Sequence[Trial], left: Sequence[Changes]) -> Any:
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
            searcher.add_evaluated_point(trial.changes, _score_for_tune(trial.values, strategy.metric))
    return searcher


def distribution(tried: Range) -> Any:
    """A range as Optuna knows it."""
    from optuna import distributions

    if isinstance(tried, Choice):
        return distributions.CategoricalDistribution(tried.values)
    if isinstance(tried, Interval):
        return distributions.FloatDistribution(tried.low, tried.high, log=tried.is_log)
    return distributions.IntDistribution(tried.low, tried.last, step=tried.step)


def _scheduler(strategy: Strategy, num_folds: int, known: Sequence[Trial]) -> Any:
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
            score = _score_for_tune(trial.values[:num_done], strategy.metric)
            scheduler.on_trial_result(None, stand_in, {"training_iteration": num_done, "score": score})
    return scheduler


def _teller(strategy: Strategy, work: Work, listener: Listener, known: dict[str, Trial]) -> Any:
    """Tune's view of a search, turned into ours as it comes in: `known` gets the trials that were begun."""
    from ray import tune

    is_pbt, num_generations = strategy.algorithm == "pbt", strategy.num_generations or 1

    def trial_of(config: Mapping[str, Any]) -> Trial:
        found = Trial(_changes(strategy.space, config), strategy.metric)
        return known.setdefault(found.key, found)

    class Listening(tune.Callback):  # type: ignore[misc]
        def __reduce__(self) -> tuple[Any, ...]:
            return (tune.Callback, ())  # Tune keeps a copy to restore from, which we never do

        def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            if is_pbt and trial.last_result.get("training_iteration", 0) >= work.num_folds * num_generations:
                return  # with values for a generation that never comes
            found = Trial(_changes(strategy.space, trial.config), strategy.metric)
            found = known.get(found.key, found)
            if found.state == "running":
                news_path(work.home, found.changes).unlink(missing_ok=True)  # of a run that was killed
                listener.trial_began(found)

        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
            found = trial_of(result["config"])
            before = found.state
            if "error" in result:
                found.state, found.reason = "failed", result["error"]
            elif found.add(_fold_scores(result["fold"])):
                listener.fold_done(found)
            if is_pbt and found.state == "running" and len(found.folds) == work.num_folds:
                found.state = "done"
            if is_pbt and found.state != before:  # its process goes on, with the next generation's values
                listener.trial_ended(found)

        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            if is_pbt:  # told with its results, and by now it may have values that are never trained
                return
            found = trial_of(trial.config)
            if found.state in ("running", "pruned"):  # the same values may have been drawn, and pruned, before
                found.state = "done" if len(found.folds) == work.num_folds else "pruned"
            listener.trial_ended(found)

    return Listening()


def _changes(space: Space, config: Mapping[str, Any]) -> Changes:
    return tidied(space, config["changes"] if "changes" in config else {key: config[key] for key in space})


def _run_trial(config: dict[str, Any], strategy: Strategy, work: Work) -> None:
    """Runs in a process of Tune's: every fold of some values, for pbt one generation after another."""
    from ray import tune

    os.chdir(work.workspace)
    changes = _changes(strategy.space, config)
    is_pbt = strategy.algorithm == "pbt"
    for generation in range(_generations_done(tune.get_checkpoint()), strategy.num_generations or 1):
        values: list[float] = []
        try:
            for job in work.jobs_of(changes):
                fold = run_fold(job, work, news_path(work.home, changes))
                values.append(fold.scores[strategy.metric])
                report = {"score": _score_for_tune(values, strategy.metric), "fold": asdict(fold)}
                if is_pbt and len(values) == work.num_folds:
                    with _generation_checkpoint(generation + 1) as checkpoint:
                        tune.report(report, checkpoint=checkpoint)
                else:
                    tune.report(report)
        except KineflowError as err:
            tune.report({"score": FAILED, "error": sentence(err)})
            return


def run_fold(job: Job, work: Work, news: Path) -> FoldScores:
    """Train a fold unless it is in the store, and score it; two processes never train the same one.

    Args:
        news: the file to tell in how far it is; gone when it is done.
    """
    key, results = job.key, result_store(work.home)
    if key not in results:
        cache = DecodedCache(work.home / "decoded", work.cache_bytes)
        run_telling(with_threads(job, work.threads), key, work.home, cache, None, news=news)
        checkpoints = work.home / "checkpoints"
        for path in (checkpoints / f"{key}.pt", checkpoints / f"{key}.pretrain.pt", news):
            path.unlink(missing_ok=True)
    return work.score(job, results.path(key))


def news_path(home: Path, changes: Mapping[str, Any]) -> Path:
    """Where a trial tells how far the fold is that it trains."""
    return home / "progress" / f"trial_{trial_key(changes)}.json"


def _score_for_tune(values: Sequence[float], metric: str) -> float:
    mean = mean_of_known(values)
    if not np.isfinite(mean):
        return FAILED
    return -mean if metric in LOWER_IS_BETTER else mean


def _fold_scores(values: Mapping[str, Any]) -> FoldScores:
    classes = tuple(ClassRow(**row) for row in values["classes"])
    return FoldScores(**(dict(values) | {"classes": classes}))


@contextmanager
def _generation_checkpoint(num_done: int) -> Iterator[Any]:
    """All that a generation hands on: how many there were. A model of one fold is no start for another fold's."""
    from ray import tune

    with TemporaryDirectory() as folder:
        (Path(folder) / "generations").write_text(str(num_done))
        yield tune.Checkpoint.from_directory(folder)


def _generations_done(checkpoint: Any) -> int:
    if checkpoint is None:
        return 0
    with checkpoint.as_directory() as folder:
        return int((Path(folder) / "generations").read_text())


@contextmanager
def _scratch(root: Path) -> Iterator[Path]:
    """A folder of this process for what Tune writes and nobody reads; those of killed processes go with it."""
    import psutil

    folder = root / str(os.getpid())
    try:
        yield folder
    finally:
        for path in root.glob("*"):
            if path == folder or not psutil.pid_exists(int(path.name)):
                shutil.rmtree(path, ignore_errors=True)


def sentence(error: BaseException) -> str:
    """What an error says, on one line."""
    return " ".join(str(error).split())
