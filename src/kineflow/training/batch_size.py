"""The batch size that a device trains at best: found by steps of growing batches, which are then forgotten.

Powers of two are tried until memory has no room, until more clips at a time are no longer faster, or until an epoch
would have too few steps. Sizes about as fast as the fastest are alike, and of these the one nearest to the size that
the learning rate was found for is taken: it changes the training least. It is tried once more before it is left.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from math import log2
from pathlib import Path

import psutil
import torch

from kineflow.data.dataset import ClipDataset
from kineflow.data.decoded_cache import DecodedCache
from kineflow.parallel.memory import available_bytes, peak_bytes, reuse_freed_memory
from kineflow.parallel.threads import num_cores
from kineflow.store import digest
from kineflow.training.batches import epoch_batches
from kineflow.training.job import Job
from kineflow.training.precision import choose_device
from kineflow.training.preparation import build_network, training_videos, with_branches
from kineflow.training.steps import step_seconds

CODE_VERSION = 3
SLACK = 0.05  # a clip may take this much longer than at the fastest size
MIN_STEPS = 5  # of an epoch
SMALLEST = 2  # in each process: batch norm needs two
GPU_SHARE = 0.9  # of what a training may use of its GPU: the longest clips or another kernel may need more


@dataclass(frozen=True)
class Steps:
    """What training steps of some batch size took.

    Args:
        clip_sec: seconds of each clip.
        free_bytes: memory that trainings might take just then, with what the process held already.
        start_bytes: memory of the process before there was a model; peak_bytes: the most that it held.
    """

    clip_sec: float
    free_bytes: int
    start_bytes: int
    peak_bytes: int


@dataclass(frozen=True)
class Found:
    """A batch size, and why: for people."""

    batch_size: int
    why: str


def find_batch_size(
    try_size: Callable[[int], float | None], *, usual: int, largest: int, smallest: int = SMALLEST
) -> Found:
    """Try growing batches, and choose one.

    Args:
        try_size: seconds of each clip in batches of so many; None where there is no room for them.
        usual: the size that the learning rate was found for: sizes up to it are tried even if they are no faster.
        largest: that an epoch is long enough for; `smallest` is tried anyway.
    """
    tried: dict[int, float] = {}
    size, end = smallest, f"more would leave an epoch fewer than {MIN_STEPS} steps"
    while size <= max(largest, smallest):
        clip_sec = try_size(size)
        if clip_sec is None:
            end = f"there is no room for {size}"
            break
        is_faster = all(clip_sec < (1 - SLACK) * other for other in tried.values())
        tried[size] = clip_sec
        if size >= usual and not is_faster:
            end = "more are no faster"
            break
        size *= 2
    if not tried:
        return Found(smallest, f"{end}, and fewer cannot be")
    nearest = _nearest(usual, tried)
    chosen = _nearest(usual, _fast(tried))
    if chosen != nearest:  # was the machine busy just then?
        for size in (nearest, min(tried, key=tried.__getitem__)):
            tried[size] = min(tried[size], try_size(size) or tried[size])
        chosen = _nearest(usual, _fast(tried))
    times = ", ".join(f"{_in_time(clip_sec)} in batches of {size}" for size, clip_sec in tried.items())
    return Found(chosen, f"a clip takes {times}; {end}")


def _fast(tried: Mapping[int, float]) -> list[int]:
    """The sizes that a clip takes about as long with as with the fastest."""
    return [size for size, clip_sec in tried.items() if clip_sec <= (1 + SLACK) * min(tried.values())]


def _nearest(usual: int, sizes: Iterable[int]) -> int:
    """The size that differs by the smallest factor; of two, the larger."""
    return min(sizes, key=lambda size: (abs(log2(size / usual)), -size))


def _in_time(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1e3 * seconds:.3g} ms"


def largest_batch(jobs: list[Job]) -> int:
    """Clips in a batch that leave the shortest epoch of the jobs, which share a recipe, `MIN_STEPS` steps."""
    recipe = jobs[0].recipe
    epochs = [epoch_batches([item.target for item in job.train], job.recipe, epoch=0) for job in jobs]
    shortest = min(sum(map(len, batches)) for batches in epochs)
    return shortest // (MIN_STEPS * recipe.accumulation)


def within_memory(
    steps: Callable[[int], Steps | None], room_bytes: Callable[[Steps], float]
) -> Callable[[int], float | None]:
    """Only try what is sure to fit: a processor without memory does not say so, its system ends some process.

    A batch is taken to need memory in proportion to its clips.

    Args:
        steps: of a batch size; None where there was no room.
        room_bytes: for a training, by the steps of the first size.
    """
    tried: dict[int, Steps] = {}

    def try_size(size: int) -> float | None:
        if tried and foreseen_bytes(size) > room_bytes(first()):
            return None
        found = steps(size)
        if found is None:
            return None
        before = tried.setdefault(size, found)  # a process that tries it again held larger ones meanwhile
        return found.clip_sec if before.peak_bytes <= room_bytes(first()) else None

    def foreseen_bytes(size: int) -> float:
        start_bytes, last = first().start_bytes, max(tried)  # later ones start with what is left of earlier ones
        return start_bytes + (tried[last].peak_bytes - start_bytes) * size / last

    def first() -> Steps:
        return next(iter(tried.values()))

    return try_size


def try_steps(job: Job, batch_size: int) -> Steps | None:
    """Train the network of `job` for a few steps on its first clips, without `compile`; None where they do not fit.

    Meant for a process of its own, whose memory and random state are nobody's.

    Args:
        batch_size: of all data-parallel workers; this process takes the share of one.
    """
    start_bytes = psutil.Process().memory_info().rss
    free_bytes = available_bytes() + start_bytes
    torch.set_num_threads(min(job.recipe.threads, num_cores()))
    device = choose_device(job.gpus)
    if device.type == "cpu":
        reuse_freed_memory()  # as the training will
    job = replace(job, recipe=replace(job.recipe, compile=False))  # which takes minutes for each size
    num_clips = -(-batch_size // job.workers)
    config = job.self_supervision
    # two views of each clip are in memory while it is pre-trained
    num_seen = num_clips * (2 if config is not None and config.pretrain_epochs else 1)
    if device.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(GPU_SHARE * min(1.0, job.gpus), torch.cuda.current_device())
    cache = DecodedCache(Path("decoded"), max_bytes=0)
    videos = training_videos(job, job.store, job.preprocessing, cache)
    train_set = ClipDataset(job.train, videos, job.preprocessing, job.augment, job.recipe.seed)
    try:
        model = with_branches(build_network(job, device), job, device)
        objective = job.objective.make(job, job.preprocessing, device, cache)
        seconds = step_seconds(model, objective, train_set, job.recipe, num_clips=num_seen, device=device)
    except (MemoryError, torch.OutOfMemoryError):
        return None
    except RuntimeError as err:
        if "can't allocate memory" not in str(err):  # as PyTorch says of a CPU's
            raise
        return None
    finally:
        if device.type == "cuda":
            torch.cuda.empty_cache()
    most_bytes = max(start_bytes, peak_bytes())  # the kernel's two counts are some pages apart
    return Steps(seconds / num_seen, free_bytes, start_bytes, most_bytes)


def steps_key(job: Job) -> str:
    """The digest of all that its steps' time and memory are of: what other folds, seeds and rates share."""
    recipe, device = job.recipe, choose_device(job.gpus)
    return digest(
        kind="steps",
        version=CODE_VERSION,
        model=asdict(replace(job.model, weights=None)),
        preprocessing=job.preprocessing.to_json(),
        augment=asdict(job.augment),
        objective=job.objective.key,
        self_supervision=None if job.self_supervision is None else asdict(job.self_supervision),
        optimizer=recipe.optimizer,
        averages=recipe.ema_decay is not None,
        finetune=None if recipe.finetune is None else asdict(recipe.finetune),
        batch_norm=recipe.batch_norm,
        precision=recipe.precision,
        recompute=recipe.recompute,
        threads=recipe.threads,
        workers=job.workers,
        gpus=job.gpus,
        device=torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
    )
