"""The training loop, in plain PyTorch.

Everything random follows from the recipe's seed, the epoch and a clip's position, so that a training that was
killed and resumed ends with the same weights as one that was not (same machine, threads and precision).
"""

import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from kineflow.data.dataset import Batch, ClipDataset, prefetch, without_augmentation
from kineflow.data.probabilities import Labels
from kineflow.errors import ParamsError
from kineflow.models.classifier import Prediction
from kineflow.training.checkpoint import load_checkpoint, save_checkpoint
from kineflow.training.inputs import model_input
from kineflow.training.objectives import Objective
from kineflow.training.precision import autocast
from kineflow.training.recipe import Recipe, learning_rate, make_optimizer
from kineflow.training.scoring import predict_probs, validation_scores


@dataclass(frozen=True)
class EpochResult:
    """One epoch; validation is nan where it was not run."""

    epoch: int
    lr: float
    train_loss: float
    val_loss: float
    val_metric: float


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


@dataclass(frozen=True)
class Shard:
    """Which part of every batch this process computes."""

    rank: int = 0
    world_size: int = 1


def fit(
    model: nn.Module,
    objective: Objective,
    train_set: ClipDataset,
    val_set: ClipDataset | None,
    recipe: Recipe,
    *,
    device: torch.device,
    checkpoint: Path | None = None,
    on_epoch: Callable[[EpochResult], None] | None = None,
    wrap: Callable[[nn.Module], nn.Module] | None = None,
    shard: Shard | None = None,
) -> FitResult:
    """Train `model` and return the chosen weights.

    Args:
        model: on `device`; its weights are trained in place.
        val_set: None trains all epochs and keeps the last weights.
        checkpoint: where the state is kept after every epoch, and picked up from.
        on_epoch: told of every finished epoch, by the first process only.
        wrap: makes the data-parallel model that is called in training (DistributedDataParallel).
        shard: this process's part of every batch, with `wrap`.
    """
    shard = shard or Shard()
    torch.manual_seed(recipe.seed)
    run = _Run(model, recipe, val_set is not None and recipe.select == "best")
    run.restore(checkpoint)
    trained = wrap(model) if wrap else model
    for epoch in range(run.next_epoch, recipe.epochs):
        batches = epoch_batches(len(train_set), recipe, epoch)
        train_loss = _train_epoch(trained, run, objective, train_set, batches, epoch, device, shard)
        last = epoch + 1 == recipe.epochs
        scores = (math.nan, math.nan)
        if val_set is not None and (last or (epoch + 1) % recipe.eval_every == 0):
            scores = _validate(run.averaged, val_set, objective.labels, recipe, device)
        result = EpochResult(epoch, run.lr, train_loss, *scores)
        run.finish(result)
        if shard.rank == 0:
            if checkpoint is not None:
                run.save(checkpoint)
            if on_epoch is not None:
                on_epoch(result)
    return FitResult(run.best_state, run.best_epoch, run.curves)


def epoch_batches(num_clips: int, recipe: Recipe, epoch: int) -> list[list[int]]:
    """The positions of each batch of an epoch: a permutation by seed and epoch; a last batch of one joins another."""
    order = np.random.default_rng([recipe.seed, epoch]).permutation(num_clips).tolist()
    batches = [order[first : first + recipe.batch_size] for first in range(0, num_clips, recipe.batch_size)]
    if len(batches) > 1 and len(batches[-1]) == 1:  # batch norm needs two
        batches[-2:] = [batches[-2] + batches[-1]]
    return batches


