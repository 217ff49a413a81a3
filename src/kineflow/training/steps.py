"""The steps of an epoch: gradients of batches, whole or in pieces, in one process or several, then an update."""

import itertools
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from kineflow.data.dataset import Batch, ClipDataset, prefetch
from kineflow.errors import ParamsError
from kineflow.models.classifier import Prediction
from kineflow.training.inputs import clip_lengths, model_input
from kineflow.training.objectives import Objective
from kineflow.training.precision import autocast
from kineflow.training.recipe import Recipe
from kineflow.training.state import TrainingState

NUM_TIMED = 3  # steps, where a step is tried
LONG_SEC = 5.0  # of a step that is long enough to be timed once
LABELS = "labels"  # the part of a loss that they teach


@dataclass(frozen=True)
class Shard:
    """Which part of every batch this process computes."""

    rank: int = 0
    world_size: int = 1


class _Amount(NamedTuple):
    """Something of the labels and of the clips of a batch: how many there are, or their share."""

    labels: float
    clips: float


def train_epoch(
    model: nn.Module,
    state: TrainingState,
    objective: Objective,
    train_set: ClipDataset,
    batches: Sequence[Sequence[int]],
    epoch: int,
    device: torch.device,
    shard: Shard,
    on_step: Callable[[int, float], None] | None,
) -> dict[str, float]:
    """Train `model`, which holds the weights of `state`, on every batch once; the mean of each part of its loss.

    Args:
        model: that of `state`, or what wraps and compiles it.
        batches: positions in `train_set`, of all processes.
        on_step: told after every step of the epoch and the share of it that is done.

    Raises:
        ParamsError: the loss is not finite, or the device has no memory for a batch however it is cut.
    """

    def make(positions: Sequence[int]) -> Batch:
        return train_set.batch(positions, epoch=epoch)

    state.train_mode(model)
    epoch_size = _size(train_set, itertools.chain(*batches))
    mine = [batch[shard.rank :: shard.world_size] or batch[:1] for batch in batches]
    made = prefetch(make, mine, depth=_loader_threads(device))
    num_together, total = state.recipe.accumulation, defaultdict[str, float](float)
    for first in range(0, len(batches), num_together):
        wholes = batches[first : first + num_together]
        mine_of_step = [_size(train_set, whole[shard.rank :: shard.world_size]) for whole in wholes]
        step_size = _size(train_set, itertools.chain(*wholes))
        # data-parallel gradients are averaged over processes: weigh each by its share of the step
        shares = [_share(one, step_size, times=shard.world_size) for one in mine_of_step]
        step = list(zip(itertools.islice(made, len(wholes)), shares, strict=True))
        while True:
            try:
                losses = [_backward(model, state, objective, train_set, *part, epoch, device) for part in step]
                break
            except torch.OutOfMemoryError as err:
                num_clips = max(len(batch.positions) for batch, _ in step)
                # a data-parallel worker cannot: the others would wait for gradients that never come
                if shard.world_size > 1 or not state.split_batches(num_clips):
                    raise ParamsError(_no_room(num_clips, shard)) from err
        broken = [value for parts in losses for value in parts.values() if not math.isfinite(value)]
        if broken:
            text = f"training diverged: the loss is {broken[0]} in epoch {epoch + 1}"
            raise ParamsError(f"{text}; lower the stream's lr or train.grad_clip_norm")
        for parts, size in zip(losses, mine_of_step, strict=True):
            share = _share(size, epoch_size)
            for name, value in parts.items():
                total[name] += value * (share.labels if name == LABELS else share.clips)
        state.update(math.ceil(len(batches) / num_together))
        if on_step is not None:
            on_step(epoch, (first + len(wholes)) / len(batches))
    return _sums_of_all(total, shard, device)


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
    state = TrainingState(model, recipe, select_best=False, device=device)
    state.enter(epoch)
    state.step = recipe.phase(epoch).first_epoch  # with one step an epoch
    state.train_mode(model)
    batch = train_set.batch(range(num_clips), epoch=epoch)
    seconds: list[float] = []
    while not seconds or (len(seconds) <= NUM_TIMED and max(seconds) < LONG_SEC):
        started = time.perf_counter()
        _backward(model, state, objective, train_set, batch, _Amount(1.0, 1.0), epoch, device)
        state.update(num_steps=1)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:] or seconds)


def _backward(
    model: nn.Module,
    state: TrainingState,
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
    for rows in np.array_split(np.arange(num_clips), min(state.num_pieces, num_clips)):
        piece = batch if len(rows) == num_clips else batch.rows(rows)
        clips_BCTHW = model_input(piece, train_set.preprocessing, device)
        with autocast(device, state.recipe.precision):
            prediction: Prediction = model(clips_BCTHW, clip_lengths(piece, train_set.preprocessing, device))
        loss = objective(prediction, piece, epoch=epoch).plus(prediction.extra_losses or {})
        piece_share = _share(_size(train_set, piece.positions), whole)
        weighed = loss.of_labels * (share.labels * piece_share.labels)
        parts[LABELS] += float(loss.of_labels.detach()) * piece_share.labels
        for name, of_clips in loss.of_clips.items():
            weighed = weighed + of_clips * (share.clips * piece_share.clips)
            parts[name] += float(of_clips.detach()) * piece_share.clips
        state.scaler.scale(weighed).backward()
    return parts


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


def _no_room(num_clips: int, shard: Shard) -> str:
    if shard.world_size > 1:
        text = f"{num_clips} clips in each data-parallel worker; lower train.batch_size"
    else:
        text = "a single clip; make the stream's clips smaller"
    return f"the device has no memory for {text} or set train.recompute to true, and see what else uses it"


def _loader_threads(device: torch.device) -> int:
    return 4 if device.type == "cuda" else 0  # a CPU fold has its cores busy already
