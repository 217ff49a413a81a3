"""The training loop, in plain PyTorch.

Everything random follows from the recipe's seed, the epoch and a clip's position, so that a training that was
killed and resumed ends with the same weights as one that was not (same machine, threads and precision).
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from kineflow.data.dataset import ClipDataset, without_augmentation
from kineflow.data.probabilities import Labels
from kineflow.training.batch_norm import measure_batch_norm
from kineflow.training.batches import epoch_batches
from kineflow.training.objectives import Objective
from kineflow.training.recipe import Recipe, is_stopped_early
from kineflow.training.scoring import predict_probs, validation_scores
from kineflow.training.state import EpochResult, OnEpoch, TrainingState
from kineflow.training.steps import Shard, train_epoch


@dataclass(frozen=True)
class FitResult:
    """A finished training.

    Args:
        state: the weights that `recipe.select` chose, on the CPU.
        best_epoch: how many epochs they were trained for.
        curves: one entry for each epoch.
    """

    state: dict[str, torch.Tensor]
    best_epoch: int
    curves: list[EpochResult]


def fit(
    model: nn.Module,
    objective: Objective,
    train_set: ClipDataset,
    val_set: ClipDataset | None,
    recipe: Recipe,
    *,
    device: torch.device,
    checkpoint: Path | None = None,
    on_step: Callable[[int, float], None] | None = None,
    on_epoch: OnEpoch | None = None,
    wrap: Callable[[nn.Module], nn.Module] | None = None,
    shard: Shard | None = None,
) -> FitResult:
    """Train `model` and return the chosen weights.

    Args:
        model: on `device`; its weights are trained in place.
        val_set: None trains all epochs and keeps the last weights.
        checkpoint: where the state is kept after every epoch, and picked up from.
        on_step: told after every step of the epoch and the share of it that is done, by the first process only.
        on_epoch: told of every finished epoch, by the first process only.
        wrap: makes the data-parallel model that is called in training (DistributedDataParallel).
        shard: this process's part of every batch, with `wrap`.

    Raises:
        ParamsError: the loss is not finite, or the device has no memory for it.
    """
    shard = shard or Shard()
    torch.manual_seed(recipe.seed)
    state = TrainingState(model, recipe, val_set is not None and recipe.select == "best", device)
    state.restore(checkpoint)
    trained: nn.Module | None = None
    on_step = on_step if shard.rank == 0 else None
    for epoch in range(state.next_epoch, recipe.epochs):
        if is_stopped_early(state.watched, recipe):  # before it was killed
            break
        started = time.monotonic()
        if state.enter(epoch) or trained is None:
            trained = None  # with the hooks that it has on what trained before
            trained = wrap(model) if wrap else model
            if recipe.compile:
                torch.compiler.reset()  # what was compiled before is taken for any network alike, but for its hooks
                trained = torch.compile(trained)  # type: ignore[assignment]
        batches = epoch_batches([item.target for item in train_set.items], recipe, epoch)
        parts = train_epoch(trained, state, objective, train_set, batches, epoch, device, shard, on_step)
        last = epoch + 1 == recipe.epochs
        scores = (math.nan, math.nan)
        looks = last or (epoch + 1) % recipe.eval_every == 0
        if recipe.batch_norm == "precise" and looks:
            measure_batch_norm(state.averaged, train_set, recipe, device, kept=state.frozen_names)
        if val_set is not None and looks:
            scores = _validate(state.averaged, val_set, objective.labels, recipe, device, shard)
        seconds = time.monotonic() - started
        result = EpochResult(epoch, state.lr, sum(parts.values()), *scores, state.num_pieces, parts, seconds)
        state.finish(result)
        if shard.rank == 0:
            if checkpoint is not None:
                state.save(checkpoint)
            if on_epoch is not None:
                on_epoch(result)
        if is_stopped_early(state.watched, recipe):
            break
    return FitResult(state.best_state, state.best_epoch, state.curves)


def _validate(
    model: nn.Module, val_set: ClipDataset, labels: Labels, recipe: Recipe, device: torch.device, shard: Shard
) -> tuple[float, float]:
    """Loss and metric: in every process those of the first, so that all stop, and lower their rate, at once.

    Each has statistics of batch norm of its own, and so would find other ones.
    """
    fixed = without_augmentation(val_set)
    probs = predict_probs(
        model, fixed, labels=labels, batch_size=recipe.batch_size, device=device, precision=recipe.precision
    )
    metric = None if recipe.watch == "loss" else recipe.watch
    scores = validation_scores(probs, fixed, labels=labels, metric=metric, classes=recipe.watch_classes)
    if shard.world_size == 1:
        return scores
    of_first = torch.tensor(scores, dtype=torch.float64, device=device)
    torch.distributed.broadcast(of_first, src=0)
    return float(of_first[0]), float(of_first[1])
