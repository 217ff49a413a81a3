"""The training loop against a bare PyTorch loop on the same clips; memory kept; bf16 with channels-last against fp32;
depthwise convolutions against PyTorch's.

What a processor's bf16 units can give is measured beside: one convolution of many channels, without anything around it.

Seconds are those of the processor on one thread, so that a busy machine does not show.
"""

import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.bars import bar_of
from benchmarks.loading import RGB
from benchmarks.timing import Comparison, compare
from kineflow.data.dataset import Batch, ClipDataset, ClipItem, Sample, collate
from kineflow.data.preprocessing import ClipPixels, Preprocessing
from kineflow.models.backbones.cpu_convolutions import PointwiseConv3d, SoundConv3d
from kineflow.models.classifier import VideoClassifier
from kineflow.models.registry import create_model
from kineflow.parallel.memory import reuse_freed_memory
from kineflow.training.batches import epoch_batches
from kineflow.training.loop import fit
from kineflow.training.objectives import Classification
from kineflow.training.precision import autocast, choose_precision, lay_out
from kineflow.training.recipe import Precision, Recipe, make_optimizer

NUM_CLASSES, BATCH_SIZE, NUM_BATCHES = 6, 8, 6
LOOP_SHAPES = {"r3d_mini.avg": (3, 16, 32, 32), "r3d_tiny.avg": (3, 16, 48, 64)}  # of one clip, as the presets train
STEP_SHAPES = {  # clips of one step, and the shape of one
    "r3d_mini.avg": (8, (3, 16, 32, 32)),
    "r3d_tiny.avg": (8, (3, 16, 48, 64)),
    "r3d_18.avg": (2, (3, 16, 112, 112)),
    "r2plus1d_18.avg": (2, (3, 8, 112, 112)),
    "s3d.avg": (2, (3, 16, 112, 112)),
    "x3d_s.avg": (2, (3, 13, 112, 112)),
    "ir_csn_50.avg": (2, (3, 8, 112, 112)),
    "mvit_v2_s.avg": (2, (3, 16, 112, 112)),
}
DEPTHWISE = ("x3d_s.avg", "ir_csn_50.avg", "mvit_v2_s.avg")
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
KEPT = ("r3d_mini.avg", "r3d_tiny.avg", "r3d_18.avg")


@dataclass(frozen=True)
class PremadeClips:
    """Clips that are tensors already, so that only the loop is measured; stands in for a `ClipDataset`."""

    tensors: list[np.ndarray]  # (C, T, H, W)
    targets: list[int]
    preprocessing: Preprocessing = RGB  # of which floats need nothing

    def __len__(self) -> int:
        return len(self.tensors)

    @property
    def items(self) -> list[ClipItem]:
        """What each shows."""
        return [ClipItem(str(number), "", 0, 0, target) for number, target in enumerate(self.targets)]

    def batch(self, indices: Sequence[int], *, epoch: int) -> Batch:
        """Some clips, the same in every epoch."""
        return collate([self._sample(index) for index in indices])

    def num_labels(self, indices: Iterable[int]) -> int:
        """One of each clip."""
        return len(list(indices))

    def _sample(self, index: int) -> Sample:
        clip_CTHW = self.tensors[index]
        nothing = np.ones(len(clip_CTHW), np.float32), np.zeros(len(clip_CTHW), np.float32)
        return Sample(ClipPixels(np.moveaxis(clip_CTHW, 0, -1), *nothing), self.targets[index], index)


def main() -> list[Comparison]:
    """Print the ratios; five minutes. One thread and memory kept, as in a fold on CPU; a GPU is not measured here."""
    torch.set_num_threads(1)
    reuse_freed_memory()
    loops = [compare_loops(name, shape) for name, shape in LOOP_SHAPES.items()]
    kept = [compare_memory(name) for name in KEPT]
    return [
        *loops,
        *kept,
        compare_convolutions(),
        *(compare_precisions(name, *shape) for name, shape in STEP_SHAPES.items()),
        *(compare_depthwise(name, precision) for name in DEPTHWISE for precision in PRECISIONS),
    ]


