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
from kineflow.params import NetworkName, Params
from kineflow.stages.changed_params import with_changes
from kineflow.stages.fold_dataset import Dataset, load_dataset
from kineflow.stages.fold_jobs import stream_jobs
from kineflow.stages.scored_rows import validation_rows
from kineflow.stages.stage import StageReport
from kineflow.training.job import Job


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
    stream: NetworkName
    rows: Mapping[int, Examples]

    def jobs(self, changes: Mapping[str, Any]) -> list[Job]:
        """One training for each fold; none of them ever sees a test clip.

        Raises:
            ParamsError: the changes do not go together.
        """
        where = ", ".join(f"{key}: {value}" for key, value in changes.items())
        changed = with_changes(self.params, changes, where=where)
        refuse_found_batches(changed)
        find_model(changed.streams[self.stream].model)  # refused now rather than in its own process
        jobs = stream_jobs(changed, self.dataset, self.stream, SilentReport("search"))
        return [replace(job, test=[]) for job in jobs]

    def predictions(self, job: Job, folder: Path) -> Predictions:
        """What the model of a finished training says of its fold's validation rows."""
        return read_predictions(folder / "logits.parquet", job.name, self.rows[job.fold])

    def score(self, job: Job, folder: Path) -> FoldScores:
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
            best_epoch=result["best_epoch"],
            curves=tuple({k: epoch[k] for k in ("train_loss", "val_loss", "val_metric")} for epoch in result["curves"]),
            machine=tuple(result["machine"]),
        )


def refuse_found_batches(params: Params) -> None:
    """Let pass what is trained by one protocol.

    Raises:
        ParamsError: each model would be trained in batches of a size of its own.
    """
    if params.train.batch_size == "auto":
        text = "train.batch_size: auto would give each model a size of its own, and scores that do not compare"
        raise ParamsError(f"{text}; write a number, or let the search try some")


def cross_validation(params: Params, stream: NetworkName) -> CrossValidation:
    """Read the data set of the workspace for trainings of `stream`.

    Raises:
        DataError: the tables are not there; build them with `dvc repro validate_dataset`.
    """
    dataset = load_dataset(params)
    return CrossValidation(params, dataset, stream, validation_rows(params, dataset.classes))
