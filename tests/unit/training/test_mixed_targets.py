"""The loss of mixed clips is the loss of the mixed target: against PyTorch's soft targets, and slow formulas."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kineflow.data.dataset import Batch
from kineflow.data.mixing import Mixing
from kineflow.models.classifier import Prediction
from kineflow.training.objectives import Classification

SHARE = 0.7
NA = math.nan


def loss(objective: Classification, logits: torch.Tensor, targets: np.ndarray) -> float:
    num = len(targets)
    pixels, ones = np.zeros((num, 1, 1, 1, 1), np.uint8), np.ones((num, 1), np.float32)
    batch = Batch(pixels, ones, ones, targets, np.arange(num), np.ones(num), mixing=Mixing(SHARE))
    return float(objective(Prediction(logits, logits), batch, epoch=0).of_labels)


def random_logits(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def soft(targets: np.ndarray) -> np.ndarray:
    return SHARE * targets + (1 - SHARE) * np.roll(targets, 1, axis=0)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_exclusive_classes_are_soft_targets_of_pytorch(label_smoothing: float) -> None:
    logits, targets = random_logits(5, 4), np.array([0, 3, 1, 1, 2])
    wanted = torch.tensor(soft(np.eye(4)[targets]))
    expected = F.cross_entropy(logits.double(), wanted, label_smoothing=label_smoothing)
    assert loss(Classification("exclusive", label_smoothing), logits, targets) == pytest.approx(float(expected))


def test_every_class_keeps_its_weight() -> None:
    logits, targets, weights = random_logits(5, 4), np.array([0, 3, 1, 1, 2]), np.array([0.5, 2.0, 1.0, 3.0])
    log_probs = logits.double().log_softmax(1).numpy()
    expected = -(soft(np.eye(4)[targets]) * weights * log_probs).sum(axis=1).mean()
    assert loss(Classification("exclusive", 0.0, weights), logits, targets) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("shape", [(4, 3), (4, 6, 3)])
def test_independent_classes_keep_the_weights_of_both_sides(shape: tuple[int, ...]) -> None:
    logits = random_logits(*shape)
    targets = np.random.default_rng(0).integers(0, 2, shape).astype(np.float32)
    weights_2K = np.array([[0.6, 1.0, 2.0], [3.0, 0.5, 1.5]])
    probs = 1 / (1 + np.exp(-logits.double().numpy()))
    mixed = soft(targets)
    expected = -(mixed * weights_2K[1] * np.log(probs) + (1 - mixed) * weights_2K[0] * np.log(1 - probs)).mean()
    assert loss(Classification("independent", 0.0, weights_2K), logits, targets) == pytest.approx(expected, rel=1e-5)


def test_unlabelled_frames_stay_out() -> None:
    targets = np.array([[[1, 0], [0, 1], [NA, NA]], [[0, 1], [NA, NA], [NA, NA]]], np.float32)
    logits = random_logits(2, 3, 2)
    log_probs = logits.double().log_softmax(2).numpy()
    own = -(log_probs[0, 0, 0] + log_probs[0, 1, 1] + log_probs[1, 0, 1]) / 3
    other = -(log_probs[0, 0, 1] + log_probs[1, 0, 0] + log_probs[1, 1, 1]) / 3
    expected = SHARE * own + (1 - SHARE) * other
    assert loss(Classification("exclusive"), logits, targets) == pytest.approx(expected, rel=1e-5)