def compare_loops(name: str, shape_CTHW: tuple[int, ...], *, max_sec: float = 40.0) -> Comparison:
    """One epoch by `fit` against one by the loop that anyone would write, on models of equal weights."""
    clips = premade_clips(shape_CTHW, num_clips=BATCH_SIZE * NUM_BATCHES)
    precision, _ = choose_precision("auto", torch.device("cpu"))
    recipe = one_epoch(precision)
    batches = epoch_batches(clips.targets, recipe, epoch=0)
    model, bare_model = make_model(name, precision), make_model(name, precision)

    def ours() -> None:
        fit_premade(model, clips, recipe)

    def reference() -> None:
        bare_loop(bare_model, stacked(clips, batches), recipe)

    label = f"train {name} in {precision}, fit / bare loop"
    return compare(
        label,
        ours,
        reference,
        num_rounds=15,
        max_sec=max_sec,
        num_items=len(clips),
        unit="clips",
        clock=time.process_time,
    )


def compare_memory(name: str, *, num_rounds: int = 7, max_sec: float = 30.0) -> Comparison:
    """Steps of a process that keeps what it frees, as a training's does, against one that leaves that to the system."""
    batch_size, shape_CTHW = STEP_SHAPES[name]
    sides: list[list[float]] = [[], []]
    context = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(1, context, initializer=reuse_freed_memory) as keeping,
        ProcessPoolExecutor(1, context) as leaving,
    ):
        started = time.perf_counter()
        for round_index in range(num_rounds + 1):  # the first prepares kernels
            for pool, seconds in zip((keeping, leaving), sides, strict=True):
                seconds.append(pool.submit(steps_sec, name, batch_size, shape_CTHW).result())
            if round_index >= 2 and time.perf_counter() - started > max_sec:
                break
    ours, reference = (tuple(seconds[1:]) for seconds in sides)
    comparison = Comparison(f"steps of {name}, freed memory kept / given back", ours, reference)
    print(comparison, flush=True)
    return comparison


def steps_sec(name: str, batch_size: int, shape_CTHW: tuple[int, ...], num_steps: int = 5) -> float:
    """Seconds of this process for some steps on the same clips, one thread."""
    torch.set_num_threads(1)
    precision, _ = choose_precision("auto", torch.device("cpu"))
    clips = premade_clips(shape_CTHW, num_clips=batch_size)
    model, recipe = make_model(name, precision), one_epoch(precision)
    started = time.process_time()
    bare_loop(model, stacked(clips, [list(range(batch_size))] * num_steps), recipe)
    return time.process_time() - started


def compare_precisions(name: str, batch_size: int, shape_CTHW: tuple[int, ...]) -> Comparison:
    """One step as training does it by itself (`precision: auto`, channels-last) against plain PyTorch in fp32."""
    precision, _ = choose_precision("auto", torch.device("cpu"))
    clips = premade_clips(shape_CTHW, num_clips=batch_size)
    batch = torch.from_numpy(np.stack(clips.tensors)), torch.tensor(clips.targets)
    laid_out = batch[0].contiguous(memory_format=torch.channels_last_3d), batch[1]
    model, plain_model = make_model(name, precision), with_plain_convolutions(make_model(name))
    recipe, plain_recipe = one_epoch(precision), one_epoch("fp32")
    optimizer, plain_optimizer = make_optimizer(model, recipe), make_optimizer(plain_model, plain_recipe)

    def ours() -> None:
        bare_loop(model, [laid_out], recipe, optimizer)

    def reference() -> None:
        bare_loop(plain_model, [batch], plain_recipe, plain_optimizer)

    label = f"step of {name}, {precision} channels-last / fp32"
    return compare(
        label,
        ours,
        reference,
        num_rounds=9,
        max_sec=10.0 if bar_of(label) is None else 45.0,  # so that a bar has all rounds
        num_items=batch_size,
        unit="clips",
        clock=time.process_time,
    )


def compare_depthwise(name: str, precision: Precision, *, max_sec: float = 10.0) -> Comparison:
    """One step with the convolutions of `models/backbones/cpu_convolutions.py` against the same with PyTorch's."""
    batch_size, shape_CTHW = STEP_SHAPES[name]
    clips = premade_clips(shape_CTHW, num_clips=batch_size)
    recipe = one_epoch(precision)
    sides = []
    for model in (make_model(name, precision), with_plain_convolutions(make_model(name, precision))):
        batches = list(stacked(clips, [list(range(batch_size))]))
        sides.append(partial(bare_loop, model, batches, recipe, make_optimizer(model, recipe)))
    label = f"step of {name} in {precision}, depthwise gradients by frames / PyTorch's"
    return compare(
        label, *sides, num_rounds=9, max_sec=max_sec, num_items=batch_size, unit="clips", clock=time.process_time
    )


