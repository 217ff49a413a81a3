"""What `train` and `distill` leave in `models/<stream>/`.

`folds/<k>/` and `release/` (bundles), `oof.parquet`, `test.parquet` (logits), `curves.csv`, `history.json`,
`summary.json`.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kineflow.data.dataset import ClipItem
from kineflow.data.preprocessing import Preprocessing
from kineflow.data.probabilities import Labels, to_logits, to_probs
from kineflow.models.describe import describe_model
from kineflow.models.frame_features import BACKBONE_FILE, Embedder
from kineflow.stages import paths
from kineflow.stages.folds.dataset import RELEASE, Dataset
from kineflow.stages.folds.transfer import weights_key
from kineflow.stages.weights_manifest import read_weights
from kineflow.tables import LOGITS, read_table, write_table
from kineflow.training.bundle import AnyMember, Bundle, Member, write_bundle
from kineflow.training.job import Job

Results = Mapping[str, Mapping[str, Any]]  # of each training by its job's key: `read_result`
CURVE_COLUMNS = ("epoch", "train_loss", "train_loss_labels", "val_loss", "val_metric")


def write_outs(
    out: Path, name: str, dataset: Dataset, jobs: list[Job], release: Job | None, folders: Mapping[str, Path]
) -> None:
    """Write the folder afresh, from the result folder of each training by its job's key.

    Args:
        release: the refit; None where the release model is the folds' ensemble.
    """
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    every = [*jobs, *([release] if release else [])]
    results = {job.key: read_result(folders[job.key]) for job in every}
    oof, ensembled, curves = [], [], []
    for job in jobs:
        logits = read_table(folders[job.key] / "logits.parquet", LOGITS)
        in_val = logits["clip_id"].isin([item.clip_id for item in job.val])
        oof.append(logits[in_val])
        ensembled.append(logits[~in_val])
        for epoch in results[job.key]["curves"]:
            with_part = {"train_loss_labels": epoch["train_loss"], **epoch}  # all of it, where labels alone teach
            curves.append({"fold": job.fold, **{k: with_part[k] for k in CURVE_COLUMNS}})
        _bundle(out / "folds" / str(job.fold), name, dataset, [job], folders, results)
    write_table(out / "oof.parquet", LOGITS, pd.concat(oof, ignore_index=True))
    if release is not None:
        test = read_table(folders[release.key] / "logits.parquet", LOGITS)
    else:
        test = mean_logits(ensembled, jobs[0].labels)
    write_table(out / "test.parquet", LOGITS, test)
    pd.DataFrame(curves).to_csv(out / "curves.csv", index=False)
    embedder = Embedder.read(paths.EMBEDDINGS) if jobs[0].store.stream == "embedding" else None
    _bundle(out / "release", name, dataset, [release] if release else jobs, folders, results, embedder)
    summary = _summary(name, dataset, jobs, release, results)
    (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    write_history(out, {job.fold: results[job.key] for job in every})


def write_history(out: Path, results: Mapping[int, Mapping[str, Any]]) -> None:
    """`history.json`: of each training, by its fold, how its epochs went and what the machine was busy with."""
    kept = ("best_epoch", "seconds", "curves", "pretraining", "machine")
    rows = [{"fold": fold} | {name: result[name] for name in kept} for fold, result in results.items()]
    (out / "history.json").write_text(json.dumps(rows, indent=1) + "\n")


def _bundle(
    out: Path,
    name: str,
    dataset: Dataset,
    jobs: list[Job],
    folders: Mapping[str, Path],
    results: Results,
    embedder: Embedder | None = None,
) -> None:
    members = tuple(
        Member(
            stream=name,
            model=replace(job.model, weights=None),
            preprocessing=Preprocessing.from_json(results[job.key]["preprocessing"], where=folders[job.key]),
            precision=job.recipe.precision,
            weights=f"model_{index}.pt",
            embedder=embedder,
        )
        for index, job in enumerate(jobs)
    )
    items = [item for job in jobs for item in job.train]
    bundle = bundle_of(out, members, dataset, items, task=jobs[0].model.task, labels=jobs[0].labels)
    weights = {member.weights: folders[job.key] / "weights.pt" for member, job in zip(members, jobs, strict=True)}
    if embedder is not None:
        weights[members[0].backbone_weights] = paths.EMBEDDINGS / BACKBONE_FILE
    write_bundle(bundle, weights)


def bundle_of(
    out: Path, members: tuple[AnyMember, ...], dataset: Dataset, items: Sequence[ClipItem], *, task: str, labels: Labels
) -> Bundle:
    """The bundle of models that were trained on `items`."""
    videos = sorted({item.video_id for item in items})
    return Bundle(
        root=out,
        task=task,
        classes=dataset.classes,
        members=members,
        training_videos=tuple(dataset.sha256[video] for video in videos),
        training_groups=tuple(dataset.groups[video] for video in videos),
        labels=labels,
        window_stride_sec=dataset.window_stride_sec,
    )


def mean_logits(tables: list[pd.DataFrame], labels: Labels) -> pd.DataFrame:
    """The logits of the mean probability of the fold models; empty without test clips."""
    first = tables[0].reset_index(drop=True)
    classes = LOGITS.extra_columns([str(name) for name in first.columns])
    probs_NK = np.mean([to_probs(table[classes].to_numpy(), labels) for table in tables], axis=0)
    first[classes] = to_logits(probs_NK, labels)
    return first.assign(fold=RELEASE)


def _summary(name: str, dataset: Dataset, jobs: list[Job], release: Job | None, results: Results) -> dict[str, Any]:
    job = jobs[0]
    _, num_frames, height_px, width_px = job.input_CTHW
    model, loaded = job.model.load(seed=0)
    described = describe_model(model, num_frames=num_frames, height_px=height_px, width_px=width_px)
    return {
        "stream": name,
        "model": job.model.name,
        "classes": list(dataset.classes),
        "task": job.model.task,
        "labels": job.labels,
        "num_params": described.num_parameters,
        "macs": described.macs,
        "input_shape": list(job.input_CTHW),
        "precision": job.recipe.precision,
        "device": results[job.key]["device"],
        "weights": None if loaded is None else {"source": _source(name), **loaded.to_json()},
        "recipe": job.recipe.to_json(),
        "augment": asdict(job.augment),
        "objective": job.objective.key["kind"],
        "preprocessing": results[job.key]["preprocessing"],
        "release": {
            "form": "refit" if release else "fold_ensemble",
            "epochs": release.recipe.epochs if release else None,
        },
        "folds": [{"fold": job.fold, **_of_best_epoch(results[job.key])} for job in jobs],
    }


def _of_best_epoch(result: Mapping[str, Any]) -> dict[str, Any]:
    best = result["curves"][result["best_epoch"] - 1]
    return {name: result[name] for name in ("best_epoch", "seconds")} | {
        name: best[name] for name in ("val_loss", "val_metric")
    }


def _source(name: str) -> str:
    """What params say of the weights that a network started from."""
    return read_weights(paths.WEIGHTS)[weights_key(name)].source


def read_result(folder: Path) -> dict[str, Any]:
    """What a training tells of itself: curves, best epoch, seconds, preprocessing."""
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return result
