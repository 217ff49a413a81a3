"""A network of one layer of LSTM learns exactly one class of every frame, and is scored as its logits say."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from kineflow.data.dataset import ClipItem
from kineflow.tables import LOGITS, read_table
from kineflow.training.folds import Resources, train_jobs
from kineflow.training.job import Job, ObjectiveConfig
from tests.jobs import make_job


def exclusive_job(root: Path) -> Job:
    """The behaviours of `make_job` as three classes, the second one where both hold; a fifth is unlabelled."""
    job = make_job(root, epochs=40)
    random = np.random.default_rng(0)

    def as_one_class(item: ClipItem) -> ClipItem:
        both_TK = np.asarray(item.target) > 0
        class_T = np.where(both_TK[:, 1], 2, both_TK[:, 0])
        target_TK = np.eye(3, dtype=np.float32)[class_T]
        target_TK[random.random(len(target_TK)) < 0.2] = np.nan
        return replace(item, target=target_TK)

    return replace(
        job,
        model=replace(job.model, num_classes=3),
        classes=("background", "a", "b"),
        labels="exclusive",
        train=[as_one_class(item) for item in job.train],
        val=[as_one_class(item) for item in job.val],
        objective=ObjectiveConfig(0.0, "balanced"),
        recipe=replace(job.recipe, optimizer="adamw", lr=0.03, batch_size=8),
    )


def test_one_class_of_every_frame_is_learned_and_kept_as_logits(tmp_path: Path) -> None:
    job = exclusive_job(tmp_path)
    resources = Resources(threads=1, workers=1, max_failures=0, cache_bytes=0)
    folders, _ = train_jobs([job], tmp_path / "home", resources, label="train", say=lambda line: None)
    result = json.loads((folders[job.key] / "result.json").read_text())
    first, last = result["curves"][0], result["curves"][-1]
    assert last["train_loss"] < 0.5 * first["train_loss"]
    logits = read_table(folders[job.key] / "logits.parquet", LOGITS)
    said_N = logits[list(job.classes)].to_numpy().argmax(axis=1)
    truth_NK = np.concatenate([np.asarray(item.target) for item in job.val])
    labelled_N = np.isfinite(truth_NK).all(axis=1)
    accuracy = float((said_N == np.nan_to_num(truth_NK).argmax(axis=1))[labelled_N].mean())
    assert accuracy == last["val_metric"]
    most_frequent = truth_NK[labelled_N].mean(axis=0).max()
    assert accuracy > most_frequent + 0.15
    assert job.key != replace(job, labels="independent").key
