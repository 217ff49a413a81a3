"""One training as a value: everything its result depends on, and the function that carries it out."""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from torch import nn

from kineflow.data.dataset import ClipDataset, ClipItem, num_reads
from kineflow.data.decoded_cache import DecodedCache
from kineflow.data.open_videos import OpenVideos, plan_cache
from kineflow.data.preprocessing import Preprocessing, estimate_flow_scale
from kineflow.data.probabilities import Labels, to_logits
from kineflow.data.readers import StreamStore
from kineflow.data.views import Augment
from kineflow.models.classifier import VideoClassifier
from kineflow.models.describe import describe_model
from kineflow.parallel.memory import reuse_freed_memory
from kineflow.progress.machine import MachineWatch
from kineflow.store import ResultStore, digest, file_sha256, is_not_empty
from kineflow.tables import LOGITS, write_table
from kineflow.training.checkpoint import save_tensors
from kineflow.training.code_digest import code_digest
from kineflow.training.loop import FitResult, fit
from kineflow.training.model_config import ModelConfig
from kineflow.training.objectives import Classification, Objective, balanced_weights
from kineflow.training.precision import choose_device, lay_out
from kineflow.training.recipe import Recipe
from kineflow.training.recompute import recompute_activations
from kineflow.training.run_storage import CheckpointKeeper, RunStorage
from kineflow.training.scoring import predict_probs
from kineflow.training.self_supervision.branches import ClassifierWithBranches
from kineflow.training.self_supervision.config import SelfSupervision
from kineflow.training.self_supervision.contrastive import pretrain
from kineflow.training.self_supervision.direction import Kind, reverse_time
from kineflow.training.state import EpochResult, OnEpoch
from kineflow.training.steps import Shard

CODE = (
    "kineflow.models",
    "kineflow.training",
    "kineflow.data.dataset",
    "kineflow.data.mixing",
    "kineflow.data.negatives",
    "kineflow.data.preprocessing",
    "kineflow.data.probabilities",
    "kineflow.data.readers",
    "kineflow.data.sampling",
    "kineflow.data.views",
    "kineflow.video.dct_scale",
    "kineflow.video.feature_store",
)
RESULT_FILES = ("weights.pt", "logits.parquet", "result.json")
LIBRARIES = ("torch", "torchvision", "timm", "numpy", "opencv-contrib-python-headless")


ClassWeights = Literal["none", "balanced"]
OnPretrain = Callable[[float, int, float], None]  # epochs done with the share of this one, of how many, the last's loss


@dataclass(frozen=True)
class ObjectiveConfig:
    """Makes the objective of a job; distillation has its own kind.

    `key` is all that the objective depends on, as JSON values, and `code` the packages beside `CODE`.
    """

    label_smoothing: float
    class_weights: ClassWeights = "none"
    focal_gamma: float = 0.0
    code: ClassVar[tuple[str, ...]] = ()

    @property
    def key(self) -> dict[str, Any]:
        return {"kind": "classification", **asdict(self)}

    def make(self, job: "Job", preprocessing: Preprocessing, device: torch.device, cache: DecodedCache) -> Objective:
        """The objective of `job`, whose inputs are made by `preprocessing`."""
        return classification(job, self.label_smoothing, self.class_weights, self.focal_gamma)


@dataclass(frozen=True)
class Job:
    """One training: a fold, or the release model.

    Args:
        name: for people, for example `rgb fold 2`.
        model: what is trained.
        store: where the stream's videos are read.
        classes: in the order of the model's outputs.
        labels: whether they exclude each other.
        train: clips to train on. val: to watch; their logits are kept. test: only scored at the end.
        preprocessing: with `flow_scale_px` still to be estimated from the training clips.
        objective: what is minimised.
        fold: -1 for the release model.
        gpus: of a GPU, if there is one.
        workers: data-parallel processes, each of which normalises its own share of a batch.
        self_supervision: what is learned from the training clips beside their labels; None for nothing.
    """

    name: str
    model: ModelConfig
    store: StreamStore
    classes: tuple[str, ...]
    labels: Labels
    train: Sequence[ClipItem]
    val: Sequence[ClipItem]
    test: Sequence[ClipItem]
    preprocessing: Preprocessing
    augment: Augment
    recipe: Recipe
    fold: int
    gpus: float = 1.0
    workers: int = 1
    self_supervision: SelfSupervision | None = None
    objective: Any = field(default_factory=lambda: ObjectiveConfig(0.0))

    @cached_property
    def key(self) -> str:
        """The digest of everything that the result depends on."""
        return digest(
            model=asdict(replace(self.model, weights=None)),
            weights=None if self.model.weights is None else file_sha256(Path(self.model.weights)),
            classes=list(self.classes),
            labels=self.labels,
            videos={item.video_id: self.store.keys[item.video_id] for item in (*self.train, *self.val, *self.test)},
            train=[item_key(item) for item in self.train],
            val=[item_key(item) for item in self.val],
            test=[item_key(item) for item in self.test],
            preprocessing=self.preprocessing.to_json(),
            augment=asdict(self.augment),
            recipe=self.recipe.to_json(),
            objective=self.objective.key,
            fold=self.fold,
            device=choose_device(self.gpus).type,
            workers=self.workers,
            self_supervision=None if self.self_supervision is None else asdict(self.self_supervision),
            code=code_digest(*CODE, *self.objective.code),
            libraries={name: version(name) for name in LIBRARIES},
        )

    @property
    def input_CTHW(self) -> tuple[int, int, int, int]:
        """Shape of one input of the model."""
        made = self.preprocessing
        if made.stream == "embedding":
            return (self.model.in_channels, made.num_frames, 1, 1)
        return (self.model.in_channels, made.num_frames, *made.model_size_px)

    @property
    def num_pretrain_epochs(self) -> int:
        """Epochs before the classification."""
        return 0 if self.self_supervision is None else self.self_supervision.pretrain_epochs

    @property
    def num_forward_macs(self) -> int:
        """Multiply-accumulates of showing the model every training clip once."""
        _, num_frames, height_px, width_px = self.input_CTHW
        model = replace(self.model, weights=None).build(seed=0)
        described = describe_model(model, num_frames=num_frames, height_px=height_px, width_px=width_px)
        return described.macs * len(self.train)


