"""How one model is trained: a plain value, part of the key of its result."""

from dataclasses import asdict, dataclass
from math import cos, pi
from typing import Any, Literal

import torch
from torch import nn

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

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The optimizer over the parameters that are meant to train; norms and biases are not decayed."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=(0.9, 0.99))


def learning_rate(step: int, *, num_steps: int, recipe: Recipe) -> float:
    """The rate of step `step` (from 0) of `num_steps`: linear warm-up, then constant or a cosine to zero."""
    num_warmup = max(1, round(recipe.warmup_fraction * num_steps))
    if step < num_warmup and recipe.warmup_fraction > 0:
        return recipe.lr * (step + 1) / num_warmup
    if recipe.schedule == "constant":
        return recipe.lr
    progress = (step - num_warmup) / max(1, num_steps - num_warmup)
    return recipe.lr * 0.5 * (1 + cos(pi * min(1.0, progress)))
