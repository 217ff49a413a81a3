"""Writes searches and comparisons to MLflow: a run, below it one for each trial, below that one for each fold.

A search is written as it goes on, a comparison when it is finished.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from kineflow.errors import ServiceError
from kineflow.experiments.comparison import Contender
from kineflow.experiments.trials import FoldScores, Trial, mean_of_known
from kineflow.experiments.tuning import Listener
from kineflow.registry.nested_runs import End, NestedRuns, TrainingRecord
from kineflow.store import digest

MAX_NAME_CHARS = 100
ENDS: Mapping[str, End] = {"done": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}


class Recorder(Listener):
    """Told of trials, it writes them; a service that goes away meanwhile does not stop the search.

    Args:
        runs: of the experiment.
        key: of the search: one that goes on is the same run.
    """

    def __init__(self, runs: NestedRuns, key: str, run_id: str) -> None:
        self._runs = runs
        self._key = key
        self._run_id = run_id
        self._unwritten: dict[str, Trial] = {}

    @classmethod
    @contextmanager
    def recording(cls, experiment: str, key: str, name: str, params: Mapping[str, Any]) -> Iterator[Self]:
        """Have the run of the search open for the block; one that is left by an error is marked as failed.

        Raises:
            ServiceError: MLflow is out of reach, before anything was trained.
        """
        runs = NestedRuns(experiment)
        run_id, _ = runs.begin(key, name, params)
        runs.resume(run_id)
        with runs.watching_the_machine(run_id):
            try:
                yield cls(runs, key, run_id)
            except BaseException:
                with _tolerated():
                    runs.end(run_id, "FAILED")
                raise

    def trial_ended(self, trial: Trial) -> None:
        self._unwritten[trial.key] = trial
        with _tolerated():
            self._write_all()

    def finish(self, best: Trial, documents: Sequence[Path]) -> str | None:
        """Close the search's run with its winner; what went wrong, where MLflow is out of reach."""
        try:
            self._write_all()
            self._runs.log(self._run_id, {f"best_{best.metric}": best.mean})
            self._runs.end(self._run_id, documents=documents)
        except ServiceError as err:
            return str(err)
        return None

    def _write_all(self) -> None:
        for key, trial in list(self._unwritten.items()):
            self._write(trial)
            del self._unwritten[key]

    def _write(self, trial: Trial) -> None:
        key = digest(search=self._key, trial=trial.key)
        run_id, status = self._runs.begin(key, trial.key, trial.changes, parent=self._run_id)
        if status == ENDS[trial.state]:
            return
        for fold in trial.folds:
            self._runs.write_training(
                digest(trial=key, fold=fold.fold), f"fold {fold.fold}", _record(fold), parent=run_id
            )
        metrics = {trial.metric: trial.mean, "train_sec": trial.seconds, "num_folds": float(len(trial.folds))}
        self._runs.log(run_id, metrics)
        self._runs.end(run_id, ENDS[trial.state])


@contextmanager
def _tolerated() -> Iterator[None]:
    """What cannot be written now is written at the end."""
    try:
        yield
    except ServiceError:
        return


def write_comparison(
    experiment: str,
    params: Mapping[str, Any],
    contenders: Sequence[tuple[Contender, Mapping[int, Sequence[FoldScores]]]],
    documents: Sequence[Path],
) -> None:
    """A finished comparison: a run for it, below one for each contender, below that one for each seed's folds.

    Args:
        params: of the comparison, for people.
        contenders: each with the scores of its folds, by seed.

    Raises:
        ServiceError: MLflow is out of reach; called again, it goes on.
    """
    runs = NestedRuns(experiment)
    trained = {one.name: [fold.job_key for of_seed in seeds.values() for fold in of_seed] for one, seeds in contenders}
    key = digest(compared=trained, params=dict(params))
    run_id, status = runs.begin(key, " / ".join(trained)[:MAX_NAME_CHARS], params)
    if status == "FINISHED":
        return
    for contender, seeds in contenders:
        below = digest(comparison=key, contender=contender.name)
        parent, _ = runs.begin(below, contender.name, contender.changes, parent=run_id)
        folds = [fold for of_seed in seeds.values() for fold in of_seed]
        for seed, of_seed in seeds.items():
            for fold in of_seed:
                name = f"seed {seed}, fold {fold.fold}"
                runs.write_training(digest(contender=below, name=name), name, _record(fold), parent=parent)
        runs.log(parent, {name: mean_of_known([fold.scores[name] for fold in folds]) for name in folds[0].scores})
        runs.end(parent)
    runs.end(run_id, documents=documents)


def _record(fold: FoldScores) -> TrainingRecord:
    metrics = dict(fold.scores) | ({} if fold.best_epoch is None else {"best_epoch": float(fold.best_epoch)})
    params = {"fold": fold.fold, "job_key": fold.job_key}
    return TrainingRecord(params, metrics, fold.seconds, fold.curves, fold.machine)
