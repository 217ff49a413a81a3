"""Probabilities of a model over a data set: the one way that training, evaluation and prediction ask a model."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from kineflow.data.dataset import Batch, ClipDataset, collate
from kineflow.data.preprocessing import Preprocessing
from kineflow.training.inputs import model_input
from kineflow.training.precision import autocast
from kineflow.training.recipe import Precision


def predict_probs(
    model: nn.Module, dataset: ClipDataset, *, batch_size: int, device: torch.device, precision: Precision
) -> list[np.ndarray]:
    """Probabilities of every clip, averaged over its test-time views.

    Returns:
        For each clip in order: float64 (K,) on task clip, (T, K) on task frame (one binary for each behaviour).
    """
    was_training = model.training
    model.eval()
    probs: list[np.ndarray] = [np.empty(0)] * len(dataset)
    for positions in _equal_batches(dataset, batch_size):
        samples = [dataset.fixed_views(position) for position in positions]
        batches = [collate(of_view) for of_view in zip(*samples, strict=True)]
        views = [_view_probs(model, batch, dataset.preprocessing, device, precision) for batch in batches]
        for position, *of_clip in zip(positions, *views, strict=True):
            probs[position] = np.mean(of_clip, axis=0)
    model.train(was_training)
    return probs


def _equal_batches(dataset: ClipDataset, batch_size: int) -> Iterator[list[int]]:
    """Batches without padding, which temporal kernels would see: a window scores the same whatever is beside it."""
    by_length: dict[int, list[int]] = {}
    for position, item in enumerate(dataset.items):
        length = item.stop - item.start if dataset.preprocessing.task == "frame" else 0
        by_length.setdefault(length, []).append(position)
    for positions in by_length.values():
        for first in range(0, len(positions), batch_size):
            yield positions[first : first + batch_size]


def _view_probs(
    model: nn.Module,
    batch: Batch,
    preprocessing: Preprocessing,
    device: torch.device,
    precision: Precision,
) -> list[np.ndarray]:
    with torch.inference_mode(), autocast(device, precision):
        prediction = model(model_input(batch, preprocessing, device))
    logits = prediction.logits.float().cpu().double()
    if logits.ndim == 2:
        return list(logits.softmax(dim=1).numpy())
    frames_of = zip(logits.sigmoid().numpy(), batch.num_frames, strict=True)
    return [frame_probs[:num_frames] for frame_probs, num_frames in frames_of]


def validation_scores(probs: list[np.ndarray], dataset: ClipDataset) -> tuple[float, float]:
    """Mean log loss, and top-1 accuracy (task clip) or macro-F1 over behaviours (task frame).

    Unlabelled entries do not count; both are nan without any labelled entry.
    """
    targets = [item.target for item in dataset.items]
    if dataset.preprocessing.task == "clip":
        probs_NK, targets_N = np.stack(probs), np.array(targets, np.int64)
        of_target = np.clip(probs_NK[np.arange(len(targets_N)), targets_N], 1e-7, 1)
        return float(-np.log(of_target).mean()), float((probs_NK.argmax(axis=1) == targets_N).mean())
    from sklearn.metrics import f1_score  # costs a second, so only where it is used

    probs_NK = np.clip(np.concatenate(probs), 1e-7, 1 - 1e-7)
    targets_NK = np.concatenate([target for target in targets if isinstance(target, np.ndarray)])
    labelled = ~np.isnan(targets_NK)
    if not labelled.any():
        return float("nan"), float("nan")
    truth = np.nan_to_num(targets_NK)
    losses = -(truth * np.log(probs_NK) + (1 - truth) * np.log(1 - probs_NK))
    scores = [
        f1_score(truth[rows, k], probs_NK[rows, k] > 0.5, zero_division=0.0)
        for k, rows in enumerate(labelled.T)
        if truth[rows, k].any()
    ]
    return float(losses[labelled].mean()), float(np.mean(scores)) if scores else float("nan")


def as_logits(probs: np.ndarray, *, task: str) -> np.ndarray:
    """Float32 values whose softmax (task clip) or sigmoid (task frame) gives `probs` back."""
    clipped = np.clip(probs, 1e-7, 1 - 1e-7)
    logits = np.log(clipped) if task == "clip" else np.log(clipped) - np.log1p(-clipped)
    return logits.astype(np.float32)
