"""Carry out several trainings: in parallel on Ray as far as cores and GPUs allow, none of them twice.

A fold that fits one worker is a plain Ray task round the loop. With several data-parallel workers it is a
`TorchTrainer`, which costs some 15 s before its first step. Either way the state after every epoch is on disk,
and a fold whose worker or driver was killed goes on from there. How far each is, its worker leaves in a small file.
"""

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from kineflow.data.decoded_cache import DecodedCache
from kineflow.errors import KineflowError, ServiceError
from kineflow.fold_news import Teller
from kineflow.fold_table import FoldTable, Training
from kineflow.parallel import RAY_START_SEC, cancel_tasks, num_cores, ray_session
from kineflow.training.job import Job, result_store, run_job
from kineflow.training.loop import EpochResult, Shard
from kineflow.training.precision import choose_device

POLL_SEC = 0.5
MACS_PER_SEC = 5e9  # of one core in training, on the slow side


@dataclass(frozen=True)
class Resources:
    """What each training may use; see `TrainParams`. `cache_bytes` is shared by all."""

    threads: int
    workers: int
    max_failures: int
    cache_bytes: int


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
        ServiceError: a worker died more often than `max_failures` allows.
    """
    home = home.resolve()
    results = result_store(home)
    cache = DecodedCache(home / "decoded", resources.cache_bytes)
    cache.sweep()
    keys = {job.key: job for job in jobs}
    pending = {key: job for key, job in keys.items() if key not in results}
    for key in pending:
        news_path(home, key).unlink(missing_ok=True)  # of a run that was killed
    if pending:
        trainings = [Training(key, job.name, job.recipe.epochs, len(job.train)) for key, job in keys.items()]
        metric = _metric_name(next(iter(pending.values())))
        stored = keys.keys() - pending.keys()
        with FoldTable(label, trainings, home / "progress", metric=metric, stored=stored) as table:
            _train(pending, home, cache, resources, lambda key: say(table.done(key)))
    for key in keys:  # a driver may have been killed between a result and the removal of its scraps
        news_path(home, key).unlink(missing_ok=True)
        for name in (f"{key}.pt", f"{key}.pretrain.pt"):
            (home / "checkpoints" / name).unlink(missing_ok=True)
    return {key: results.path(key) for key in keys}, len(keys) - len(pending)


def news_path(home: Path, key: str) -> Path:
    """Where the worker of a training tells how far it is."""
    return home / "progress" / f"{key}.json"


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
    done: Callable[[str], None],
) -> None:
    if resources.workers > 1:
        for key, job in pending.items():
            _run_distributed(job, key, home, cache, resources)
            done(key)
    elif not _pays(list(pending.values())):
        for key, job in pending.items():
            _run_telling(job, key, home, cache)
            done(key)
    else:
        _run_parallel(pending, home, cache, resources, done)


def _run_telling(
    job: Job,
    key: str,
    home: Path,
    cache: DecodedCache,
    wrap: Callable[[torch.nn.Module], torch.nn.Module] | None = None,
    shard: Shard | None = None,
) -> None:
    """Train in this process, and tell how far it is."""
    teller = Teller(news_path(home, key), epochs=job.recipe.epochs, num_clips=len(job.train))
    if shard is None or shard.rank == 0:
        teller.begin()

    def on_epoch(result: EpochResult) -> None:
        scores = {"train_loss": result.train_loss, "val_loss": result.val_loss, "val_metric": result.val_metric}
        teller.epoch_done(result.epoch, **scores)

    run_job(
        job,
        key,
        result_store(home),
        home / "checkpoints",
        cache,
        on_step=teller.step_done,
        on_epoch=on_epoch,
        wrap=wrap,
        shard=shard,
    )


def _pays(jobs: Sequence[Job]) -> bool:
    """Whether other cores make up for the start of Ray, by the multiply-accumulates of the trainings."""
    if len(jobs) == 1 or num_cores() == 1:
        return "RAY_ADDRESS" in os.environ
    sec = sum(3 * job.num_forward_macs * job.recipe.epochs for job in jobs) / MACS_PER_SEC
    return sec * (1 - 1 / num_cores()) > RAY_START_SEC


def _run_parallel(
    pending: Mapping[str, Job],
    home: Path,
    cache: DecodedCache,
    resources: Resources,
    done: Callable[[str], None],
) -> None:
    import ray

    with ray_session():
        task = ray.remote(_run_telling)
        running: dict[Any, tuple[str, Job]] = {}
        for key, job in pending.items():
            on_gpu = choose_device(job.gpus).type == "cuda"
            options = {"num_cpus": resources.threads, "num_gpus": job.gpus if on_gpu else 0}
            options["max_retries"] = resources.max_failures
            running[task.options(**options).remote(job, key, home, cache)] = (key, job)
        try:
            _await(ray, running, done)
        finally:
            cancel_tasks(list(running))


def _await(ray: Any, running: dict[Any, tuple[str, Job]], done: Callable[[str], None]) -> None:
    while running:
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


def _run_distributed(job: Job, key: str, home: Path, cache: DecodedCache, resources: Resources) -> None:
    with ray_session():
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer

        on_gpu = choose_device(job.gpus).type == "cuda"
        trainer = TorchTrainer(
            _distributed_worker,
            train_loop_config={"job": job, "key": key, "home": str(home), "cache": cache},
            scaling_config=ScalingConfig(
                num_workers=resources.workers,
                use_gpu=on_gpu,
                resources_per_worker={"CPU": resources.threads, **({"GPU": job.gpus} if on_gpu else {})},
            ),
            run_config=RunConfig(
                name=f"{key[:16]}-{time.time_ns()}",  # a finished name would return without training
                storage_path=str(home / "ray_train"),
                failure_config=FailureConfig(max_failures=resources.max_failures),
            ),
        )
        try:
            trainer.fit()
        except Exception as err:
            for failure in getattr(err, "worker_failures", {}).values():
                cause = getattr(failure, "cause", failure)
                if isinstance(cause, KineflowError | OSError):
                    raise cause from err
            reason = " ".join(str(err).split())[-300:]
            raise ServiceError(f"{job.name}: data-parallel training failed ({reason}); run again to go on") from err
        finally:
            shutil.rmtree(home / "ray_train", ignore_errors=True)  # our own checkpoints are what we go on from


def _distributed_worker(config: dict[str, Any]) -> None:
    from ray import train
    from ray.train.torch import prepare_model

    context = train.get_context()

    def wrap(model: torch.nn.Module) -> torch.nn.Module:
        return prepare_model(model, move_to_device=False)

    _run_telling(
        config["job"],
        config["key"],
        Path(config["home"]),
        config["cache"],
        wrap=wrap,
        shard=Shard(context.get_world_rank(), context.get_world_size()),
    )
