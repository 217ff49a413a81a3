"""Carry out several trainings: in parallel on Ray as far as cores and GPUs allow, none of them twice.

A fold that fits one worker is a plain Ray task round the loop. With several data-parallel workers it is a task that
waits for a `TorchTrainer`, which costs some 15 s before its first step. Either way the state after every epoch is on
disk, and on S3 where a run storage is named: a fold whose worker, driver, head or machine was killed goes on from
there. How far each is, its worker leaves in a small file.
"""

import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from kineflow.data.decoded_cache import DecodedCache
from kineflow.errors import KineflowError, ServiceError
from kineflow.parallel.capacity import machines, num_places, threads_with_room
from kineflow.parallel.session import RAY_START_SEC, HeadWatch, ray_session
from kineflow.parallel.slots import cancel_tasks
from kineflow.parallel.threads import num_cores
from kineflow.progress.fold_table import FoldTable, Training
from kineflow.storage import arrow_filesystem, is_s3
from kineflow.training.job import Job, with_threads
from kineflow.training.precision import choose_device
from kineflow.training.result import forget_checkpoints, result_store, sweep_home
from kineflow.training.run import claimed, news_path, run_telling
from kineflow.training.run_storage import RunStorage
from kineflow.training.steps import Shard

if TYPE_CHECKING:
    from ray.train import ScalingConfig

POLL_SEC = 0.5
MACS_PER_SEC = 5e9  # of one core in training, on the slow side


@dataclass(frozen=True)
class Resources:
    """What each training may use; see `TrainParams`.

    Args:
        cache_bytes: shared by all.
        run_storage: a second home of checkpoints and results; None where the disk is enough.
    """

    threads: int
    workers: int
    max_failures: int
    cache_bytes: int
    run_storage: RunStorage | None = None


def train_jobs(
    jobs: Sequence[Job], home: Path, resources: Resources, *, label: str, say: Callable[[str], None]
) -> tuple[dict[str, Path], int]:
    """Train what is not trained yet.

    Args:
        jobs: with different keys.
        home: where results (`store/train`), checkpoints and decoded videos are kept, outside of DVC's outs.
        label: what the table of progress is about.
        say: told in one line of each training that is done.

    Returns:
        The result folder of each job by its key, and how many were there already.

    Raises:
        ServiceError: a worker died more often than `max_failures` allows, or the cluster or the run storage is gone.
    """
    home = home.resolve()
    results = result_store(home)
    cache = DecodedCache(home / "decoded", resources.cache_bytes)
    cache.sweep()
    sweep_home(home)
    keys = {job.key: job for job in jobs}
    kept = resources.run_storage
    pending = {
        key: job
        for key, job in keys.items()
        if key not in results and not (kept is not None and kept.fetch_result(key, results))
    }
    for key in pending:
        news_path(home, key).unlink(missing_ok=True)  # of a run that was killed
    if pending:
        trainings = [
            Training(key, job.name, job.recipe.epochs, len(job.train), job.num_pretrain_epochs)
            for key, job in keys.items()
        ]
        metric = _metric_name(next(iter(pending.values())))
        stored = keys.keys() - pending.keys()
        with FoldTable(label, trainings, home / "progress", metric=metric, stored=stored) as table:
            _train(pending, home, cache, resources, say, lambda key: say(table.done(key)))
    for key, job in keys.items():
        if kept is not None:  # a worker on another disk left it there; one that was cut off did not
            kept.fetch_result(key, results) if key not in results else kept.keep_result(key, results.path(key))
        if key not in results:
            raise ServiceError(f"{job.name}: its result is not in {home}; share that folder, or set KINEFLOW_RUNS")
        _clear(home, key)
    return {key: results.path(key) for key in keys}, len(keys) - len(pending)


