"""The state of a training: all that changes from step to step, and is kept so that it can go on after a kill."""

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kineflow.training.batch_norm import batch_norms
from kineflow.training.checkpoint import load_checkpoint, save_checkpoint
from kineflow.training.finetune import Phase, frozen_modules
from kineflow.training.recipe import Recipe, learning_rate, make_optimizer, plateau_scale


@dataclass(frozen=True)
class EpochResult:
    """One epoch; validation is nan where it was not run.

    Args:
        num_pieces: that a batch was taken in at its end: above 1 where memory had no room for it as a whole.
        parts: that `train_loss` is the sum of, by name: `labels`, and whatever is learned beside them.
        seconds: that it took, validation included.
    """

    epoch: int
    lr: float
    train_loss: float
    val_loss: float
    val_metric: float
    num_pieces: int
    parts: dict[str, float] = field(default_factory=dict)
    seconds: float = field(default=0.0, compare=False)

    def to_json(self) -> dict[str, float]:
        """What another run repeats, as plain values: each part as `train_loss_<name>`, but not a single one."""
        values = asdict(self)
        values.pop("seconds")
        parts = values.pop("parts")
        return values | {f"train_loss_{name}": part for name, part in parts.items() if len(parts) > 1}


OnEpoch = Callable[[EpochResult], None]


class TrainingState:
    """What changes while training: optimizer, averaged weights, the best weights so far, the curves.

    Args:
        model: on `device`; its weights are trained in place.
        select_best: keep the weights of the epoch that was judged best, not the last.
    """

    def __init__(self, model: nn.Module, recipe: Recipe, select_best: bool, device: torch.device) -> None:
        self.model = model
        self.recipe = recipe
        self.select_best = select_best
        self.device = device
        self.trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.phase: Phase | None = None
        self.enter(0)
        self.plateau = 1.0
        self.num_pieces = 1
        self.scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "fp16")
        self.averaged = deepcopy(model) if recipe.ema_decay is not None else model
        self.step = 0
        self.lr = recipe.lr
        self.next_epoch = 0
        self.curves: list[EpochResult] = []
        self.best_loss = math.inf  # or what is watched instead, signed so that less is better
        self.best_epoch = 0
        self.best_state: dict[str, torch.Tensor] = {}

    def enter(self, epoch: int) -> bool:
        """Make ready for an epoch; whether another phase of the recipe begins with it."""
        if self.recipe.phase(epoch) == self.phase:
            return False
        self.phase = self.recipe.phase(epoch)
        for parameter in self.trainable:
            parameter.requires_grad_(True)
        self.frozen = frozen_modules(self.model, self.phase)
        for module in self.frozen:
            module.requires_grad_(False)
        self.optimizer = make_optimizer(self.model, self.recipe, epoch=epoch)
        return True

    @property
    def frozen_names(self) -> list[str]:
        """The modules that this phase leaves as they are, by their names."""
        return [name for name, module in self.model.named_modules() if module in self.frozen]

    @property
    def watched(self) -> list[float]:
        """What each epoch was judged by, signed so that less is better; nan where it was not."""
        if self.recipe.watch == "loss":
            return [result.val_loss for result in self.curves]
        return [-result.val_metric for result in self.curves]

    def split_batches(self, num_clips: int) -> bool:
        """Take batches in twice as many pieces from now on, since memory is short; false where that cannot be.

        Batch norm then sees each piece by itself.
        """
        self.optimizer.zero_grad(set_to_none=True)
        if self.num_pieces >= num_clips:
            return False
        self.num_pieces *= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return True

    def train_mode(self, model: nn.Module) -> None:
        """Put `model` into training mode, but for what is frozen: batch norm there keeps its running statistics."""
        model.train()
        frozen = self.frozen if self.recipe.batch_norm != "frozen" else [*self.frozen, *batch_norms(model)]
        for module in frozen:
            module.eval()

    def update(self, num_steps: int) -> None:
        """One optimizer step of an epoch of `num_steps`, after the gradients are there."""
        phase = self.phase
        assert phase is not None
        self.lr = self.plateau * learning_rate(
            self.step - phase.first_epoch * num_steps,
            num_steps=phase.num_epochs * num_steps,
            recipe=replace(self.recipe, lr=phase.lr),
        )
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * group["lr_factor"]
        if self.recipe.precision == "fp16":
            self.scaler.unscale_(self.optimizer)
        if self.recipe.grad_clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.grad_clip_norm)
        if self.recipe.precision == "fp16":
            self.scaler.step(self.optimizer)  # leaves a step out where fp16 overflowed, and scales less from then on
            self.scaler.update()
        else:
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
        self.plateau = plateau_scale(self.watched, self.recipe)
        judged = self.watched[-1]
        better = judged < self.best_loss
        if better or not self.select_best or math.isinf(self.best_loss):  # until one was judged, the latest
            self.best_loss = judged if better else self.best_loss
            self.best_epoch = self.next_epoch
            self.best_state = {k: v.detach().cpu().clone() for k, v in self.averaged.state_dict().items()}

    def save(self, path: Path) -> None:
        """Keep all of it in a file."""
        state: dict[str, Any] = {
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
            "scaler": self.scaler.state_dict(),
            "step": self.step,
            "num_pieces": self.num_pieces,
            "curves": [asdict(result) for result in self.curves],
            "best": {"loss": self.best_loss, "epoch": self.best_epoch, "state": self.best_state},
        }
        save_checkpoint(path, state)

    def restore(self, path: Path | None) -> None:
        """Go on from the file, if there is one."""
        state = load_checkpoint(path) if path is not None else None
        if state is None:
            return
        self.model.load_state_dict(state["model"])
        self.averaged.load_state_dict(state["averaged"])
        self.enter(len(state["curves"]) - 1)  # the epoch that the optimizer was saved in
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])
        if state["cuda_rng"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda_rng"], self.device)
        self.step, self.num_pieces = state["step"], state["num_pieces"]
        self.curves = [EpochResult(**values) for values in state["curves"]]
        self.scaler.load_state_dict(state["scaler"])
        self.next_epoch = len(self.curves)
        self.plateau = plateau_scale(self.watched, self.recipe)
        best = state["best"]
        self.best_loss, self.best_epoch, self.best_state = best["loss"], best["epoch"], best["state"]
