"""The stream fv in the stage `train`: cells of every video, then folds and release model, and their outs.

Outs as those of a network (see `fold_outs`); `curves.csv` has no rows, and `teacher.parquet` holds, by fold, what
machines of inner folds say of the training clips: what a student may learn from.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from kineflow.data.clips import num_window_frames
from kineflow.data.readers import StreamStore
from kineflow.descriptors.cells import CellRule, Scale, cells_key, video_cells
from kineflow.descriptors.inputs import FisherInput
from kineflow.descriptors.model import FisherRecipe
from kineflow.parallel.tasks import map_tasks
from kineflow.params import Params, as_json
from kineflow.progress.fold_table import FoldTable, Training
from kineflow.stages import paths
from kineflow.stages.folds.dataset import RELEASE, Dataset
from kineflow.stages.folds.fisher_job import MODEL_NAME, WEIGHTS, FisherJob, run_fisher_job
from kineflow.stages.folds.jobs import flow_of
from kineflow.stages.folds.outs import CURVE_COLUMNS, bundle_of, mean_logits, write_history
from kineflow.stages.stage import StageReport
from kineflow.store import ResultStore, home
from kineflow.tables import LOGITS, read_table, write_table
from kineflow.training.bundle import FisherMember, write_bundle
from kineflow.video.result_index import read_index

NAME = "fv"


@dataclass(frozen=True)
class CellTask:
    """A video whose cells are to be computed, for a worker that shares our disk (absolute paths)."""

    frames: Path
    flow: Path
    key: str
    rule: CellRule
    store_root: Path


def train_fisher(params: Params, dataset: Dataset, report: StageReport) -> None:
    """Fit folds and release model where they are not there yet, and write `models/fv/`.

    Raises:
        DataError: the training clips have too few descriptors that move, or a video has no flow.
    """
    jobs = fisher_jobs(params, dataset, report)
    report.items, report.skipped = len(jobs), fit_jobs(jobs, report)
    if not all(job.result()["calibrated"] for job in jobs):
        report.note("a fold trains on one group only, so its probabilities are margins that nothing was calibrated on")
    _write_outs(paths.MODELS / NAME, dataset, jobs)


def fisher_jobs(params: Params, dataset: Dataset, report: StageReport) -> list[FisherJob]:
    """One job for each fold, and with `release.form: refit` one for the release model; what they read is there then.

    Raises:
        DataError: a video has no flow.
    """
    described, recipe = _described(params), _recipe(params)
    cells = _compute_cells(dataset, described.cells, report)
    return _plan(params, dataset, described, recipe, cells)


def fit_jobs(jobs: Sequence[FisherJob], report: StageReport) -> int:
    """Fit what is not there yet, and show how far it is; the number of those that were there.

    Raises:
        DataError: the training clips have too few descriptors that move.
    """
    todo = [job for job in jobs if job.key not in job.results]
    if not todo:
        return len(jobs)
    for job in todo:
        job.news.unlink(missing_ok=True)  # of a run that was killed
    trainings = [Training(job.key, job.name, epochs=1, num_clips=job.num_clips) for job in jobs]
    stored = {job.key for job in jobs} - {job.key for job in todo}
    with FoldTable(report.stage, trainings, todo[0].news_root, metric=None, stored=stored) as table:
        for index, _ in map_tasks(run_fisher_job, todo, label=report.stage, shown=False):
            job, result = todo[index], todo[index].result()
            table.done(job.key)
            job.news.unlink(missing_ok=True)
            report.note(f"{job.name}: {result['num_examples']} examples, {result['seconds']:.1f} s")
    return len(jobs) - len(todo)


def _described(params: Params) -> FisherInput:
    fv, window_sec, fps = params.streams.fv, params.clips.window_sec, params.frames.fps
    is_frame = params.task == "frame"
    assert not is_frame or (window_sec is not None and fv.window_sec is not None)  # kineflow.params holds that
    return FisherInput(
        task=params.task,
        fps=fps,
        frames=as_json(params.frames),
        flow=flow_of(StreamStore.of("flow", paths.FLOW), params),
        cells=CellRule(
            fv.short_side_px, tuple(Scale(scale.cell_px, scale.cell_flows) for scale in fv.scales), fv.track
        ),
        flip=params.train.augment.flip,
        num_frames=num_window_frames(window_sec, fps=fps) if is_frame and window_sec else 1,
        # a window of one frame has no flow
        window_frames=max(2, num_window_frames(fv.window_sec, fps=fps)) if is_frame and fv.window_sec else None,
    )


def _recipe(params: Params) -> FisherRecipe:
    fv = params.streams.fv
    return FisherRecipe(
        channels=tuple(fv.channels),
        num_components=fv.num_components,
        num_gaussians=fv.num_gaussians,
        svm_c=fv.svm_c,
        flip=params.train.augment.flip,
        class_weights=params.train.class_weights,
        seed=params.seed,
    )


def _compute_cells(dataset: Dataset, rule: CellRule, report: StageReport) -> dict[str, str]:
    """The key of every video's cells, all of which are in the store afterwards."""
    frames = {row.video_id: row for row in read_index(paths.FRAMES)}
    flow = {row.video_id: row for row in read_index(paths.FLOW)}
    videos = sorted({item.video_id for item in dataset.items.values()})
    keys = {video: cells_key(frames[video].key, flow[video].key, rule) for video in videos}
    store = ResultStore(home() / "store" / "cells")
    store.sweep()
    todo = list({keys[video]: video for video in videos if keys[video] not in store}.values())
    tasks = [
        CellTask(
            (paths.FRAMES / f"{video}.zip").absolute(),
            (paths.FLOW / f"{video}.zip").absolute(),
            keys[video],
            rule,
            store.root.absolute(),
        )
        for video in todo
    ]
    weights = [float(flow[video].num_frames) for video in todo]
    for _ in map_tasks(compute_cells, tasks, label=f"{report.stage} cells", weights=weights):
        pass
    report.note(f"cells of {len(videos)} videos, {len(videos) - len(todo)} already there")
    return keys