def _clear(home: Path, key: str) -> None:
    """Remove what a finished training leaves: its driver may have been killed between the result and its scraps."""
    news_path(home, key).unlink(missing_ok=True)
    forget_checkpoints(home / "checkpoints", key)
    (home / "checkpoints" / f"{key}.lock").unlink(missing_ok=True)


def _metric_name(job: Job) -> str:
    """What `val_metric` of a job's epochs is."""
    if job.recipe.watch != "loss":
        return job.recipe.watch
    return "accuracy" if job.labels == "exclusive" else "macro-F1"


def _train(
    pending: Mapping[str, Job],
    home: Path,
    cache: DecodedCache,
    resources: Resources,
    say: Callable[[str], None],
    done: Callable[[str], None],
) -> None:
    on_ray = resources.workers > 1 or _pays(list(pending.values()))
    with ray_session() if on_ray else nullcontext():
        gpus = max(_gpus(job) for job in pending.values())
        threads = threads_with_room(resources.threads, machines(), say=say, workers=resources.workers, gpus=gpus)
        jobs = {key: with_threads(job, threads) for key, job in pending.items()}
        if on_ray:
            _run_on_ray(jobs, home, cache, replace(resources, threads=threads), done)
            return
        for key, job in jobs.items():
            run_telling(job, key, home, cache, resources.run_storage)
            done(key)


def _gpus(job: Job) -> float:
    """Of a GPU that each process of a training uses, if there is one."""
    return job.gpus if choose_device(job.gpus).type == "cuda" else 0.0


def _pays(jobs: Sequence[Job]) -> bool:
    """Whether other cores make up for the start of Ray, by the multiply-accumulates of the trainings."""
    if len(jobs) == 1 or num_cores() == 1:
        return "RAY_ADDRESS" in os.environ
    sec = sum(3 * job.num_forward_macs * job.recipe.epochs for job in jobs) / MACS_PER_SEC
    return sec * (1 - 1 / num_cores()) > RAY_START_SEC


def task_options(job: Job, resources: Resources, device: torch.device) -> dict[str, float]:
    """What Ray is asked for a training in one worker; half a GPU lets two of them share one."""
    gpus = job.gpus if device.type == "cuda" else 0.0
    return {"num_cpus": resources.threads, "num_gpus": gpus, "max_retries": resources.max_failures}


def scaling(job: Job, resources: Resources, device: torch.device) -> "ScalingConfig":
    """What Ray is asked for data-parallel workers."""
    from ray.train import ScalingConfig

    on_gpu = device.type == "cuda"
    each = {"CPU": float(resources.threads), **({"GPU": job.gpus} if on_gpu else {})}
    return ScalingConfig(num_workers=resources.workers, use_gpu=on_gpu, resources_per_worker=each)


def collectives(job: Job, device: torch.device) -> Literal["nccl", "gloo"]:
    """What the workers average gradients by: NCCL refuses two processes on one GPU."""
    return "nccl" if device.type == "cuda" and job.gpus >= 1 else "gloo"


def _run_on_ray(
    pending: Mapping[str, Job], home: Path, cache: DecodedCache, resources: Resources, done: Callable[[str], None]
) -> None:
    import ray

    head, waiting = HeadWatch(), deque(pending.items())
    running: dict[Any, tuple[str, Job]] = {}
    most = _num_side_by_side(pending, resources)
    try:
        while waiting or running:
            while waiting and len(running) < most:
                key, job = waiting.popleft()
                running[_start(job, key, home, cache, resources)] = (key, job)
            head.check()
            finished, _ = ray.wait(list(running), num_returns=1, timeout=POLL_SEC)
            for reference in finished:
                key, job = running.pop(reference)
                try:
                    ray.get(reference)
                except ray.exceptions.RayTaskError as err:
                    raise err.cause from err
                except ray.exceptions.RayError as err:
                    reason = str(err).splitlines()[0]
                    raise ServiceError(f"{job.name}: its worker died too often ({reason}); run again to go on") from err
                done(key)
    finally:
        cancel_tasks(list(running))


