"""The training loop, in plain PyTorch.

Everything random follows from the recipe's seed, the epoch and a clip's position, so that a training that was
killed and resumed ends with the same weights as one that was not (same machine, threads and precision).
"""

import itertools
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from kineflow.data.dataset import Batch, ClipDataset, prefetch, without_augmentation
from kineflow.data.probabilities import Labels
from kineflow.errors import ParamsError
from kineflow.models.classifier import Prediction
from kineflow.training.batch_norm import batch_norms, measure_batch_norm
from kineflow.training.batches import epoch_batches
from kineflow.training.checkpoint import load_checkpoint, save_checkpoint
from kineflow.training.finetune import Phase, frozen_modules
from kineflow.training.inputs import clip_lengths, model_input
from kineflow.training.objectives import Objective
from kineflow.training.precision import autocast
from kineflow.training.recipe import Recipe, is_stopped_early, learning_rate, make_optimizer, plateau_scale
from kineflow.training.scoring import predict_probs, validation_scores

NUM_TIMED = 3  # steps, where a step is tried
LONG_SEC = 5.0  # of a step that is long enough to be timed once
LABELS = "labels"  # the part of a loss that they teach


@dataclass(frozen=True)
class EpochResult:
    """One epoch; validation is nan where it was not run.

    Args:
        num_pieces: that a batch was taken in at its end: above 1 where memory had no room for it as a whole.
        parts: that `train_loss` is the sum of, by name: `labels`, and whatever is learned beside them.
    """

    epoch: int
    lr: float
    train_loss: float
    val_loss: float
    val_metric: float
    num_pieces: int
    parts: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, float]:
        """As plain values, each part as `train_loss_<name>`; a single one is `train_loss` itself."""
        values = asdict(self)
        parts = values.pop("parts")
        return values | {f"train_loss_{name}": part for name, part in parts.items() if len(parts) > 1}


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
    on_step: Callable[[int, float], None] | None = None,
    on_epoch: Callable[[EpochResult], None] | None = None,
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
    run = _Run(model, recipe, val_set is not None and recipe.select == "best", device)
    run.restore(checkpoint)
    trained: nn.Module | None = None
    on_step = on_step if shard.rank == 0 else None
    for epoch in range(run.next_epoch, recipe.epochs):
        if is_stopped_early(run.watched, recipe):  # before it was killed
            break
        if run.enter(epoch) or trained is None:
            trained = None  # with the hooks that it has on what trained before
            trained = wrap(model) if wrap else model
            if recipe.compile:
                trained = torch.compile(trained)  # type: ignore[assignment]
        batches = epoch_batches([item.target for item in train_set.items], recipe, epoch)
        parts = _train_epoch(trained, run, objective, train_set, batches, epoch, device, shard, on_step)
        last = epoch + 1 == recipe.epochs
        scores = (math.nan, math.nan)
        looks = last or (epoch + 1) % recipe.eval_every == 0
        if recipe.batch_norm == "precise" and looks:
            measure_batch_norm(run.averaged, train_set, recipe, device, kept=run.frozen_names)
        if val_set is not None and looks:
            scores = _validate(run.averaged, val_set, objective.labels, recipe, device, shard)
        result = EpochResult(epoch, run.lr, sum(parts.values()), *scores, run.num_pieces, parts)
        run.finish(result)
        if shard.rank == 0:
            if checkpoint is not None:
                run.save(checkpoint)
            if on_epoch is not None:
                on_epoch(result)
        if is_stopped_early(run.watched, recipe):
            break
    return FitResult(run.best_state, run.best_epoch, run.curves)


def step_seconds(
    model: nn.Module,
    objective: Objective,
    train_set: ClipDataset,
    recipe: Recipe,
    *,
    num_clips: int,
    device: torch.device,
) -> float:
    """How long a step on the first `num_clips` clips takes: the fastest of a few, which change `model`.

    The last epoch is imitated, when no part of a model that will ever train is frozen. The first step, which loads
    kernels and makes the optimizer's state, counts only where it takes so long that this does not matter.

    Raises:
        torch.OutOfMemoryError: the device has no room for them.
    """
    epoch = recipe.epochs - 1
    run = _Run(model, recipe, select_best=False, device=device)
    run.enter(epoch)
    run.step = recipe.phase(epoch).first_epoch  # with one step an epoch
    run.train_mode(model)
    batch = train_set.batch(range(num_clips), epoch=epoch)
    seconds: list[float] = []
    while not seconds or (len(seconds) <= NUM_TIMED and max(seconds) < LONG_SEC):
        started = time.perf_counter()
        _backward(model, run, objective, train_set, batch, _Amount(1.0, 1.0), epoch, device)
        run.update(num_steps=1)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:] or seconds)


