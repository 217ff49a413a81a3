"""What Ray costs training: Ray Train with one worker against a bare loop, two folds on two cores against one.

By the clock on the wall, so on an idle machine; some seven minutes. Epochs by Ray Train and by the bare loop take
turns, and so do folds one by one and at once, so that what disturbs one disturbs the other.
"""

import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import nn

from benchmarks import loading, train_step
from benchmarks.timing import Comparison, elapsed_sec
from kineflow.data.dataset import ClipDataset, ClipItem
from kineflow.data.readers import StreamStore
from kineflow.data.views import Augment
from kineflow.parallel.session import ray_session
from kineflow.parallel.threads import num_cores
from kineflow.training.batches import epoch_batches
from kineflow.training.checkpoint import save_tensors
from kineflow.training.folds import Resources, train_jobs
from kineflow.training.job import Job
from kineflow.training.loop import fit
from kineflow.training.model_config import ModelConfig
from kineflow.training.objectives import Classification
from kineflow.training.precision import choose_precision
from kineflow.training.recipe import Recipe, make_optimizer
from kineflow.training.steps import Shard

MODEL = "r3d_tiny.avg"
CLIP_CTHW = (3, 16, 48, 64)
NUM_CLIPS = 96  # of an epoch
RUN_SEC = 60.0  # by Ray Train
FOLD_SEC = 30.0  # each
NUM_ROUNDS = 3  # of folds
PATIENCE_SEC = 300.0  # until one that waits for its turn gives up
CPU = torch.device("cpu")

Side = Literal["ours", "reference"]


@dataclass(frozen=True)
class Turns:
    """Lets one of two processes work at a time; `path` holds the name of the one whose turn it is."""

    path: Path

    def give(self, side: Side) -> None:
        """Let `side` go on."""
        partial = self.path.with_suffix(f".{side}")
        partial.write_text(side)
        partial.replace(self.path)

    def wait(self, side: Side) -> None:
        """Until it is the turn of `side`.

        Raises:
            TimeoutError: the other one does not give it.
        """
        until = time.monotonic() + PATIENCE_SEC
        while self.path.read_text() != side:
            if time.monotonic() > until:
                raise TimeoutError(f"{side}: the other side does not go on")
            time.sleep(0.002)


def main(run_sec: float = RUN_SEC, fold_sec: float = FOLD_SEC) -> list[Comparison]:
    """Print the ratios; folds only where there are two cores."""
    torch.set_num_threads(1)
    rows = compare_ray_train(run_sec)
    if num_cores() > 1:
        rows += compare_folds(fold_sec)
    for row in rows:
        print(row, flush=True)
    return rows


