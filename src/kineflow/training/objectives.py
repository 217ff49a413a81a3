"""What the loop minimises. An objective sees the model's prediction and the batch; it has no weights of its own."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kineflow.data.dataset import Batch
from kineflow.models.classifier import Prediction


class Objective(Protocol):
    """Mean loss of a batch."""

    def __call__(self, prediction: Prediction, batch: Batch, *, epoch: int) -> Tensor: ...


class Classification:
    """Cross-entropy on task clip; binary cross-entropy over labelled frames and behaviours on task frame.

    Args:
        label_smoothing: on task clip, moves this much of the target's probability to all classes.
        weights: of the targets, see `balanced_weights`; None counts each alike.
    """

    def __init__(self, label_smoothing: float = 0.0, weights: np.ndarray | None = None) -> None:
        self.label_smoothing = label_smoothing
        self.weights = None if weights is None else torch.as_tensor(weights, dtype=torch.float32)

    def __call__(self, prediction: Prediction, batch: Batch, *, epoch: int) -> Tensor:
        """The mean loss of `batch`."""
        targets = torch.as_tensor(batch.targets, device=prediction.logits.device)
        logits = prediction.logits.float()
        weights = None if self.weights is None else self.weights.to(logits.device)
        if logits.ndim == 3:
            return masked_binary_cross_entropy(logits, targets, weights)
        if weights is None:
            return F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)
        losses = F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing, reduction="none")
        return (losses * weights[targets]).mean()


def masked_binary_cross_entropy(logits_BTK: Tensor, targets_BTK: Tensor, weights_2K: Tensor | None = None) -> Tensor:
    """Mean binary cross-entropy over the entries whose target is not nan; zero if there is none.

    Args:
        logits_BTK: float32, before the sigmoid.
        targets_BTK: 0, 1 or nan.
        weights_2K: of negative (row 0) and positive entries (row 1) of each behaviour.
    """
    labelled = ~torch.isnan(targets_BTK)
    targets = torch.nan_to_num(targets_BTK)
    losses = F.binary_cross_entropy_with_logits(logits_BTK, targets, reduction="none")
    if weights_2K is not None:
        losses = losses * torch.where(targets > 0.5, weights_2K[1], weights_2K[0])
    return (losses * labelled).sum() / labelled.sum().clamp(min=1)


def balanced_weights(targets: Sequence[int | np.ndarray | None], *, num_classes: int) -> np.ndarray:
    """Weights under which every class, or both sides of every behaviour, weigh alike in the loss.

    Args:
        targets: of the training clips; a class index each, or (T, K) of 0, 1 or nan.

    Returns:
        float64. Task clip: (K,), samples / (K * samples of the class). Task frame: (2, K), labelled frames over twice
        the negative frames (row 0) or positive frames (row 1). 1 for what never occurs.

    Source: equation 4.1 of the mouse thesis (LSTM and TCN on frames), there for one binary behaviour.
    """
    if any(isinstance(target, np.ndarray) for target in targets):
        frames_NK = np.concatenate([target for target in targets if isinstance(target, np.ndarray)])
        counts = np.stack([(frames_NK == 0).sum(axis=0), (frames_NK == 1).sum(axis=0)]).astype(np.float64)
        totals = counts.sum(axis=0)
    else:
        counts = np.bincount(np.array(targets, np.int64), minlength=num_classes).astype(np.float64)
        totals = counts.sum()
    sides = 2 if counts.ndim == 2 else num_classes
    return np.asarray(np.where(counts > 0, totals / (sides * np.maximum(counts, 1)), 1.0))
