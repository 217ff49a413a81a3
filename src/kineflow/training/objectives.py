"""What the loop minimises. An objective sees the model's prediction and the batch; it has no weights of its own."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kineflow.data.dataset import Batch
from kineflow.data.probabilities import Labels
from kineflow.models.classifier import Prediction

SUREST = 1e-7  # of 1 - p in a focal loss: at 0 the slope of its root is infinite


class Loss(NamedTuple):
    """What is minimised: the sum of two means, of which a cut step weighs each by what it is a mean of.

    Args:
        of_labels: over the labels of the batch: classes of clips, or the frames and classes that are known.
        of_clips: over its clips, which needs no labels; by name, where there is anything of the kind.
    """

    of_labels: Tensor
    of_clips: Mapping[str, Tensor] = MappingProxyType({})

    def plus(self, of_clips: Mapping[str, Tensor]) -> "Loss":
        """With more means over clips."""
        return self._replace(of_clips={**self.of_clips, **of_clips})


class Objective(Protocol):
    """Loss of a batch.

    Args:
        labels: whether the classes exclude each other, and so what makes probabilities of the model's logits.
    """

    labels: Labels

    def __call__(self, prediction: Prediction, batch: Batch, *, epoch: int) -> Loss: ...


class Classification:
    """Cross-entropy over exclusive classes, or binary cross-entropy of each of independent ones.

    Unlabelled frames (task frame) do not count.

    Args:
        labels: whether the classes exclude each other.
        label_smoothing: of exclusive classes on task clip: moves this much of the target's probability to all classes.
        weights: of the targets, see `balanced_weights`; None counts each alike.
        focal_gamma: above 0, what the model is sure of already counts less (see `focal`).
    """

    def __init__(
        self,
        labels: Labels,
        label_smoothing: float = 0.0,
        weights: np.ndarray | None = None,
        focal_gamma: float = 0.0,
    ) -> None:
        self.labels = labels
        self.label_smoothing = label_smoothing
        self.focal_gamma = focal_gamma
        self.weights = None if weights is None else torch.as_tensor(weights, dtype=torch.float32)

    def __call__(self, prediction: Prediction, batch: Batch, *, epoch: int) -> Loss:
        """The mean loss over the labels of `batch`.

        Where clips are mixed, the loss of either target counts by its share. Without a focal factor these losses are
        linear in the target, so that is the loss of the mixed target, weights and smoothing included; unlabelled frames
        stay out of it.
        """
        targets = torch.as_tensor(batch.targets, device=prediction.logits.device)
        logits = prediction.logits.float()
        loss = self._mean_loss(logits, targets)
        if batch.mixing is None:
            return Loss(loss)
        share = batch.mixing.share
        return Loss(share * loss + (1 - share) * self._mean_loss(logits, targets.roll(1, dims=0)))

    def _mean_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        weights = None if self.weights is None else self.weights.to(logits.device)
        if self.labels == "independent":
            return masked_binary_cross_entropy(logits, targets, weights, self.focal_gamma)
        if logits.ndim == 3:
            return masked_cross_entropy(logits, targets, weights, self.focal_gamma)
        if weights is None and not self.focal_gamma:
            return F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)
        losses_B = F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing, reduction="none")
        if self.focal_gamma:
            of_class_B = logits.softmax(dim=-1).gather(1, targets[:, None])[:, 0]
            losses_B = focal(losses_B, of_class_B, self.focal_gamma)
        return (losses_B if weights is None else losses_B * weights[targets]).mean()


def focal(losses: Tensor, probs: Tensor, gamma: float) -> Tensor:
    """The losses times (1 - p)^gamma, p the probability of what is true.

    Source: Lin et al., Focal loss for dense object detection, ICCV 2017, equation 4.
    """
    return losses * (1 - probs).clamp(min=SUREST) ** gamma if gamma else losses


def masked_cross_entropy(
    logits_BTK: Tensor, targets_BTK: Tensor, weights_K: Tensor | None = None, focal_gamma: float = 0.0
) -> Tensor:
    """Mean cross-entropy over the labelled frames; zero if there is none.

    Args:
        logits_BTK: float32, before the softmax.
        targets_BTK: 1 for the class of a labelled frame, 0 for the others; nan for all of an unlabelled one.
        weights_K: of the frames of each class.
        focal_gamma: see `focal`.
    """
    labelled_BT = ~torch.isnan(targets_BTK).any(dim=-1)
    classes_N = targets_BTK[labelled_BT].argmax(dim=-1)
    losses_N = F.cross_entropy(logits_BTK[labelled_BT], classes_N, reduction="none")
    losses_N = focal(losses_N, (-losses_N).exp(), focal_gamma)
    if weights_K is not None:
        losses_N = losses_N * weights_K[classes_N]
    return losses_N.sum() / labelled_BT.sum().clamp(min=1)


def masked_binary_cross_entropy(
    logits: Tensor, targets: Tensor, weights_2K: Tensor | None = None, focal_gamma: float = 0.0
) -> Tensor:
    """Mean binary cross-entropy over the entries whose target is not nan; zero if there is none.

    Args:
        logits: float32 (..., K), before the sigmoid; of clips (B, K) or of frames (B, T, K).
        targets: of the same shape; 0, 1 or nan.
        weights_2K: of negative (row 0) and positive entries (row 1) of each class.
        focal_gamma: see `focal`.
    """
    labelled = ~torch.isnan(targets)
    targets = torch.nan_to_num(targets)
    losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    losses = focal(losses, (-losses).exp(), focal_gamma)
    if weights_2K is not None:
        losses = losses * torch.where(targets > 0.5, weights_2K[1], weights_2K[0])
    return (losses * labelled).sum() / labelled.sum().clamp(min=1)


def balanced_weights(targets: Sequence[int | np.ndarray | None], *, labels: Labels, num_classes: int) -> np.ndarray:
    """Weights under which every exclusive class, or both sides of every independent one, weigh alike in the loss.

    Args:
        targets: of the training clips; a class index each, or an array (..., K) of 0, 1 or nan.
        labels: whether the classes exclude each other.

    Returns:
        float64, 1 for what never occurs. Exclusive: (K,), the labelled clips or frames over K times those of the
        class. Independent: (2, K), the labelled ones over twice the negative (row 0) or positive ones (row 1).

    Source: equation 4.1 of the mouse thesis (LSTM and TCN on frames), there for one binary behaviour.
    """
    arrays = [np.atleast_2d(target) for target in targets if isinstance(target, np.ndarray)]
    rows_NK = np.concatenate(arrays) if arrays else np.eye(num_classes)[np.array(targets, np.int64)]
    counts_2K = np.stack([(rows_NK == 0).sum(axis=0), (rows_NK == 1).sum(axis=0)]).astype(np.float64)
    counts, totals = counts_2K, counts_2K.sum(axis=0)
    if labels == "exclusive":
        counts, totals = counts_2K[1], counts_2K[1].sum()
    sides = num_classes if labels == "exclusive" else 2
    return np.asarray(np.where(counts > 0, totals / (sides * np.maximum(counts, 1)), 1.0))
