"""Probabilities of a model over a data set: the one way that training, evaluation and prediction ask a model."""

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from torch import nn

from kineflow.data.dataset import Batch, ClipDataset, collate
from kineflow.data.preprocessing import Preprocessing
from kineflow.data.probabilities import NEAR_CERTAIN, Labels, mean_by_row, to_probs
from kineflow.training.inputs import clip_lengths, model_input
from kineflow.training.precision import autocast
from kineflow.training.recipe import Metric, Precision


def predict_probs(
    model: nn.Module,
    dataset: ClipDataset,
    *,
    labels: Labels,
    batch_size: int,
    device: torch.device,
    precision: Precision,
) -> list[np.ndarray]:
    """Probabilities of every clip, averaged over its test-time views; a batch of views at a time is in memory.

    Args:
        labels: exclusive classes share one probability, independent ones have one each.

    Returns:
        For each clip in order: float64 (K,) on task clip, (T, K) on task frame.
    """
    was_training = model.training
    model.eval()
    probs: list[np.ndarray] = [np.empty(0)] * len(dataset)
    for positions in _equal_batches(dataset, batch_size):
        of_clips: dict[int, list[np.ndarray]] = {position: [] for position in positions}
        views = (sample for position in positions for sample in dataset.fixed_views(position))
        while samples := list(islice(views, batch_size)):
            batch = collate(samples)
            seen = _view_probs(model, batch, dataset.preprocessing, labels, device, precision)
            for sample, of_view in zip(samples, seen, strict=True):
                of_clips[sample.position].append(of_view)
        for position, of_views in of_clips.items():
            probs[position] = np.mean(of_views, axis=0)
    model.train(was_training)
    return probs


def _equal_batches(dataset: ClipDataset, batch_size: int) -> Iterator[list[int]]:
    """Batches of windows without padding, which temporal kernels would see: one scores the same whatever is beside it.

    Clips may have padding, where the model leaves it out.
    """
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
    labels: Labels,
    device: torch.device,
    precision: Precision,
) -> list[np.ndarray]:
    with torch.inference_mode(), autocast(device, precision):
        prediction = model(model_input(batch, preprocessing, device), clip_lengths(batch, preprocessing, device))
    probs = to_probs(prediction.logits.float().cpu().numpy(), labels)
    if probs.ndim == 2:
        return list(probs)
    frames_of = zip(probs, batch.num_frames, strict=True)
    return [frame_probs[:num_frames] for frame_probs, num_frames in frames_of]


def validation_scores(
    probs: list[np.ndarray],
    dataset: ClipDataset,
    *,
    labels: Labels,
    metric: Metric | None = None,
    classes: Sequence[int] | None = None,
) -> tuple[float, float]:
    """Mean log loss, and a score of which more is better.

    A frame that several windows hold is judged once, by its mean probabilities. Unlabelled entries do not count; both
    are nan without any labelled entry.

    Args:
        metric: None: top-1 accuracy of exclusive classes, macro-F1 over independent ones.
        classes: indices of those that F1 and average precision are the mean of; None: all. Classes that no labelled
            entry shows are left out of it.
    """
    probs_NK, truth_NK = _rows_to_judge(probs, dataset)
    labelled_NK = ~np.isnan(truth_NK)
    if labels == "exclusive":
        labelled_N = labelled_NK.all(axis=1)
        probs_NK, truth_NK, labelled_NK = probs_NK[labelled_N], truth_NK[labelled_N], labelled_NK[labelled_N]
    if not labelled_NK.any():
        return float("nan"), float("nan")
    truth_NK = np.nan_to_num(truth_NK)
    chosen = range(truth_NK.shape[1]) if classes is None else classes
    metric = metric or ("accuracy" if labels == "exclusive" else "macro_f1")
    if labels == "exclusive":
        of_class_N = np.clip(probs_NK[truth_NK == 1], NEAR_CERTAIN, 1)
        loss = float(-np.log(of_class_N).mean())
        judged_NK = np.eye(probs_NK.shape[1], dtype=bool)[probs_NK.argmax(axis=1)]
    else:
        clipped_NK = np.clip(probs_NK, NEAR_CERTAIN, 1 - NEAR_CERTAIN)
        losses_NK = -(truth_NK * np.log(clipped_NK) + (1 - truth_NK) * np.log(1 - clipped_NK))
        loss, judged_NK = float(losses_NK[labelled_NK].mean()), clipped_NK > 0.5
    if metric in ("accuracy", "top1_top3"):
        return loss, _top(probs_NK, truth_NK, 1) + (_top(probs_NK, truth_NK, 3) if metric == "top1_top3" else 0.0)
    from sklearn.metrics import average_precision_score, f1_score  # costs a second, so only where it is used

    scores = []
    for k in chosen:
        rows = labelled_NK[:, k]
        if not truth_NK[rows, k].any():
            continue
        if metric == "macro_f1":
            scores.append(f1_score(truth_NK[rows, k], judged_NK[rows, k], zero_division=0.0))
        else:
            scores.append(average_precision_score(truth_NK[rows, k], probs_NK[rows, k]))
    return loss, float(np.mean(scores)) if scores else float("nan")


def _top(probs_NK: np.ndarray, truth_NK: np.ndarray, k: int) -> float:
    """The share of rows whose class is among the `k` of the highest probabilities; the first of equals wins."""
    best_NK = np.argsort(-probs_NK, axis=1, kind="stable")[:, :k]
    return float(np.take_along_axis(truth_NK, best_NK, axis=1).any(axis=1).mean())


def _rows_to_judge(probs: list[np.ndarray], dataset: ClipDataset) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and truth (N, K) of every clip, or of every frame once."""
    if dataset.preprocessing.task == "clip":
        probs_NK = np.stack(probs)
        one_hot_KK = np.eye(probs_NK.shape[1])
        targets = [item.target for item in dataset.items]
        rows = [target if isinstance(target, np.ndarray) else one_hot_KK[target] for target in targets]
        return probs_NK, np.stack(rows)
    longest = max(item.stop for item in dataset.items)
    videos = dict.fromkeys(item.video_id for item in dataset.items)
    first_of = {video_id: i * longest for i, video_id in enumerate(videos)}  # so that frames of all videos differ
    frames_W = np.concatenate([first_of[item.video_id] + np.arange(item.start, item.stop) for item in dataset.items])
    _, first_N, row_W = np.unique(frames_W, return_index=True, return_inverse=True)
    truth_WK = np.concatenate([item.target for item in dataset.items if isinstance(item.target, np.ndarray)])
    return mean_by_row(np.concatenate(probs), row_W, num_rows=len(first_N)), truth_WK[first_N]
