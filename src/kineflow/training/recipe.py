"""How one model is trained: a plain value, part of the key of its result."""

from dataclasses import asdict, dataclass
from math import cos, pi
from typing import Any, Literal

import torch
from torch import nn

from kineflow.training.finetune import Finetune, Phase, trained_parts

Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters of one training; see `TrainParams` and `StreamParams` for their meaning."""

    epochs: int
    batch_size: int
    optimizer: Literal["sgd", "adamw"]
    lr: float
    weight_decay: float
    schedule: Literal["constant", "cosine"]
    warmup_fraction: float
    label_smoothing: float
    grad_clip_norm: float | None
    ema_decay: float | None
    eval_every: int
    select: Literal["best", "last"]
    seed: int
    precision: Precision
    threads: int
    finetune: Finetune | None = None

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The epochs in order: the head's own, where there are some, and the others."""
        finetune = self.finetune
        num_head = min(finetune.head_epochs, self.epochs) if finetune else 0
        phases: tuple[Phase, ...] = ()
        if finetune and num_head:
            phases = (Phase(0, num_head, finetune.head_optimizer, finetune.head_lr, finetune, head_only=True),)
        if num_head < self.epochs:
            phases = (*phases, Phase(num_head, self.epochs - num_head, self.optimizer, self.lr, finetune))
        return phases

    def phase(self, epoch: int) -> Phase:
        """The phase that an epoch (from 0) belongs to."""
        return next(phase for phase in self.phases if epoch < phase.first_epoch + phase.num_epochs)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def make_optimizer(model: nn.Module, recipe: Recipe, *, epoch: int = 0) -> torch.optim.Optimizer:
    """The optimizer over the parameters that train in an epoch and its phase; norms and biases are not decayed.

    Each group of parameters keeps its `lr_factor`, what multiplies the phase's learning rate.
    """
    phase = recipe.phase(epoch)
    groups: list[dict[str, Any]] = []
    for part in trained_parts(model, phase):
        rates = {"lr": phase.lr * part.lr_factor, "lr_factor": part.lr_factor}
        decayed = [p for p in part.parameters if p.ndim > 1]
        others = [p for p in part.parameters if p.ndim <= 1]
        groups.append({"params": decayed, "weight_decay": recipe.weight_decay, **rates})
        groups.append({"params": others, "weight_decay": 0.0, **rates})
    if phase.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=phase.lr, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, lr=phase.lr, betas=(0.9, 0.99))


def learning_rate(step: int, *, num_steps: int, recipe: Recipe) -> float:
    """The rate of step `step` (from 0) of `num_steps`: linear warm-up, then constant or a cosine to zero."""
    num_warmup = max(1, round(recipe.warmup_fraction * num_steps))
    if step < num_warmup and recipe.warmup_fraction > 0:
        return recipe.lr * (step + 1) / num_warmup
    if recipe.schedule == "constant":
        return recipe.lr
    progress = (step - num_warmup) / max(1, num_steps - num_warmup)
    return recipe.lr * 0.5 * (1 + cos(pi * min(1.0, progress)))
