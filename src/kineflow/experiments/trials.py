"""What a search found: a trial is one choice of values, with the scores of the folds that it was given."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd

from kineflow.evaluation.metrics import LOWER_IS_BETTER, ClassRow
from kineflow.experiments.space import Changes, trial_key

State = Literal["running", "done", "pruned", "failed"]


@dataclass(frozen=True)
class FoldScores:
    """One fold of one trial.

    Args:
        job_key: of the training that was scored.
        scores: every metric of the task, on the fold's validation clips.
        classes: the same, class by class.
        seconds: of the training, whenever that was.
        best_epoch: None of what has no epochs.
        curves: `train_loss`, `val_loss` and `val_metric` of each epoch.
        machine: what the machine was busy with meanwhile; see `MachineWatch`.
    """

    fold: int
    job_key: str
    scores: Mapping[str, float]
    classes: tuple[ClassRow, ...]
    seconds: float
    best_epoch: int | None
    curves: tuple[Mapping[str, float], ...] = ()
    machine: tuple[Mapping[str, float], ...] = ()


@dataclass
class Trial:
    """A choice of values and what came of it.

    Args:
        reason: why it failed.
    """

    changes: Changes
    metric: str
    folds: list[FoldScores] = field(default_factory=list)
    state: State = "running"
    reason: str | None = None

    @property
    def key(self) -> str:
        """Its short name."""
        return trial_key(self.changes)

    @property
    def values(self) -> list[float]:
        """The metric on each fold, in the order in which they were trained."""
        return [fold.scores[self.metric] for fold in self.folds]

    @property
    def mean(self) -> float:
        """The metric over the folds so far; nan before the first that has a value."""
        return mean_of_known(self.values)

    @property
    def seconds(self) -> float:
        """Of training, over the folds so far."""
        return sum(fold.seconds for fold in self.folds)

    def add(self, fold: FoldScores) -> bool:
        """Take a fold's scores, once; whether it was new."""
        is_new = all(known.fold != fold.fold for known in self.folds)
        if is_new:
            self.folds.append(fold)
        return is_new


def mean_of_known(values: Sequence[float]) -> float:
    """The mean of the finite values; nan without any."""
    known = [value for value in values if math.isfinite(value)]
    return sum(known) / len(known) if known else math.nan


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """Those that saw every fold, the best first; then the others, by their mean so far."""
    sign = 1.0 if trials and trials[0].metric in LOWER_IS_BETTER else -1.0
    return sorted(trials, key=lambda trial: (trial.state != "done", _last_if_nan(sign * trial.mean), trial.key))


def _last_if_nan(value: float) -> float:
    return math.inf if math.isnan(value) else value


def trials_table(trials: Sequence[Trial]) -> pd.DataFrame:
    """One row for each trial, the best first: its state, scores and values."""
    folds = sorted({fold.fold for trial in trials for fold in trial.folds})
    rows = []
    for trial in ranked(trials):
        of_fold = {fold.fold: fold.scores[trial.metric] for fold in trial.folds}
        known = [value for value in trial.values if math.isfinite(value)]
        row: dict[str, Any] = {
            "trial": trial.key,
            "state": trial.state,
            trial.metric: trial.mean,
            "std": float(pd.Series(known).std(ddof=0)) if known else math.nan,
            "num_folds": len(trial.folds),
            "train_sec": round(trial.seconds, 2),
        }
        row |= {f"fold_{fold}": of_fold.get(fold, math.nan) for fold in folds}
        rows.append(row | trial.changes | {"reason": trial.reason})
    return pd.DataFrame(rows)


def sentence(error: BaseException) -> str:
    """What an error says, on one line."""
    return " ".join(str(error).split())