def _num_side_by_side(pending: Mapping[str, Job], resources: Resources) -> int:
    """Trainings that Ray is given at a time: it makes tasks wait by itself, but each that waits for workers costs."""
    if resources.workers == 1:
        return len(pending)
    gpus = max(_gpus(job) for job in pending.values())
    return max(1, num_places(machines(), threads=resources.threads, gpus=gpus) // resources.workers)


def _start(job: Job, key: str, home: Path, cache: DecodedCache, resources: Resources) -> Any:
    """The reference of a task that trains; one that has workers of its own waits for them beside this process."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    device = choose_device(job.gpus)
    if resources.workers == 1:
        task = ray.remote(run_telling).options(**task_options(job, resources, device))
        return task.remote(job, key, home, cache, resources.run_storage)
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    task = ray.remote(_run_distributed).options(
        num_cpus=0, max_retries=resources.max_failures, scheduling_strategy=here
    )
    return task.remote(job, key, home, cache, resources, device)


def _run_distributed(
    job: Job, key: str, home: Path, cache: DecodedCache, resources: Resources, device: torch.device
) -> None:
    """Train by data-parallel workers, and wait for them."""
    from ray.train import FailureConfig, RunConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    config = {"job": job, "key": key, "home": str(home), "cache": cache, "run_storage": resources.run_storage}
    with (
        claimed(home / "checkpoints", key),
        _ray_scratch(key, home, resources.run_storage) as (path, filesystem),
    ):
        if key in result_store(home):
            return
        trainer = TorchTrainer(
            _distributed_worker,
            train_loop_config=config,
            torch_config=TorchConfig(backend=collectives(job, device)),
            scaling_config=scaling(job, resources, device),
            run_config=RunConfig(
                name=f"{key[:16]}-{time.time_ns()}",  # a finished name would return without training
                storage_path=path,
                storage_filesystem=filesystem,
                failure_config=FailureConfig(max_failures=resources.max_failures),
            ),
        )
        try:
            trainer.fit()
        except Exception as err:
            raise _failure(job, err) from err


def _failure(job: Job, err: Exception) -> Exception:
    """What a worker raised, if it tells the user something, else one sentence."""
    for failure in getattr(err, "worker_failures", {}).values():
        cause = getattr(failure, "cause", failure)
        if isinstance(cause, KineflowError | OSError):
            return cause
    reason = " ".join(str(err).split())[-300:]
    return ServiceError(f"{job.name}: data-parallel training failed ({reason}); run again to go on")


@contextmanager
def _ray_scratch(key: str, home: Path, run_storage: RunStorage | None) -> Iterator[tuple[str, Any]]:
    """A path and a file system for what Ray Train notes of a training; our own checkpoint is what it goes on from."""
    if run_storage is None or not is_s3(run_storage.root):
        root = home if run_storage is None else Path(run_storage.root).absolute()
        path = root / "ray_train" / key
        try:
            yield str(path), None
        finally:
            shutil.rmtree(path, ignore_errors=True)
            with suppress(OSError):  # others are noted there
                path.parent.rmdir()
        return
    filesystem, bucket = arrow_filesystem(run_storage.root)
    path_on_s3 = f"{bucket}/ray_train/{key}"
    try:
        yield path_on_s3, filesystem
    finally:
        with suppress(OSError):
            filesystem.delete_dir(path_on_s3)


def _distributed_worker(config: dict[str, Any]) -> None:
    from ray import train
    from ray.train.torch import prepare_model

    context = train.get_context()

    def wrap(model: torch.nn.Module) -> torch.nn.Module:
        return prepare_model(model, move_to_device=False)

    run_telling(
        config["job"],
        config["key"],
        Path(config["home"]),
        config["cache"],
        config["run_storage"],
        wrap=wrap,
        shard=Shard(context.get_world_rank(), context.get_world_size()),
    )
