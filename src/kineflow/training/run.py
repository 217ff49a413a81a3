"""Carry out one training: from its checkpoint where there is one, to its result."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from kineflow.data.dataset import ClipDataset
from kineflow.data.decoded_cache import DecodedCache
from kineflow.models.classifier import VideoClassifier
from kineflow.parallel.memory import reuse_freed_memory
from kineflow.progress.fold_news import Teller
from kineflow.progress.machine import MachineWatch
from kineflow.store import ResultStore
from kineflow.training.job import Job
from kineflow.training.loop import fit
from kineflow.training.precision import choose_device
from kineflow.training.preparation import build_network, training_videos, with_branches, with_flow_scale
from kineflow.training.result import forget_checkpoints, result_store, write_result
from kineflow.training.run_storage import CheckpointKeeper, RunStorage
from kineflow.training.self_supervision.contrastive import pretrain
from kineflow.training.state import EpochResult, OnEpoch
from kineflow.training.steps import Shard

OnPretrain = Callable[[float, int, float], None]  # epochs done with the share of this one, of how many, the last's loss


def run_telling(
    job: Job,
    key: str,
    home: Path,
    cache: DecodedCache,
    run_storage: RunStorage | None,
    wrap: Callable[[nn.Module], nn.Module] | None = None,
    shard: Shard | None = None,
    news: Path | None = None,
) -> None:
    """Train in this process, and tell how far it is.

    Args:
        news: the file to tell it in; by default that of the training.
    """
    teller = Teller(news or news_path(home, key), epochs=job.recipe.epochs, num_clips=len(job.train))

    def on_epoch(result: EpochResult) -> None:
        teller.epoch_done(
            result.epoch,
            train_loss=result.train_loss,
            val_loss=result.val_loss,
            val_metric=result.val_metric,
            num_pieces=result.num_pieces,
        )

    run_job(
        job,
        key,
        result_store(home),
        home / "checkpoints",
        cache,
        run_storage=run_storage,
        on_begin=teller.begin,
        on_step=teller.step_done,
        on_epoch=on_epoch,
        on_pretrain=teller.pretrain_step_done,
        wrap=wrap,
        shard=shard,
    )


def news_path(home: Path, key: str) -> Path:
    """Where the worker of a training tells how far it is."""
    return home / "progress" / f"{key}.json"


def run_job(
    job: Job,
    key: str,
    results: ResultStore,
    checkpoints: Path,
    cache: DecodedCache,
    *,
    run_storage: RunStorage | None = None,
    on_begin: Callable[[], None] | None = None,
    on_step: Callable[[int, float], None] | None = None,
    on_epoch: OnEpoch | None = None,
    on_pretrain: OnPretrain | None = None,
    wrap: Callable[[nn.Module], nn.Module] | None = None,
    shard: Shard | None = None,
) -> None:
    """Train `job` and leave its result in `results`; continue from its checkpoint where there is one.

    The result is a folder: `weights.pt`, `logits.parquet` (validation and test clips), `result.json`. Another process
    that trains the same on this disk is waited for, unless there are several of each (`shard`): it may be what a lost
    cluster left.

    Args:
        key: the job's, as the driver computed it: the code may have been edited since.
        cache: what is trained does not depend on it.
        run_storage: where checkpoint and result are copied to as well.
        on_begin: told once, by the first process only, when nobody else trains the same.
        on_step, on_epoch, wrap, shard: see `fit`.
        on_pretrain: told of every step before the classification, by the first process only.

    Raises:
        OutOfReachError: the run storage stayed away; the result is on this machine, or training goes on from here.
    """
    with claimed(checkpoints, key) if shard is None else nullcontext():
        if shard is None and key in results:  # the process that was waited for has trained it
            return
        if on_begin is not None and (shard is None or shard.rank == 0):
            on_begin()
        checkpoint, pretrained = checkpoints / f"{key}.pt", checkpoints / f"{key}.pretrain.pt"
        kept = [pretrained, checkpoint] if job.num_pretrain_epochs else [checkpoint]
        keep_pretrained: OnEpoch | None = None
        if run_storage is not None:
            for path in kept:
                run_storage.fetch_checkpoint(path, afresh=shard is not None)  # so that all processes begin alike
            keep_pretrained = CheckpointKeeper(run_storage, pretrained)
            on_epoch = CheckpointKeeper(run_storage, checkpoint, then=on_epoch)
        torch.set_num_threads(job.recipe.threads)
        device = choose_device(job.gpus)
        if device.type == "cpu":
            reuse_freed_memory()
        videos = training_videos(job, job.store, job.preprocessing, cache)
        preprocessing = with_flow_scale(job.preprocessing, job.train, videos)
        model = build_network(job, device)
        train_set = ClipDataset(job.train, videos, preprocessing, job.augment, job.recipe.seed)
        val_set = ClipDataset(job.val, videos, preprocessing) if job.val else None
        with MachineWatch() as machine:
            pretraining = _pretrain(
                model, job, train_set, device, pretrained, keep_pretrained, on_pretrain, wrap, shard
            )
            trained = with_branches(model, job, device)
            fitted = fit(
                trained,
                job.objective.make(job, preprocessing, device, cache),
                train_set,
                val_set,
                job.recipe,
                device=device,
                checkpoint=checkpoint,
                on_step=on_step,
                on_epoch=on_epoch,
                wrap=wrap,
                shard=shard,
            )
        if shard is not None and shard.rank > 0:
            return
        trained.load_state_dict(fitted.state)
        fitted = replace(fitted, state={name: value.cpu() for name, value in model.state_dict().items()})
        scored = ClipDataset([*job.val, *job.test], videos, preprocessing)
        with results.writing(key) as folder:
            write_result(folder, job, model, fitted, pretraining, scored, device, machine=machine.samples)
        if run_storage is not None:
            run_storage.keep_result(key, results.path(key))
            for path in kept:
                run_storage.forget_checkpoint(path)
            forget_checkpoints(checkpoints, key)  # which on a worker's own disk nobody else would do


@contextmanager
def claimed(checkpoints: Path, key: str) -> Iterator[None]:
    """Be the only one on this disk that trains `key`, after waiting for another one; who is killed has it no more."""
    checkpoints.mkdir(parents=True, exist_ok=True)
    from filelock import FileLock

    path = checkpoints / f"{key}.lock"
    with FileLock(path):
        yield
        path.unlink(missing_ok=True)  # whoever waits for it will find a result


def _pretrain(
    model: VideoClassifier,
    job: Job,
    train_set: ClipDataset,
    device: torch.device,
    checkpoint: Path,
    keep: OnEpoch | None,
    on_pretrain: OnPretrain | None,
    wrap: Callable[[nn.Module], nn.Module] | None,
    shard: Shard | None,
) -> list[EpochResult]:
    """Train `model` in place by contrast first, where the job wants that; how each epoch went."""
    epochs, loss = job.num_pretrain_epochs, math.nan
    if not epochs:
        return []

    def on_step(epoch: int, share: float) -> None:
        if on_pretrain is not None:
            on_pretrain(epoch + share, epochs, loss)

    def on_epoch(result: EpochResult) -> None:
        nonlocal loss
        loss = result.train_loss
        if keep is not None:
            keep(result)
        on_step(result.epoch, 1.0)

    return pretrain(
        model,
        train_set,
        job.recipe,
        labels=job.labels,
        epochs=epochs,
        device=device,
        checkpoint=checkpoint,
        on_step=on_step,
        on_epoch=on_epoch,
        wrap=wrap,
        shard=shard,
    )