def compare_ray_train(run_sec: float) -> list[Comparison]:
    """The epochs of a run of `run_sec` by Ray Train with one worker, and as many by a bare loop.

    Both keep their state on disk after every epoch.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = replace(make_recipe(), epochs=1)
        trial = [elapsed_sec(lambda: bare_epochs(recipe, folder, lambda _: None)) for _ in range(2)]
        recipe = replace(recipe, epochs=max(3, round(run_sec / trial[-1])))
        (folder / "turn").write_text("ours")
        bare = multiprocessing.get_context("spawn").Process(target=reference_side, args=(recipe, folder), daemon=True)
        bare.start()
        try:
            with ray_session():
                start_sec = fit_by_ray(recipe, folder)
            bare.join(PATIENCE_SEC)
        finally:
            bare.kill()
        seconds = {side: json.loads((folder / f"{side}.json").read_text()) for side in ("ours", "reference")}
    # the first epoch of each also prepares its kernels
    by_epoch = Comparison("epoch by Ray Train, one worker / bare loop", *(tuple(s[1:]) for s in seconds.values()))
    ours, reference = sum(seconds["ours"]), sum(seconds["reference"])
    whole = Comparison("run of a minute by Ray Train, with its start / bare loop", (start_sec + ours,), (reference,))
    return [by_epoch, whole]


def fit_by_ray(recipe: Recipe, folder: Path) -> float:
    """Train on one worker of Ray Train; the seconds before its first step."""
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    called = time.time()
    TorchTrainer(
        worker_side,
        train_loop_config={"recipe": recipe, "folder": str(folder)},
        scaling_config=ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1}),
        run_config=RunConfig(name="one-worker", storage_path=str(folder / "ray")),
    ).fit()
    return float((folder / "begun").read_text()) - called


def worker_side(config: dict[str, Any]) -> None:
    """In the worker: as `kineflow.training.folds` has it train."""
    from ray import train
    from ray.train.torch import prepare_model

    context, folder, recipe = train.get_context(), Path(config["folder"]), config["recipe"]
    torch.set_num_threads(recipe.threads)
    clips = train_step.premade_clips(CLIP_CTHW, num_clips=NUM_CLIPS)
    model = train_step.make_model(MODEL, recipe.precision)
    (folder / "begun").write_text(str(time.time()))
    take_turns("ours", recipe, folder, lambda on_epoch: fit(
        model,
        Classification("exclusive", recipe.label_smoothing),
        cast(ClipDataset, clips),
        None,
        recipe,
        device=CPU,
        checkpoint=folder / "ours.pt",
        on_epoch=lambda result: on_epoch(result.epoch),
        wrap=lambda network: cast(nn.Module, prepare_model(network, move_to_device=False)),
        shard=Shard(context.get_world_rank(), context.get_world_size()),
    ))  # fmt: skip


def reference_side(recipe: Recipe, folder: Path) -> None:
    """In a process of its own: the bare loop."""
    torch.set_num_threads(recipe.threads)
    take_turns("reference", recipe, folder, lambda on_epoch: bare_epochs(recipe, folder, on_epoch))


def bare_epochs(recipe: Recipe, folder: Path, on_epoch: Callable[[int], None]) -> None:
    """All epochs by the loop that anyone would write."""
    clips = train_step.premade_clips(CLIP_CTHW, num_clips=NUM_CLIPS)
    model = train_step.make_model(MODEL, recipe.precision)
    optimizer = make_optimizer(model, recipe)
    for epoch in range(recipe.epochs):
        batches = train_step.stacked(clips, epoch_batches(clips.targets, recipe, epoch))
        train_step.bare_loop(model, batches, recipe, optimizer)
        save_tensors(folder / "bare.pt", {"model": model.state_dict(), "optimizer": optimizer.state_dict()})
        on_epoch(epoch)


def take_turns(
    side: Side, recipe: Recipe, folder: Path, train: Callable[[Callable[[int], None]], object]
) -> list[float]:
    """Train epoch by epoch, each in its turn; the seconds of each, also as `<side>.json`."""
    turns, other = Turns(folder / "turn"), cast(Side, "reference" if side == "ours" else "ours")
    seconds = list[float]()
    turns.wait(side)
    started = time.perf_counter()

    def on_epoch(epoch: int) -> None:
        nonlocal started
        seconds.append(time.perf_counter() - started)
        turns.give(other)
        if epoch + 1 < recipe.epochs:
            turns.wait(side)
        started = time.perf_counter()

    train(on_epoch)
    (folder / f"{side}.json").write_text(json.dumps(seconds))
    return seconds


def compare_folds(fold_sec: float) -> list[Comparison]:
    """Two folds of about `fold_sec` by `train_jobs` at once, and one after the other, in turns."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        items = [replace(item, target=index % 2) for index, item in enumerate(loading.make_stores(root))]
        homes = (root / f"home{number}" for number in count())
        jobs = [make_job(root, items, fold, epochs=2) for fold in range(2)]
        trial = min(elapsed_sec(lambda: train(jobs[:1], next(homes))) for _ in range(2))  # the first prepares kernels
        jobs = [make_job(root, items, fold, epochs=max(4, round(2 * fold_sec / trial))) for fold in range(2)]
        one, two, whole = list[float](), list[float](), list[float]()
        for _ in range(NUM_ROUNDS):
            one.append(elapsed_sec(lambda: train_one_by_one(jobs, next(homes))))
            started = time.perf_counter()
            with ray_session():
                two.append(elapsed_sec(lambda: train(jobs, next(homes))))
                whole.append(time.perf_counter() - started)
    name = "two folds on two cores; one after the other"
    return [
        Comparison(name, tuple(two), tuple(one)),
        Comparison(f"{name}, with the start of Ray", tuple(whole), tuple(one)),
    ]


def train_one_by_one(jobs: list[Job], home: Path) -> None:
    """Each fold by itself, in this process."""
    for job in jobs:
        train([job], home)


def train(jobs: list[Job], home: Path) -> None:
    """As the stage `train` does."""
    train_jobs(
        jobs,
        home,
        Resources(threads=1, workers=1, max_failures=0, cache_bytes=10**9),
        label="train",
        say=lambda _: None,
    )


def make_job(root: Path, items: list[ClipItem], fold: int, *, epochs: int) -> Job:
    """A fold over half of the clips."""
    height_px, width_px = CLIP_CTHW[2:]
    return Job(
        name=f"fold {fold}",
        model=ModelConfig(MODEL, "clip", 2, CLIP_CTHW[0], 0.0, None, {}),
        store=StreamStore.of("rgb", root / "frames"),
        classes=("a", "b"),
        labels="exclusive",
        train=items[: len(items) // 2] if fold == 0 else items[len(items) // 2 :],
        val=[],
        test=[],
        preprocessing=replace(
            loading.RGB,
            height_px=height_px,
            width_px=width_px,
            decode_height_px=height_px,
            decode_width_px=width_px,
        ),
        augment=Augment(flip=True),
        recipe=replace(make_recipe(), epochs=epochs),
        fold=fold,
        gpus=0.0,
    )


def make_recipe() -> Recipe:
    """As the presets train on this machine's processor, by one thread."""
    return train_step.one_epoch(choose_precision("auto", CPU)[0])


if __name__ == "__main__":
    main()
