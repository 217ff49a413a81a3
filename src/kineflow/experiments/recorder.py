"""Writes a search to MLflow as it goes on: a run for it, below one for each trial, below that one for each fold."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from kineflow.errors import ServiceError
from kineflow.experiments.trials import FoldScores, Trial
from kineflow.experiments.tuning import Listener
from kineflow.registry.nested_runs import End, NestedRuns
from kineflow.store import digest

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
            self._write_fold(fold, digest(trial=key, fold=fold.fold), run_id)
        metrics = {trial.metric: trial.mean, "train_sec": trial.seconds, "num_folds": float(len(trial.folds))}
        self._runs.log(run_id, metrics)
        self._runs.end(run_id, ENDS[trial.state])

    def _write_fold(self, fold: FoldScores, key: str, parent: str) -> None:
        params = {"fold": fold.fold, "job_key": fold.job_key}
        run_id, status = self._runs.begin(key, f"fold {fold.fold}", params, parent=parent)
        if status != "FINISHED":
            metrics = {**fold.scores, "train_sec": fold.seconds, "best_epoch": float(fold.best_epoch)}
            self._runs.log(run_id, metrics, curves=fold.curves)
            self._runs.end(run_id)


@contextmanager
def _tolerated() -> Iterator[None]:
    """What cannot be written now is written at the end."""
    try:
        yield
    except ServiceError:
        return
