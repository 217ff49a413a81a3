"""Cross-validations of one stream with changed params, all on the folds of the workspace; the test set stays shut."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kineflow.errors import ParamsError
from kineflow.evaluation.metrics import class_table, scores
from kineflow.evaluation.predictions import Examples, Predictions, read_predictions
from kineflow.experiments.trials import FoldScores
from kineflow.models.registry import find_model
from kineflow.params import Params, StreamName
from kineflow.stages.folds.dataset import RELEASE, Dataset, load_dataset
from kineflow.stages.folds.fisher import fisher_jobs
from kineflow.stages.folds.fisher_job import FisherJob
from kineflow.stages.folds.jobs import stream_jobs
from kineflow.stages.scored_rows import validation_rows
from kineflow.stages.stage import StageReport
from kineflow.studies.changed_params import with_changes
from kineflow.training.job import Job

SHOWN_CURVES = ("train_loss", "val_loss", "val_metric")  # and the parts of the first


class SilentReport(StageReport):
    """Keeps what a plan notes and prints nothing: there is one for every trial."""

    def note(self, text: str) -> None:
        self.notes.append(text)


@dataclass(frozen=True)
class CrossValidation:
    """The trainings of one stream on the folds of the workspace; picklable, for other processes in the same folder.

    Args:
        rows: the validation rows of each fold.
    """

    params: Params
    dataset: Dataset
    stream: StreamName
    rows: Mapping[int, Examples]

    def jobs(self, changes: Mapping[str, Any]) -> list[Job]:
        """One training of a network for each fold; none of them ever sees a test clip.

        Raises:
            ParamsError: the changes do not go together.
        """
        assert self.stream != "fv"  # which has `fisher_jobs`
        changed = self._changed(changes)
        refuse_found_batches(changed)
        find_model(changed.streams[self.stream].model)  # refused now rather than in its own process
        jobs = stream_jobs(changed, self.dataset, self.stream, SilentReport("search"))
        return [replace(job, test=[]) for job in jobs]

    def fisher_jobs(self, changes: Mapping[str, Any]) -> list[FisherJob]:
        """The same of the stream fv; the cells of every video are computed, where they are not there yet.

        Raises:
            ParamsError: the changes do not go together.
        """
        jobs = fisher_jobs(self._changed(changes), self.dataset, SilentReport("compare"))
        return [replace(job, test=[]) for job in jobs if job.fold != RELEASE]

    def _changed(self, changes: Mapping[str, Any]) -> Params:
        return with_changes(self.params, changes, where=", ".join(f"{key}: {value}" for key, value in changes.items()))

    def predictions(self, job: Job | FisherJob, folder: Path) -> Predictions:
        """What the model of a finished training says of its fold's validation rows."""
        return read_predictions(folder / "logits.parquet", job.name, self.rows[job.fold])

    def score(self, job: Job | FisherJob, folder: Path) -> FoldScores:
        """Every metric of a finished training on its fold's validation rows."""
        predicted = self.predictions(job, folder)
        truth = predicted.examples.truth
        result = json.loads((folder / "result.json").read_text())
        return FoldScores(
            fold=job.fold,
            job_key=folder.name,
            scores=scores(predicted.probs_NK, truth, task=self.params.task),
            classes=tuple(class_table(predicted.probs_NK, truth, job.classes)),
            seconds=result["seconds"],
            best_epoch=result.get("best_epoch"),
            curves=tuple(_shown(epoch) for epoch in result.get("curves", ())),
            machine=tuple(result["machine"]),
        )


def _shown(epoch: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in epoch.items() if name.startswith(SHOWN_CURVES)}


def refuse_found_batches(params: Params) -> None:
    """Let pass what is trained by one protocol.

    Raises:
        ParamsError: each model would be trained in batches of a size of its own.
    """
    if params.train.batch_size == "auto":
        text = "train.batch_size: auto would give each model a size of its own, and scores that do not compare"
        raise ParamsError(f"{text}; write a number, or let the search try some")


def cross_validation(params: Params, stream: StreamName) -> CrossValidation:
    """Read the data set of the workspace for trainings of `stream`.

    Raises:
        DataError: the tables are not there; build them with `dvc repro validate_dataset`.
    """
    dataset = load_dataset(params)
    return CrossValidation(params, dataset, stream, validation_rows(params, dataset.classes))