def with_plain_convolutions(model: VideoClassifier) -> VideoClassifier:
    """Let PyTorch's own convolutions stand where `with_cpu_convolutions` has put others, in place."""
    for module in model.modules():
        if isinstance(module, SoundConv3d | PointwiseConv3d):
            module.__class__ = nn.Conv3d
    return model


def compare_convolutions(*, num_channels: int = 128, max_sec: float = 4.0) -> Comparison:
    """A convolution of the middle of r3d_18, forward and backward, on tensors that are bf16 channels-last already."""
    torch.manual_seed(0)
    clip_BCTHW = torch.randn(2, num_channels, 8, 28, 28)
    kernel = torch.randn(num_channels, num_channels, 3, 3, 3)

    def both(dtype: torch.dtype, layout: torch.memory_format) -> Callable[[], None]:
        clip, weight = (x.to(dtype, memory_format=layout).requires_grad_() for x in (clip_BCTHW, kernel))

        def run() -> None:
            answer = F.conv3d(clip, weight, padding=1)
            torch.autograd.grad(answer, (clip, weight), answer.detach())

        return run

    return compare(
        f"convolution of {num_channels} channels, bf16 channels-last / fp32",
        both(torch.bfloat16, torch.channels_last_3d),
        both(torch.float32, torch.contiguous_format),
        num_rounds=9,
        max_sec=max_sec,
        clock=time.process_time,
    )


def premade_clips(shape_CTHW: tuple[int, ...], *, num_clips: int) -> PremadeClips:
    """Noise; what a step costs does not depend on what the clips show."""
    random = np.random.default_rng(0)
    tensors = [random.standard_normal(shape_CTHW, np.float32) for _ in range(num_clips)]
    return PremadeClips(tensors, [index % NUM_CLASSES for index in range(num_clips)])


def make_model(name: str, precision: Precision | None = None) -> VideoClassifier:
    """The model with the weights of seed 0, laid out as training in `precision` does it; None: as it is built."""
    torch.manual_seed(0)
    model = create_model(name, num_classes=NUM_CLASSES, in_channels=3, task="clip")
    return model if precision is None else lay_out(model, torch.device("cpu"), precision)


def one_epoch(precision: Precision) -> Recipe:
    """As the presets train, for one epoch."""
    return Recipe(
        epochs=1,
        batch_size=BATCH_SIZE,
        optimizer="adamw",
        lr=0.001,
        weight_decay=0.05,
        schedule="constant",
        warmup_fraction=0.0,
        label_smoothing=0.1,
        grad_clip_norm=2.0,
        ema_decay=None,
        eval_every=1,
        select="last",
        seed=0,
        precision=precision,
        threads=1,
    )


def fit_premade(model: nn.Module, clips: PremadeClips, recipe: Recipe) -> dict[str, Tensor]:
    """Train by `fit`, and return the weights."""
    objective = Classification("exclusive", recipe.label_smoothing)
    train_set = cast(ClipDataset, clips)
    return fit(model, objective, train_set, None, recipe, device=torch.device("cpu")).state


def stacked(clips: PremadeClips, batches: list[list[int]]) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches as any loop has to make them of clips, laid out as `fit` lays them out."""
    for batch in batches:
        tensors_BCTHW = torch.from_numpy(np.stack([clips.tensors[i] for i in batch]))
        yield (
            tensors_BCTHW.contiguous(memory_format=torch.channels_last_3d),
            torch.tensor([clips.targets[i] for i in batch]),
        )


def bare_loop(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    recipe: Recipe,
    optimizer: torch.optim.Optimizer | None = None,
) -> None:
    """One epoch with nothing around it."""
    optimizer = optimizer or make_optimizer(model, recipe)
    model.train()
    for clips_BCTHW, targets_B in batches:
        with autocast(torch.device("cpu"), recipe.precision):
            logits_BK = model(clips_BCTHW).logits
        loss = F.cross_entropy(logits_BK.float(), targets_B, label_smoothing=recipe.label_smoothing)
        loss.backward()
        if recipe.grad_clip_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), recipe.grad_clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


if __name__ == "__main__":
    main()