def with_threads(job: Job, threads: int) -> Job:
    """`job` by no more threads than that, under the key that it has."""
    return replace(job, recipe=replace(job.recipe, threads=min(job.recipe.threads, threads)))


def classification(
    job: Job, label_smoothing: float, class_weights: ClassWeights, focal_gamma: float = 0.0
) -> Classification:
    """The classification loss of `job`; balanced weights come from its training clips alone."""
    if class_weights == "none":
        return Classification(job.labels, label_smoothing, focal_gamma=focal_gamma)
    targets = [item.target for item in job.train]
    weights = balanced_weights(targets, labels=job.labels, num_classes=len(job.classes))
    return Classification(job.labels, label_smoothing, weights, focal_gamma)


def run_job(
    job: Job,
    key: str,
    results: ResultStore,
    checkpoints: Path,
    cache: DecodedCache,
    *,
    run_storage: RunStorage | None = None,
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
        on_step, on_epoch, wrap, shard: see `fit`.
        on_pretrain: told of every step before the classification, by the first process only.

    Raises:
        OutOfReachError: the run storage stayed away; the result is on this machine, or training goes on from here.
    """
    if shard is not None:
        _train(job, key, results, checkpoints, cache, run_storage, on_step, on_epoch, on_pretrain, wrap, shard)
        return
    with claimed(checkpoints, key):
        if key not in results:
            _train(job, key, results, checkpoints, cache, run_storage, on_step, on_epoch, on_pretrain, wrap, None)


@contextmanager
def claimed(checkpoints: Path, key: str) -> Iterator[None]:
    """Be the only one on this disk that trains `key`, after waiting for another one; who is killed has it no more."""
    checkpoints.mkdir(parents=True, exist_ok=True)
    from filelock import FileLock

    path = checkpoints / f"{key}.lock"
    with FileLock(path):
        yield
        path.unlink(missing_ok=True)  # whoever waits for it will find a result


def _train(
    job: Job,
    key: str,
    results: ResultStore,
    checkpoints: Path,
    cache: DecodedCache,
    run_storage: RunStorage | None,
    on_step: Callable[[int, float], None] | None,
    on_epoch: OnEpoch | None,
    on_pretrain: OnPretrain | None,
    wrap: Callable[[nn.Module], nn.Module] | None,
    shard: Shard | None,
) -> None:
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
        pretraining = _pretrain(model, job, train_set, device, pretrained, keep_pretrained, on_pretrain, wrap, shard)
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
    if shard is None or shard.rank == 0:
        trained.load_state_dict(fitted.state)
        fitted = replace(fitted, state={name: value.cpu() for name, value in model.state_dict().items()})
        scored = ClipDataset([*job.val, *job.test], videos, preprocessing)
        with results.writing(key) as folder:
            folder.mkdir()
            seconds = sum(epoch.seconds for epoch in (*pretraining, *fitted.curves))  # also those before a kill
            _write_result(
                folder, job, model, fitted, pretraining, scored, device, seconds=seconds, machine=machine.samples
            )
        if run_storage is not None:
            run_storage.keep_result(key, results.path(key))
            for path in kept:
                run_storage.forget_checkpoint(path)
                path.unlink(missing_ok=True)  # which on a worker's own disk nobody else would do


def build_network(job: Job, device: torch.device) -> VideoClassifier:
    """The network of `job` as it is before the first step, on `device`."""
    model = lay_out(job.model.build(job.recipe.seed), device, job.recipe.precision).to(device)
    if job.recipe.recompute:
        recompute_activations(model, is_compiled=job.recipe.compile)
    return model


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


def with_branches(model: VideoClassifier, job: Job, device: torch.device) -> nn.Module:
    """What is trained in place of `model`, and holds it: branches learn with it where the job has some."""
    config = job.self_supervision
    if config is None or not config.has_branches:
        return model
    made = job.preprocessing
    stored: Kind = "flow" if made.stream == "flow" else "image"
    reverse = partial(reverse_time, kind=stored if made.input == "stored" else made.input)
    on_cpu = model.cpu()  # where the branches learn the shapes of the maps
    return ClassifierWithBranches(on_cpu, config, input_CTHW=job.input_CTHW, reverse=reverse).to(device)


def result_store(home: Path) -> ResultStore:
    """Where the results of jobs are kept, by their keys."""
    return ResultStore(home / "store" / "train", is_whole=_is_result)


def _is_result(folder: Path) -> bool:
    return all(is_not_empty(folder / name) for name in RESULT_FILES)


def training_videos(job: Job, store: StreamStore, preprocessing: Preprocessing, cache: DecodedCache) -> OpenVideos:
    """The videos of `store` for the whole of `job`, and a plan for the cache by how often each will be read."""
    recipe = job.recipe
    reads: Counter[str] = num_reads(job.train, preprocessing, looks=recipe.epochs)
    reads += num_reads(job.val, preprocessing, looks=recipe.epochs // recipe.eval_every + 1, in_test=True)
    reads += num_reads(job.test, preprocessing, looks=1, in_test=True)
    plan = plan_cache(cache, store, preprocessing, reads)
    return OpenVideos(lambda video_id: store.open(video_id, preprocessing), plan)


def with_flow_scale(preprocessing: Preprocessing, items: Sequence[ClipItem], videos: OpenVideos) -> Preprocessing:
    """The preprocessing with `flow_scale_px` estimated from up to 64 of the training clips."""
    if preprocessing.stream != "flow" or preprocessing.motion_scale == "clip":
        return preprocessing
    unscaled = replace(preprocessing, flow_scale_px=1.0)
    dataset = ClipDataset(items, videos, unscaled)
    chosen = np.linspace(0, len(items) - 1, min(64, len(items))).astype(int)
    scale = estimate_flow_scale(dataset.sample(int(i), epoch=0).clip for i in chosen)
    return replace(preprocessing, flow_scale_px=scale)


def logits_table(
    items: Sequence[ClipItem],
    probs: Sequence[np.ndarray],
    classes: Sequence[str],
    *,
    model: str,
    fold: int,
    task: str,
    labels: Labels,
) -> pd.DataFrame:
    """Rows of the logits table: one for each clip (task clip), or for each frame of each clip (task frame)."""
    frames = []
    for item, clip_probs in zip(items, probs, strict=True):
        rows = to_logits(np.atleast_2d(clip_probs), labels)
        table = pd.DataFrame(rows, columns=list(classes))
        table.insert(0, "frame", np.arange(item.start, item.start + len(rows)) if task == "frame" else None)
        table.insert(0, "video_id", item.video_id)
        table.insert(0, "clip_id", item.clip_id)
        frames.append(table)
    columns = [name for name, _ in LOGITS.columns] + list(classes)
    logits = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)
    logits["model"], logits["fold"] = model, fold
    return logits[columns].astype({"fold": "int64", "frame": "Int64", **dict.fromkeys(classes, "float32")})


def _write_result(
    folder: Path,
    job: Job,
    model: nn.Module,
    fitted: FitResult,
    pretraining: Sequence[EpochResult],
    scored: ClipDataset,
    device: torch.device,
    *,
    seconds: float,
    machine: Sequence[Mapping[str, float]],
) -> None:
    recipe = job.recipe
    probs = predict_probs(
        model, scored, labels=job.labels, batch_size=recipe.batch_size, device=device, precision=recipe.precision
    )
    logits = logits_table(
        scored.items,
        probs,
        job.classes,
        model=job.model.name,
        fold=job.fold,
        task=job.model.task,
        labels=job.labels,
    )
    write_table(folder / "logits.parquet", LOGITS, logits)
    save_tensors(folder / "weights.pt", fitted.state)
    result = {
        "fold": job.fold,
        "best_epoch": fitted.best_epoch,
        "seconds": round(seconds, 2),
        "device": device.type,
        "curves": [epoch.to_json() for epoch in fitted.curves],
        "pretraining": [{"epoch": epoch.epoch, "train_loss": epoch.train_loss} for epoch in pretraining],
        "machine": machine,
        "preprocessing": scored.preprocessing.to_json(),
    }
    (folder / "result.json").write_text(json.dumps(result, indent=1) + "\n")


def item_key(item: ClipItem) -> list[Any]:
    """All of a clip that a training depends on beside its video, as JSON values."""
    if isinstance(item.target, np.ndarray):
        target: Any = digest(values=np.nan_to_num(item.target, nan=-1.0).astype(int).tolist())
    else:
        target = item.target
    redrawn = [list(item.redraw_starts)] if item.redraw_starts else []
    return [item.clip_id, item.start, item.stop, target, *redrawn]
