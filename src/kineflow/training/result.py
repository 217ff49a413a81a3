"""What a training leaves: a folder of weights, logits and a summary, kept under the key of its job."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from kineflow import atomic
from kineflow.data.dataset import ClipDataset, ClipItem
from kineflow.data.probabilities import Labels, to_logits
from kineflow.store import ResultStore, is_not_empty
from kineflow.tables import LOGITS, write_table
from kineflow.training.checkpoint import save_tensors
from kineflow.training.job import Job
from kineflow.training.loop import FitResult
from kineflow.training.scoring import predict_probs
from kineflow.training.state import EpochResult

RESULT_FILES = ("weights.pt", "logits.parquet", "result.json")


def result_store(home: Path) -> ResultStore:
    """Where the results of jobs are kept, by their keys."""
    return ResultStore(home / "store" / "train", is_whole=_is_result)


def sweep_home(home: Path) -> None:
    """Delete what killed trainings left half-written under `home`, and can no longer be theirs."""
    for folder in (home / "checkpoints", home / "progress"):
        atomic.sweep(folder)
    result_store(home).sweep(older_than_sec=atomic.DAY_SEC)  # nothing is written while the model is scored


def forget_checkpoints(checkpoints: Path, key: str) -> None:
    """Delete what a training that is done would have gone on from, with what its killed processes left of it."""
    for name in (f"{key}.pt", f"{key}.pretrain.pt"):
        (checkpoints / name).unlink(missing_ok=True)
    atomic.sweep(checkpoints, name=key, older_than_sec=0.0)


def _is_result(folder: Path) -> bool:
    return all(is_not_empty(folder / name) for name in RESULT_FILES)


def logits_table(
    items: Sequence[ClipItem],
    probs: Sequence[np.ndarray],
    classes: Sequence[str],
    *,
    model: str,
    fold: int,
    task: str,
    labels: Labels,
) -> pd.DataFrame:
    """Rows of the logits table: one for each clip (task clip), or for each frame of each clip (task frame)."""
    frames = []
    for item, clip_probs in zip(items, probs, strict=True):
        rows = to_logits(np.atleast_2d(clip_probs), labels)
        table = pd.DataFrame(rows, columns=list(classes))
        table.insert(0, "frame", np.arange(item.start, item.start + len(rows)) if task == "frame" else None)
        table.insert(0, "video_id", item.video_id)
        table.insert(0, "clip_id", item.clip_id)
        frames.append(table)
    columns = [name for name, _ in LOGITS.columns] + list(classes)
    logits = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)
    logits["model"], logits["fold"] = model, fold
    return logits[columns].astype({"fold": "int64", "frame": "Int64", **dict.fromkeys(classes, "float32")})


def write_result(
    folder: Path,
    job: Job,
    model: nn.Module,
    fitted: FitResult,
    pretraining: Sequence[EpochResult],
    scored: ClipDataset,
    device: torch.device,
    *,
    machine: Sequence[Mapping[str, float]],
) -> None:
    """Score the validation and test clips and write the files of a result.

    Args:
        folder: to make.
        model: as it was trained. fitted: its weights and how its epochs went; pretraining: those before.
        scored: the validation clips, then those of the test.
        machine: samples of how busy it was.
    """
    folder.mkdir()
    recipe = job.recipe
    probs = predict_probs(
        model, scored, labels=job.labels, batch_size=recipe.batch_size, device=device, precision=recipe.precision
    )
    logits = logits_table(
        scored.items,
        probs,
        job.classes,
        model=job.model.name,
        fold=job.fold,
        task=job.model.task,
        labels=job.labels,
    )
    write_table(folder / "logits.parquet", LOGITS, logits)
    save_tensors(folder / "weights.pt", fitted.state)
    seconds = sum(epoch.seconds for epoch in (*pretraining, *fitted.curves))  # also those before a kill
    result = {
        "fold": job.fold,
        "best_epoch": fitted.best_epoch,
        "seconds": round(seconds, 2),
        "device": device.type,
        "curves": [epoch.to_json() for epoch in fitted.curves],
        "pretraining": [{"epoch": epoch.epoch, "train_loss": epoch.train_loss} for epoch in pretraining],
        "machine": machine,
        "preprocessing": scored.preprocessing.to_json(),
    }
    (folder / "result.json").write_text(json.dumps(result, indent=1) + "\n")
