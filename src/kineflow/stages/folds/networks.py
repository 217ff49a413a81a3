"""What the stages `train` and `distill` share: train the folds and the release model of one network."""

from collections.abc import Callable
from pathlib import Path
from statistics import median_low
from typing import Any

from kineflow.params import Params, TrainParams
from kineflow.stages import paths
from kineflow.stages.folds.batch_size import with_found_batch_size
from kineflow.stages.folds.dataset import RELEASE, Dataset
from kineflow.stages.folds.jobs import release_job
from kineflow.stages.folds.outs import read_result, write_outs
from kineflow.stages.stage import StageReport
from kineflow.storage import is_s3, patience_sec
from kineflow.store import home, runs
from kineflow.training.folds import Resources, train_jobs
from kineflow.training.job import Job
from kineflow.training.run_storage import RunStorage


def train_network(
    params: Params,
    dataset: Dataset,
    jobs: list[Job],
    *,
    name: str,
    objective_of: Callable[[int], Any],
    report: StageReport,
) -> None:
    """Train folds and release model, and write `models/<name>/`."""
    train = params.train
    resources = resources_of(train)
    refit = params.release.form == "refit"
    beside = refit and train.select == "last"  # the release model needs no fold's best epoch then
    if train.batch_size == "auto":
        jobs = with_found_batch_size(jobs, train, resources, report, num_trainings=len(jobs) + beside)
    release: Job | None = None
    if beside:
        release = release_job(
            jobs[0], dataset, name=name, epochs=jobs[0].recipe.epochs, objective=objective_of(RELEASE)
        )
    together = [*jobs, release] if release else jobs
    folders, skipped = train_jobs(together, home(), resources, label=report.stage, say=report.note)
    if refit and release is None:
        epochs = median_low([read_result(folders[job.key])["best_epoch"] for job in jobs])
        release = release_job(jobs[0], dataset, name=name, epochs=epochs, objective=objective_of(RELEASE))
        more, skipped_too = train_jobs([release], home(), resources, label=report.stage, say=report.note)
        folders, skipped = folders | more, skipped + skipped_too
    report.items, report.skipped = len(folders), skipped
    write_outs(paths.MODELS / name, name, dataset, jobs, release, folders)


def resources_of(train: TrainParams) -> Resources:
    """What params and the environment give each training."""
    kept = runs()
    if kept is not None and not is_s3(kept):
        kept = str(Path(kept).absolute())  # workers of Ray Train have another current folder
    return Resources(
        threads=train.threads_per_fold,
        workers=train.workers_per_fold,
        max_failures=train.max_failures,
        cache_bytes=int(train.cache_gb * 1e9),
        run_storage=None if kept is None else RunStorage(kept.rstrip("/"), patience_sec()),
    )
