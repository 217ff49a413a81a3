"""What the loop minimises. An objective sees the model's prediction and the batch; it has no weights of its own."""

from typing import Protocol

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
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        self.label_smoothing = label_smoothing

    def __call__(self, prediction: Prediction, batch: Batch, *, epoch: int) -> Tensor:
        """The mean loss of `batch`."""
        targets = torch.as_tensor(batch.targets, device=prediction.logits.device)
        if prediction.logits.ndim == 2:
            return F.cross_entropy(prediction.logits.float(), targets, label_smoothing=self.label_smoothing)
        return masked_binary_cross_entropy(prediction.logits.float(), targets)


def masked_binary_cross_entropy(logits_BTK: Tensor, targets_BTK: Tensor) -> Tensor:
    """Mean binary cross-entropy over the entries whose target is not nan; zero if there is none.

    Args:
        logits_BTK: float32, before the sigmoid.
        targets_BTK: 0, 1 or nan.
    """
    labelled = ~torch.isnan(targets_BTK)
    losses = F.binary_cross_entropy_with_logits(logits_BTK, torch.nan_to_num(targets_BTK), reduction="none")
    return (losses * labelled).sum() / labelled.sum().clamp(min=1)
