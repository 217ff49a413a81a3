"""Learning from what a teacher says, by hand."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from kineflow.data.dataset import Batch
from kineflow.data.decoded_cache import DecodedCache
from kineflow.data.mixing import Mixing
from kineflow.data.probabilities import Labels
from kineflow.distillation.taught import Taught, TaughtConfig
from kineflow.errors import DataError
from kineflow.models.classifier import Prediction
from kineflow.tables import LOGITS, write_table
from kineflow.training.objectives import Classification
from tests.jobs import make_job


def batch(targets: np.ndarray, positions: list[int]) -> Batch:
    none = np.zeros(0)
    return Batch(none, none, none, targets, np.array(positions), none)


def prediction(logits: list[list[float]]) -> Prediction:
    return Prediction(torch.tensor(logits), torch.zeros(len(logits), 1))


def test_exclusive_classes_by_hand() -> None:
    """Clips in another order than the table's, one drawn again; a logit of log 3 is a probability of 3/4."""
    teacher = torch.tensor([[0.5, 0.5], [0.9, 0.1]])
    objective = Taught(Classification("exclusive"), teacher, prob_weight=2.0)
    loss = objective(prediction([[math.log(3), 0.0], [0.0, 0.0]]), batch(np.array([0, 1]), [1, 2]), epoch=0)
    labels = (-math.log(0.75) - math.log(0.5)) / 2
    taught = (-0.9 * math.log(0.75) - 0.1 * math.log(0.25) - math.log(0.5)) / 2
    assert [float(loss.of_labels), float(loss.of_clips["teacher"])] == pytest.approx([labels, 2 * taught], abs=1e-6)


@pytest.mark.parametrize("labels", ["exclusive", "independent"])
def test_of_mixed_clips_the_teachers_say_is_mixed_alike(labels: Labels) -> None:
    objective = Taught(Classification(labels), torch.tensor([[0.9, 0.1], [0.2, 0.8]]), prob_weight=1.0)
    targets = np.array([0, 1]) if labels == "exclusive" else np.eye(2, dtype=np.float32)
    mixed = batch(targets, [0, 1])._replace(mixing=Mixing(share=0.25))
    answer = prediction([[1.0, 0.0], [0.0, 0.5]])
    mixture = torch.tensor([[0.375, 0.625], [0.725, 0.275]])  # a quarter of its own, the rest of the other's
    loss = {"exclusive": F.cross_entropy, "independent": F.binary_cross_entropy_with_logits}[labels]
    torch.testing.assert_close(objective(answer, mixed, epoch=0).of_clips["teacher"], loss(answer.logits, mixture))


def test_independent_classes_by_hand() -> None:
    objective = Taught(Classification("independent"), torch.tensor([[0.9, 0.5]]), prob_weight=0.5)
    loss = objective(prediction([[math.log(3), 0.0]]), batch(np.array([[1.0, 0.0]], np.float32), [0]), epoch=0)
    labels = (-math.log(0.75) - math.log(0.5)) / 2
    taught = (-0.9 * math.log(0.75) - 0.1 * math.log(0.25) - math.log(0.5)) / 2
    assert [float(loss.of_labels), float(loss.of_clips["teacher"])] == pytest.approx([labels, 0.5 * taught], abs=1e-6)


def test_the_teacher_of_the_same_fold_is_read_clip_by_clip(tmp_path: Path) -> None:
    job = make_job(tmp_path, epochs=1, fold=3)
    ids = [item.clip_id for item in job.train]
    rows = pd.DataFrame({"clip_id": ids[::-1] * 2, "fold": [3] * len(ids) + [1] * len(ids), "a": 0.0, "b": -9.0})
    rows.loc[0, "a"] = math.log(3)  # of the last clip in fold 3
    table = rows.assign(model="fisher.svm", video_id="v", frame=pd.array([None] * len(rows), "Int64"))
    write_table(tmp_path / "teacher.parquet", LOGITS, table[[name for name, _ in LOGITS.columns] + ["a", "b"]])
    config = TaughtConfig(tmp_path / "teacher.parquet", prob_weight=1.0, label_smoothing=0.0, focal_gamma=2.0)
    cache = DecodedCache(tmp_path / "cache", 0)
    objective = config.make(job, job.preprocessing, torch.device("cpu"), cache)
    assert isinstance(objective, Taught)
    assert objective.probs_NK[:, 0].tolist() == pytest.approx([0.5] * 7 + [0.75])
    assert isinstance(objective.classification, Classification) and objective.classification.focal_gamma == 2.0
    assert config.key["focal_gamma"] == 2.0
    assert config.key["teacher"] != TaughtConfig(Path(__file__), 1.0, 0.0).key["teacher"]
    with pytest.raises(DataError, match="says nothing of c0 in fold 0"):
        config.make(make_job(tmp_path, epochs=1, fold=0), job.preprocessing, torch.device("cpu"), cache)