class _Run:
    """What changes while training: optimizer, averaged weights, the best weights so far, the curves."""

    def __init__(self, model: nn.Module, recipe: Recipe, select_best: bool) -> None:
        self.model = model
        self.recipe = recipe
        self.select_best = select_best
        self.optimizer = make_optimizer(model, recipe)
        self.averaged = deepcopy(model) if recipe.ema_decay is not None else model
        self.step = 0
        self.lr = recipe.lr
        self.next_epoch = 0
        self.curves: list[EpochResult] = []
        self.best_loss = math.inf
        self.best_epoch = 0
        self.best_state: dict[str, torch.Tensor] = {}

    def update(self, num_steps: int) -> None:
        """One optimizer step, after the gradients are there."""
        self.lr = learning_rate(self.step, num_steps=num_steps, recipe=self.recipe)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr
        if self.recipe.grad_clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.grad_clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        if self.recipe.ema_decay is not None:
            decay = min(self.recipe.ema_decay, self.step / (self.step + 10))
            with torch.no_grad():
                for average, current in zip(
                    self.averaged.state_dict().values(), self.model.state_dict().values(), strict=True
                ):
                    if average.dtype.is_floating_point:
                        average.lerp_(current, 1 - decay)
                    else:
                        average.copy_(current)

    def finish(self, result: EpochResult) -> None:
        """Keep the epoch's result, and its weights if they are the ones to keep."""
        self.curves.append(result)
        self.next_epoch = result.epoch + 1
        better = result.val_loss < self.best_loss
        if better or not self.select_best or not self.best_state:
            self.best_loss = result.val_loss if better else self.best_loss
            self.best_epoch = self.next_epoch
            self.best_state = {k: v.detach().cpu().clone() for k, v in self.averaged.state_dict().items()}

    def save(self, path: Path) -> None:
        state: dict[str, Any] = {
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "step": self.step,
            "curves": [asdict(result) for result in self.curves],
            "best": {"loss": self.best_loss, "epoch": self.best_epoch, "state": self.best_state},
        }
        save_checkpoint(path, state)

    def restore(self, path: Path | None) -> None:
        state = load_checkpoint(path) if path is not None else None
        if state is None:
            return
        self.model.load_state_dict(state["model"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])
        if state["cuda_rng"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["cuda_rng"])
        self.step = state["step"]
        self.curves = [EpochResult(**values) for values in state["curves"]]
        self.next_epoch = len(self.curves)
        best = state["best"]
        self.best_loss, self.best_epoch, self.best_state = best["loss"], best["epoch"], best["state"]


def _train_epoch(
    model: nn.Module,
    run: _Run,
    objective: Objective,
    train_set: ClipDataset,
    batches: Sequence[Sequence[int]],
    epoch: int,
    device: torch.device,
    shard: Shard,
) -> float:
    def make(positions: Sequence[int]) -> Batch:
        return train_set.batch(positions, epoch=epoch)

    model.train()
    num_steps = run.recipe.epochs * len(batches)
    mine = [batch[shard.rank :: shard.world_size] or batch[:1] for batch in batches]
    total = 0.0
    for whole, batch in zip(batches, prefetch(make, mine, depth=_loader_threads(device)), strict=True):
        clips_BCTHW = model_input(batch, train_set.preprocessing, device)
        with autocast(device, run.recipe.precision):
            prediction: Prediction = model(clips_BCTHW)
        loss = objective(prediction, batch, epoch=epoch)
        if not torch.isfinite(loss):
            text = f"training diverged: the loss is {loss.item()} in epoch {epoch + 1}"
            raise ParamsError(f"{text}; lower the stream's lr or train.grad_clip_norm")
        # data-parallel gradients are averaged over processes: weigh each by its share of the batch
        share = len(whole[shard.rank :: shard.world_size]) * shard.world_size / len(whole)
        (loss * share).backward()
        run.update(num_steps)
        total += float(loss.detach()) * len(whole)
    return total / sum(len(batch) for batch in batches)


def _validate(
    model: nn.Module, val_set: ClipDataset, labels: Labels, recipe: Recipe, device: torch.device
) -> tuple[float, float]:
    fixed = without_augmentation(val_set)
    probs = predict_probs(
        model, fixed, labels=labels, batch_size=recipe.batch_size, device=device, precision=recipe.precision
    )
    return validation_scores(probs, fixed, labels=labels)


def _loader_threads(device: torch.device) -> int:
    return 4 if device.type == "cuda" else 0  # a CPU fold has its cores busy already