class _Run:
    """What changes while training: optimizer, averaged weights, the best weights so far, the curves."""

    def __init__(self, model: nn.Module, recipe: Recipe, select_best: bool, device: torch.device) -> None:
        self.model = model
        self.recipe = recipe
        self.select_best = select_best
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
        state: dict[str, Any] = {
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "scaler": self.scaler.state_dict(),
            "step": self.step,
            "num_pieces": self.num_pieces,
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
        self.enter(len(state["curves"]) - 1)  # the epoch that the optimizer was saved in
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])
        if state["cuda_rng"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["cuda_rng"])
        self.step, self.num_pieces = state["step"], state["num_pieces"]
        self.curves = [EpochResult(**values) for values in state["curves"]]
        self.scaler.load_state_dict(state["scaler"])
        self.next_epoch = len(self.curves)
        self.plateau = plateau_scale(self.watched, self.recipe)
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
    on_step: Callable[[int, float], None] | None,
) -> dict[str, float]:
    def make(positions: Sequence[int]) -> Batch:
        return train_set.batch(positions, epoch=epoch)

    run.train_mode(model)
    epoch_size = _size(train_set, itertools.chain(*batches))
    mine = [batch[shard.rank :: shard.world_size] or batch[:1] for batch in batches]
    made = prefetch(make, mine, depth=_loader_threads(device))
    num_together, total = run.recipe.accumulation, defaultdict[str, float](float)
    for first in range(0, len(batches), num_together):
        wholes = batches[first : first + num_together]
        mine_of_step = [_size(train_set, whole[shard.rank :: shard.world_size]) for whole in wholes]
        step_size = _size(train_set, itertools.chain(*wholes))
        # data-parallel gradients are averaged over processes: weigh each by its share of the step
        shares = [_share(one, step_size, times=shard.world_size) for one in mine_of_step]
        step = list(zip(itertools.islice(made, len(wholes)), shares, strict=True))
        while True:
            try:
                losses = [_backward(model, run, objective, train_set, *part, epoch, device) for part in step]
                break
            except torch.OutOfMemoryError as err:
                num_clips = max(len(batch.positions) for batch, _ in step)
                # a data-parallel worker cannot: the others would wait for gradients that never come
                if shard.world_size > 1 or not run.split_batches(num_clips):
                    raise ParamsError(_no_room(num_clips, shard)) from err
        broken = [value for parts in losses for value in parts.values() if not math.isfinite(value)]
        if broken:
            text = f"training diverged: the loss is {broken[0]} in epoch {epoch + 1}"
            raise ParamsError(f"{text}; lower the stream's lr or train.grad_clip_norm")
        for parts, size in zip(losses, mine_of_step, strict=True):
            share = _share(size, epoch_size)
            for name, value in parts.items():
                total[name] += value * (share.labels if name == LABELS else share.clips)
        run.update(math.ceil(len(batches) / num_together))
        if on_step is not None:
            on_step(epoch, (first + len(wholes)) / len(batches))
    return _sums_of_all(total, shard, device)


def _no_room(num_clips: int, shard: Shard) -> str:
    if shard.world_size > 1:
        text = f"{num_clips} clips in each data-parallel worker; lower train.batch_size"
    else:
        text = "a single clip; make the stream's clips smaller"
    return f"the device has no memory for {text} or set train.recompute to true, and see what else uses it"


class _Amount(NamedTuple):
    """Something of the labels and of the clips of a batch: how many there are, or their share."""

    labels: float
    clips: float


def _size(train_set: ClipDataset, positions: Iterable[int]) -> _Amount:
    listed = list(positions)
    return _Amount(train_set.num_labels(listed), len(listed))


def _share(part: _Amount, whole: _Amount, *, times: int = 1) -> _Amount:
    return _Amount(*(times * of_part / max(of_whole, 1) for of_part, of_whole in zip(part, whole, strict=True)))


def _sums_of_all(values: dict[str, float], shard: Shard, device: torch.device) -> dict[str, float]:
    """The sums over the data-parallel processes, which all have values of the same names."""
    if shard.world_size == 1:
        return dict(values)
    totals = torch.tensor(list(values.values()), dtype=torch.float64, device=device)
    torch.distributed.all_reduce(totals)
    return dict(zip(values, totals.tolist(), strict=True))


def _backward(
    model: nn.Module,
    run: _Run,
    objective: Objective,
    train_set: ClipDataset,
    batch: Batch,
    share: _Amount,
    epoch: int,
    device: torch.device,
) -> dict[str, float]:
    """Add the gradient of a batch, times `share`, in as many pieces as the device has room for; the parts of its loss.

    What is a mean over labels is weighed by labels, which on task frame clips have more or fewer of.
    """
    parts, num_clips = defaultdict[str, float](float), len(batch.positions)
    whole = _size(train_set, batch.positions)
    for rows in np.array_split(np.arange(num_clips), min(run.num_pieces, num_clips)):
        piece = batch if len(rows) == num_clips else batch.rows(rows)
        clips_BCTHW = model_input(piece, train_set.preprocessing, device)
        with autocast(device, run.recipe.precision):
            prediction: Prediction = model(clips_BCTHW, clip_lengths(piece, train_set.preprocessing, device))
        loss = objective(prediction, piece, epoch=epoch).plus(prediction.extra_losses or {})
        piece_share = _share(_size(train_set, piece.positions), whole)
        weighed = loss.of_labels * (share.labels * piece_share.labels)
        parts[LABELS] += float(loss.of_labels.detach()) * piece_share.labels
        for name, of_clips in loss.of_clips.items():
            weighed = weighed + of_clips * (share.clips * piece_share.clips)
            parts[name] += float(of_clips.detach()) * piece_share.clips
        run.scaler.scale(weighed).backward()
    return parts


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


def _loader_threads(device: torch.device) -> int:
    return 4 if device.type == "cuda" else 0  # a CPU fold has its cores busy already
