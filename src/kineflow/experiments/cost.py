"""What models cost: parameters, multiply-accumulates, and the time of one clip on this machine.

Times are taken in rounds, in which every model has its turn, so that what else the machine does meanwhile hits all of
them alike. On a CPU the clock is that of the judging thread, which stands still while other programs have the cores.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace

import torch

from kineflow.models.describe import describe_model
from kineflow.training.job import Job
from kineflow.training.precision import autocast, choose_device, lay_out

BUDGET_SEC = 5.0  # of all models together
MIN_ROUNDS, MAX_ROUNDS = 7, 100  # whatever they take; beyond, a median gets no steadier


@dataclass(frozen=True)
class Cost:
    """Of one input clip, in the size and precision that the model is trained with.

    Args:
        macs: multiply-accumulates of the layers with weights and of attention.
        input_CTHW: of a network.
        ms_per_clip: median of a forward pass of one clip, without waiting for other programs on a CPU; `device`
            and `threads` say where.
    """

    num_params: int
    macs: int
    input_CTHW: tuple[int, int, int, int] | None
    ms_per_clip: float
    device: str
    threads: int
    precision: str


@dataclass(frozen=True)
class Untimed:
    """A model that is ready to be timed.

    Args:
        cost: all but its time.
        judge: has it judge one clip.
        settings: hold while it is timed, such as the threads; entered before the clock starts.
    """

    cost: Cost
    judge: Callable[[], object]
    settings: Callable[[], AbstractContextManager[object]]


def sum_of(costs: Sequence[Cost]) -> Cost:
    """What several models cost that judge a clip one after the other."""
    return Cost(
        num_params=sum(cost.num_params for cost in costs),
        macs=sum(cost.macs for cost in costs),
        input_CTHW=None,
        ms_per_clip=sum(cost.ms_per_clip for cost in costs),
        device="+".join(dict.fromkeys(cost.device for cost in costs)),
        threads=max(cost.threads for cost in costs),
        precision="+".join(dict.fromkeys(cost.precision for cost in costs)),
    )


def network_cost(job: Job) -> Untimed:
    """Count the model of a training; its weights do not matter, so they are drawn."""
    _, num_frames, height_px, width_px = job.input_CTHW
    device, precision, threads = choose_device(job.gpus), job.recipe.precision, job.recipe.threads
    model = lay_out(replace(job.model, weights=None).build(seed=0), device, precision)
    described = describe_model(model, num_frames=num_frames, height_px=height_px, width_px=width_px)
    model = model.to(device).eval()
    clip_BCTHW = torch.zeros(1, *job.input_CTHW, device=device)

    def judge() -> None:
        model(clip_BCTHW)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    @contextmanager
    def settings() -> Iterator[None]:
        threads_before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            with torch.inference_mode(), autocast(device, precision):
                yield
        finally:
            torch.set_num_threads(threads_before)

    cost = Cost(
        num_params=described.num_parameters,
        macs=described.macs,
        input_CTHW=job.input_CTHW,
        ms_per_clip=float("nan"),
        device=device.type,
        threads=threads,
        precision=precision,
    )
    return Untimed(cost, judge, settings)


def timed(models: Sequence[Untimed]) -> list[Cost]:
    """Time models side by side, in a few seconds for all or a few rounds, whichever is longer."""
    times_sec: list[list[float]] = [[] for _ in models]
    started = time.monotonic()
    while len(times_sec[0]) <= MIN_ROUNDS or (
        time.monotonic() - started < BUDGET_SEC and len(times_sec[0]) <= MAX_ROUNDS
    ):
        for model, of_model in zip(models, times_sec, strict=True):
            of_model.append(_turn(model))
    return [  # the first round is for libraries to choose their kernels
        replace(model.cost, ms_per_clip=1000 * statistics.median(of_model[1:]))
        for model, of_model in zip(models, times_sec, strict=True)
    ]


def _turn(model: Untimed) -> float:
    """Seconds of one clip, after one that brings the model back into the processor's caches."""
    clock = time.thread_time if model.cost.device == "cpu" else time.perf_counter
    with model.settings():
        model.judge()
        started = clock()
        model.judge()
        return clock() - started
