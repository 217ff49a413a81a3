"""How one model is trained: a plain value, part of the key of its result."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import cos, isnan, pi
from typing import Any, Literal

import torch
from torch import nn

from kineflow.training.finetune import Finetune, Optimizer, Phase, trained_parts
from kineflow.training.swats import Swats

Precision = Literal["fp32", "bf16", "fp16"]
Schedule = Literal["constant", "linear", "cosine", "plateau"]
BatchNorm = Literal["batch", "frozen", "precise"]
Metric = Literal["accuracy", "macro_f1", "average_precision", "top1_top3"]
Sampler = Literal["each_once", "balanced", "square_root"]


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters of one training; see `TrainParams` and `StreamParams` for their meaning."""

    epochs: int
    batch_size: int
    optimizer: Optimizer
    lr: float
    weight_decay: float
    schedule: Schedule
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
    momentum: float = 0.9
    betas: tuple[float, float] = (0.9, 0.99)
    accumulation: int = 1
    plateau_patience: int = 10
    plateau_factor: float = 0.1
    watch: Literal["loss"] | Metric = "loss"
    watch_classes: tuple[int, ...] | None = None
    early_stop: int | None = None
    sampler: Sampler = "each_once"
    negative_ratio: float | None = None
    negative_class: int | None = None  # that negatives have; None: they have none
    batch_norm: BatchNorm = "batch"
    compile: bool = False
    recompute: bool = False

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
    """The optimizer over the parameters that train in an epoch and its phase.

    Norms, biases and the sizes of filters that `weight_norm` keeps apart are not decayed. Their directions are, as
    filters before a batch norm are: it changes no output, but steps would else turn them less and less.
    Each group of parameters keeps its `lr_factor`, what multiplies the phase's learning rate.
    """
    phase = recipe.phase(epoch)
    sizes = {size for name, size in model.named_parameters() if name.endswith("weight.original0")}
    groups: list[dict[str, Any]] = []
    for part in trained_parts(model, phase):
        rates = {"lr": phase.lr * part.lr_factor, "lr_factor": part.lr_factor}
        decayed = [p for p in part.parameters if p.ndim > 1 and p not in sizes]
        others = [p for p in part.parameters if p.ndim <= 1 or p in sizes]
        groups.append({"params": decayed, "weight_decay": recipe.weight_decay, **rates})
        groups.append({"params": others, "weight_decay": 0.0, **rates})
    if phase.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=phase.lr, momentum=recipe.momentum, nesterov=recipe.momentum > 0)
    if phase.optimizer == "swats":
        return Swats(groups, lr=phase.lr, betas=recipe.betas, momentum=recipe.momentum)
    if phase.optimizer == "adam":
        return torch.optim.Adam(groups, lr=phase.lr, betas=recipe.betas)
    return torch.optim.AdamW(groups, lr=phase.lr, betas=recipe.betas)


def learning_rate(step: int, *, num_steps: int, recipe: Recipe) -> float:
    """The rate of step `step` (from 0) of `num_steps`: linear warm-up, then constant, or a line or cosine to zero.

    A plateau is constant here; `plateau_scale` says what it is multiplied by.
    """
    num_warmup = max(1, round(recipe.warmup_fraction * num_steps))
    if step < num_warmup and recipe.warmup_fraction > 0:
        return recipe.lr * (step + 1) / num_warmup
    if recipe.schedule in ("constant", "plateau"):
        return recipe.lr
    progress = (step - num_warmup) / max(1, num_steps - num_warmup)
    if recipe.schedule == "linear":
        return recipe.lr * (1 - min(1.0, progress))
    return recipe.lr * 0.5 * (1 + cos(pi * min(1.0, progress)))


def plateau_scale(watched: Sequence[float], recipe: Recipe) -> float:
    """What the rate is multiplied by after epochs that were judged so; `watched` is signed so that less is better.

    Each time that `plateau_patience` validations have not bettered the best one, `plateau_factor` more; the counting
    then begins anew. Epochs without validation are nan and do not count.
    """
    scale, best, waited = 1.0, float("inf"), 0
    if recipe.schedule != "plateau":
        return scale
    for value in watched:
        if isnan(value):
            continue
        if value < best:
            best, waited = value, 0
            continue
        waited += 1
        if waited == recipe.plateau_patience:
            scale, waited = scale * recipe.plateau_factor, 0
    return scale


def is_stopped_early(watched: Sequence[float], recipe: Recipe) -> bool:
    """Whether the last `early_stop` validations have not bettered the one before them; see `plateau_scale`."""
    validated = [value for value in watched if not isnan(value)]
    if recipe.early_stop is None or len(validated) <= recipe.early_stop:
        return False
    return min(validated[-recipe.early_stop :]) >= min(validated[: -recipe.early_stop])
