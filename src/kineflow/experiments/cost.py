"""What a model costs: parameters, multiply-accumulates, and the time of one clip on this machine."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from kineflow.models.describe import describe_model
from kineflow.training.job import Job
from kineflow.training.precision import autocast, choose_device, lay_out

NUM_WARM_UPS = 2
NUM_RUNS = 7


@dataclass(frozen=True)
class Cost:
    """Of one input clip, in the size and precision that the model is trained with.

    Args:
        macs: multiply-accumulates of the layers with weights and of attention.
        input_CTHW: of a network.
        ms_per_clip: median of a forward pass of one clip; `device` and `threads` say where.
    """

    num_params: int
    macs: int
    input_CTHW: tuple[int, int, int, int] | None
    ms_per_clip: float
    device: str
    threads: int
    precision: str


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


def measure_cost(job: Job) -> Cost:
    """Count and time the model of a training; its weights do not matter, so they are drawn."""
    _, num_frames, height_px, width_px = job.input_CTHW
    device = choose_device(job.gpus)
    model = lay_out(replace(job.model, weights=None).build(seed=0), device, job.recipe.precision)
    described = describe_model(model, num_frames=num_frames, height_px=height_px, width_px=width_px)
    threads_before = torch.get_num_threads()
    torch.set_num_threads(job.recipe.threads)
    try:
        ms_per_clip = _ms_per_clip(model.to(device).eval(), job, device)
    finally:
        torch.set_num_threads(threads_before)
    return Cost(
        num_params=described.num_parameters,
        macs=described.macs,
        input_CTHW=job.input_CTHW,
        ms_per_clip=ms_per_clip,
        device=device.type,
        threads=job.recipe.threads,
        precision=job.recipe.precision,
    )


def _ms_per_clip(model: torch.nn.Module, job: Job, device: torch.device) -> float:
    clip_BCTHW = torch.zeros(1, *job.input_CTHW, device=device)

    def judge() -> None:
        model(clip_BCTHW)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    with torch.inference_mode(), autocast(device, job.recipe.precision):
        return median_ms(judge)


def median_ms(judge: Callable[[], object]) -> float:
    """Milliseconds that a call takes: the median of several, after others that do not count."""
    times_sec = []
    for _ in range(NUM_WARM_UPS + NUM_RUNS):
        started = time.perf_counter()
        judge()
        times_sec.append(time.perf_counter() - started)
    return 1000 * statistics.median(times_sec[NUM_WARM_UPS:])
