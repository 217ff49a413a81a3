"""Carry out a search by Ray Tune: a trial is a process that trains one fold after another, each of them once.

The store of training results is the memory of a search. A fold that is there, from a trial of the same values, from
the stage `train` or from a search that was killed, is scored and not trained; so a search goes on by being started
again. Trials run side by side, as many as cores and GPUs allow.
"""

import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kineflow.data.decoded_cache import DecodedCache
from kineflow.errors import KineflowError
from kineflow.evaluation.metrics import ClassRow
from kineflow.experiments.space import Changes, trial_key
from kineflow.experiments.strategy import Strategy, first_draws, scheduler_of, searcher_of
from kineflow.experiments.trial_worker import Work, changes_of, news_path, run_trial
from kineflow.experiments.trials import FoldScores, Trial, sentence
from kineflow.parallel.capacity import machines, threads_with_room
from kineflow.parallel.session import ray_session, with_head_watched
from kineflow.parallel.threads import environment
from kineflow.training.result import result_store, sweep_home

TUNE_ENVIRONMENT = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the trials' scores are kept by us
    "RAY_AIR_NEW_OUTPUT": "0",
}


class Listener:
    """Is told of a search as it goes on."""

    def trial_began(self, trial: Trial) -> None:
        """A process is at the folds that a trial still lacks."""

    def fold_done(self, trial: Trial) -> None:
        """A trial has one more fold."""

    def trial_ended(self, trial: Trial) -> None:
        """A trial saw all its folds, was pruned, or failed."""


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
        trial = _from_store(work, changes, strategy.metric)
        found = {fold.job_key for fold in trial.folds}
        if trial.state == "running" and found and found <= pruned.get(trial.key, frozenset()):
            trial.state = "pruned"  # on the same folds, by the same params
        if trial.state == "running":
            left.append(changes)
        else:
            known[trial.key] = trial
    return known, left


def _from_store(work: Work, changes: Changes, metric: str) -> Trial:
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
    sweep_home(work.home)
    on_gpu = work.gpus > 0 and ray.cluster_resources().get("GPU", 0) > 0
    gpus = work.gpus if on_gpu else 0.0
    work = replace(work, threads=threads_with_room(work.threads, machines(), say=_say, gpus=gpus))
    resources = {"CPU": work.threads, "GPU": gpus}
    trainable = tune.with_parameters(run_trial, strategy=strategy, work=work)
    searcher = searcher_of(strategy, list(trials.values()), left) if strategy.algorithm == "tpe" else None
    tuner = tune.Tuner(
        tune.with_resources(trainable, resources),
        param_space=None if searcher else {"changes": tune.grid_search(left)},
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler_of(strategy, work.num_folds, list(trials.values())),
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


def _teller(strategy: Strategy, work: Work, listener: Listener, known: dict[str, Trial]) -> Any:
    """Tune's view of a search, turned into ours as it comes in: `known` gets the trials that were begun."""
    from ray import tune

    is_pbt, num_generations = strategy.algorithm == "pbt", strategy.num_generations or 1

    def trial_of(config: Mapping[str, Any]) -> Trial:
        found = Trial(changes_of(strategy.space, config), strategy.metric)
        return known.setdefault(found.key, found)

    class Listening(tune.Callback):  # type: ignore[misc]
        def __reduce__(self) -> tuple[Any, ...]:
            return (tune.Callback, ())  # Tune keeps a copy to restore from, which we never do

        def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            if is_pbt and trial.last_result.get("training_iteration", 0) >= work.num_folds * num_generations:
                return  # with values for a generation that never comes
            found = Trial(changes_of(strategy.space, trial.config), strategy.metric)
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


def _fold_scores(values: Mapping[str, Any]) -> FoldScores:
    classes = tuple(ClassRow(**row) for row in values["classes"])
    return FoldScores(**(dict(values) | {"classes": classes}))


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