def compute_cells(task: CellTask) -> None:
    """Put the cells of one video into the store."""
    video_cells(task.frames, task.flow, task.key, task.rule, ResultStore(task.store_root))


def _plan(
    params: Params, dataset: Dataset, described: FisherInput, recipe: FisherRecipe, cells: Mapping[str, str]
) -> list[FisherJob]:
    """One job for each fold, and with `release.form: refit` one for the release model, which comes last."""
    root = home().resolve()
    first = FisherJob(
        name="",
        fold=RELEASE,
        classes=dataset.classes,
        labels=params.labels,
        train=[],
        val=[],
        test=dataset.clips(RELEASE, "test"),
        groups=dataset.groups,
        cells=cells,
        described=described,
        recipe=recipe,
        cells_root=root / "store" / "cells",
        results_root=root / "store" / "fisher",
        news_root=root / "progress",
    )
    is_refit = params.release.form == "refit"
    jobs = [
        replace(
            first,
            name=f"{NAME} fold {fold}",
            fold=fold,
            train=dataset.clips(fold, "train"),
            val=dataset.clips(fold, "val"),
            test=[] if is_refit else first.test,
            recipe=replace(recipe, seed=recipe.seed * 1000 + fold),
        )
        for fold in dataset.folds
    ]
    if is_refit:
        seed = recipe.seed * 1000 + 500
        jobs.append(
            replace(first, name=f"{NAME} release", train=dataset.development, recipe=replace(recipe, seed=seed))
        )
    return jobs


def _write_outs(out: Path, dataset: Dataset, jobs: Sequence[FisherJob]) -> None:
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    folds = [job for job in jobs if job.fold != RELEASE]
    release = [job for job in jobs if job.fold == RELEASE]
    oof, ensembled = [], []
    for job in folds:
        logits = read_table(job.folder / "logits.parquet", LOGITS)
        in_val = logits["clip_id"].isin([item.clip_id for item in job.val])
        oof.append(logits[in_val])
        ensembled.append(logits[~in_val])
        _bundle(out / "folds" / str(job.fold), dataset, [job])
    write_table(out / "oof.parquet", LOGITS, pd.concat(oof, ignore_index=True))
    test = (
        read_table(release[0].folder / "logits.parquet", LOGITS) if release else mean_logits(ensembled, jobs[0].labels)
    )
    write_table(out / "test.parquet", LOGITS, test)
    taught = [job.folder / "inner.parquet" for job in jobs if (job.folder / "inner.parquet").is_file()]
    if taught:
        tables = [read_table(path, LOGITS) for path in taught]
        write_table(out / "teacher.parquet", LOGITS, pd.concat(tables, ignore_index=True))
    pd.DataFrame(columns=["fold", *CURVE_COLUMNS]).to_csv(out / "curves.csv", index=False)
    _bundle(out / "release", dataset, release or folds)
    (out / "summary.json").write_text(json.dumps(_summary(dataset, folds, release), indent=1) + "\n")
    without_epochs: dict[str, Any] = {"best_epoch": None, "curves": [], "pretraining": []}
    write_history(out, {job.fold: {**without_epochs, **job.result()} for job in jobs})


def _bundle(out: Path, dataset: Dataset, jobs: Sequence[FisherJob]) -> None:
    members = tuple(FisherMember(NAME, job.described, f"model_{index}.safetensors") for index, job in enumerate(jobs))
    items = [item for job in jobs for item in job.train]
    bundle = bundle_of(out, members, dataset, items, task=jobs[0].described.task, labels=jobs[0].labels)
    write_bundle(bundle, {m.weights: job.folder / WEIGHTS for m, job in zip(members, jobs, strict=True)})


def _summary(dataset: Dataset, folds: Sequence[FisherJob], release: Sequence[FisherJob]) -> dict[str, Any]:
    job, result = folds[0], folds[0].result()
    results = [(fold.fold, {k: v for k, v in fold.result().items() if k != "machine"}) for fold in folds]
    return {
        "stream": NAME,
        "model": MODEL_NAME,
        "classes": list(dataset.classes),
        "task": job.described.task,
        "labels": job.labels,
        "num_params": result["num_params"],
        "macs": result["macs"],
        "precision": "fp32",
        "weights": None,
        "device": "cpu",
        "recipe": asdict(job.recipe),
        "preprocessing": job.described.to_json(),
        "release": {"form": "refit" if release else "fold_ensemble", "epochs": None},
        "folds": [{"fold": fold, "best_epoch": None, **values} for fold, values in results],
    }
