"""From params to trainings: one job for each fold of a network, and one for its release model."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

from kineflow.data.clips import num_window_frames
from kineflow.data.frame_labels import BACKGROUND
from kineflow.data.preprocessing import Preprocessing, Stream, decode_px
from kineflow.data.readers import StreamStore
from kineflow.data.views import Augment
from kineflow.errors import ParamsError
from kineflow.params import AugmentParams, NetworkName, Params, StreamParams, TrainParams, as_json
from kineflow.stages import paths
from kineflow.stages.folds.dataset import RELEASE, Dataset
from kineflow.stages.folds.transfer import check_unseen, finetune_of, tell_weights, weights_key
from kineflow.stages.network_checks import check_network, of_key
from kineflow.stages.stage import StageReport
from kineflow.stages.weights_manifest import weights_file
from kineflow.training.finetune import MOMENTUM_READERS, Finetune
from kineflow.training.job import Job, ObjectiveConfig
from kineflow.training.model_config import ModelConfig
from kineflow.training.precision import choose_device, choose_precision
from kineflow.training.recipe import Recipe
from kineflow.training.self_supervision.branches import check_branches
from kineflow.training.self_supervision.config import SelfSupervision
from kineflow.video.flow_store import FlowReader
from kineflow.video.pose_store import PoseReader


def stream_jobs(params: Params, dataset: Dataset, stream: NetworkName, report: StageReport) -> list[Job]:
    """One job for each fold of a stream, as the stage `train` trains it."""
    config = params.streams[stream]
    source: Stream = "embedding" if config.model.startswith("embedding.") else stream
    objective_of = classification_of(params)
    return plan(
        params, dataset, source, config, name=stream, epochs=config.epochs, objective_of=objective_of, report=report
    )


def classification_of(params: Params) -> Callable[[int], ObjectiveConfig]:
    """The plain classification objective for every fold."""
    train = params.train
    return lambda fold: ObjectiveConfig(train.label_smoothing, train.class_weights, train.focal_gamma)


def plan(
    params: Params,
    dataset: Dataset,
    stream: Stream,
    config: StreamParams,
    *,
    name: str,
    epochs: int,
    objective_of: Callable[[int], Any],
    report: StageReport,
) -> list[Job]:
    """One job for each fold; `release_job` makes the last.

    With `train.batch_size: auto` they have the size that `train.lr_batch_size` is for, until another one is found.

    Args:
        name: rgb, flow, pose or student.
        objective_of: the objective of a fold (-1 for the release model).
    """
    train = params.train
    key = f"streams.{'rgb' if name == 'student' else name}"
    check_network(config, task=params.task, key=key)
    store = StreamStore.of(stream, paths.STORES[stream])
    augment = _augment(train.augment)
    smallest_crop = min(augment.smallest_crop, train.crop_scale or 1.0)
    preprocessing = _preprocessing(params, config, store, stream=stream, smallest_crop=smallest_crop)
    channels = preprocessing.num_channels or store.num_features
    weights = weights_file(paths.WEIGHTS, weights_key(name), config.weights)
    model = ModelConfig(
        name=config.model,
        task=params.task,
        num_classes=len(dataset.classes),
        in_channels=channels,
        dropout=config.dropout,
        weights=None if weights is None else str(weights),
        options=config.options,
    )
    self_supervision = _self_supervision(config, name)
    if self_supervision is not None and self_supervision.has_branches:
        with of_key(f"{key}.self_supervision"):
            input_CTHW = (channels, preprocessing.num_frames, *preprocessing.model_size_px)
            check_branches(model, self_supervision, input_CTHW=input_CTHW)
    device = choose_device(train.gpus_per_fold)
    precision, why = choose_precision(train.precision, device)
    report.note(f"training {config.model} on {device.type} in {precision}: {why}")
    if weights is not None:
        check_unseen(weights, source=str(config.weights), judged=dataset.judged, sha256=dataset.sha256)
        tell_weights(model, str(config.weights), report)
    finetune = finetune_of(config.finetune, model, epochs=epochs, report=report)
    ensemble = params.release.form == "fold_ensemble"
    return [
        Job(
            name=f"{name} fold {fold}",
            model=model,
            store=store,
            classes=dataset.classes,
            labels=params.labels,
            train=dataset.training_clips(dataset.clips(fold, "train")),
            val=dataset.clips(fold, "val"),
            test=dataset.clips(RELEASE, "test") if ensemble else [],
            preprocessing=preprocessing,
            augment=augment,
            recipe=_recipe(
                train,
                classes=dataset.classes,
                negative_class=_negative_class(params, dataset.classes),
                epochs=epochs,
                lr=config.lr,
                seed=params.seed * 1000 + fold,
                precision=precision,
                finetune=finetune,
            ),
            fold=fold,
            gpus=train.gpus_per_fold,
            workers=train.workers_per_fold,
            self_supervision=self_supervision,
            objective=objective_of(fold),
        )
        for fold in dataset.folds
    ]


def release_job(fold_job: Job, dataset: Dataset, *, name: str, epochs: int, objective: Any) -> Job:
    """The refit on every development clip, like `fold_job` but for `epochs` epochs."""
    return replace(
        fold_job,
        name=f"{name} release",
        train=dataset.training_clips(dataset.development),
        val=[],
        test=dataset.clips(RELEASE, "test"),
        recipe=replace(fold_job.recipe, epochs=epochs, seed=fold_job.recipe.seed + 500),
        fold=RELEASE,
        objective=objective,
    )


def _preprocessing(
    params: Params, config: StreamParams, store: StreamStore, *, stream: Stream, smallest_crop: float
) -> Preprocessing:
    """How the network's input is made, with `flow_scale_px` still to be estimated."""
    return Preprocessing(
        task=params.task,
        stream=stream,
        fps=params.frames.fps,
        frames=as_json(params.frames),
        flow=flow_of(store, params) if stream == "flow" else None,
        pose=_pose_of(store, params) if stream == "pose" else None,
        sampling=config.sampling,
        num_frames=_num_frames(params, config),
        frame_stride=config.frame_stride,
        height_px=config.height_px,
        width_px=config.width_px,
        decode_height_px=decode_px(config.height_px, smallest_crop=smallest_crop),
        decode_width_px=decode_px(config.width_px, smallest_crop=smallest_crop),
        subtract_background=config.subtract_background,
        flow_scale_px=1.0,
        num_views=params.train.num_views,
        short_clips=config.short_clips,
        input=config.input,
        crops=params.train.crops,
        crop_scale=params.train.crop_scale or 1.0,
        motion_scale=config.motion_scale,
    )


def _augment(ranges: AugmentParams) -> Augment:
    values = as_json(ranges) | {"any_frame": ranges.segment_frame == "random"}
    del values["segment_frame"]
    values["crop_scale_min"] = 1.0 if ranges.crop_scale_min is None else ranges.crop_scale_min
    values["crop_scales"] = tuple(ranges.crop_scales or ())
    return Augment(**values)


def flow_of(store: StreamStore, params: Params) -> dict[str, Any]:
    """How the stored flow was made, as its files say."""
    rule = FlowReader(store.root / f"{next(iter(store.keys))}.zip").rule
    return {"rule": asdict(rule), "jpeg_quality": params.flow.jpeg_quality, "weights": params.flow.weights}


def _pose_of(store: StreamStore, params: Params) -> dict[str, Any]:
    """How the stored skeletons were found and drawn, as their files say."""
    rule = PoseReader(store.root / f"{next(iter(store.keys))}.zip").rule
    return {"rule": asdict(rule), "path": params.pose.path, "weights": params.pose.weights}


def _num_frames(params: Params, config: StreamParams) -> int:
    if params.task == "clip":
        return config.num_frames
    assert params.clips.window_sec is not None  # kineflow.params holds that for task frame
    return num_window_frames(params.clips.window_sec, fps=params.frames.fps)


def _self_supervision(config: StreamParams, name: str) -> SelfSupervision | None:
    """Of a stream; the student has its teacher instead."""
    given = config.self_supervision
    return None if given is None or name == "student" else SelfSupervision(**given.model_dump())


def _indices(names: Sequence[str] | None, classes: Sequence[str]) -> tuple[int, ...] | None:
    """Where the classes of `train.watch_classes` are among the model's.

    Raises:
        ParamsError: one of them is not there.
    """
    if names is None:
        return None
    unknown = sorted(set(names) - set(classes))
    if unknown:
        raise ParamsError(f"train.watch_classes: {unknown[0]!r} is no class; there are {', '.join(classes)}")
    return tuple(sorted(classes.index(name) for name in names))


def _negative_class(params: Params, classes: Sequence[str]) -> int | None:
    """Which of the model's classes negatives have; None where they have none."""
    negatives = params.clips.negatives
    label = BACKGROUND if params.task == "frame" else negatives.label if negatives else None
    return classes.index(label) if label in classes else None


def usual_batch(train: TrainParams) -> int:
    """Clips of a batch that the streams' `lr` are for as they stand."""
    assert train.lr_batch_size is not None  # kineflow.params holds that for batch_size: auto
    return max(1, train.lr_batch_size // train.accumulation)


def with_batch_size(job: Job, batch_size: int, train: TrainParams) -> Job:
    """`job`, planned with `train.batch_size: auto`, as if params had said `batch_size`."""
    recipe = replace(job.recipe, batch_size=batch_size, lr=scaled_lr(job.recipe.lr, batch_size, train))
    return replace(job, recipe=recipe)


def scaled_lr(lr: float, batch_size: int, train: TrainParams) -> float:
    """A stream's `lr` for the steps that such batches make."""
    if train.lr_batch_size is None:
        return lr
    return lr * batch_size * train.accumulation / train.lr_batch_size


def _recipe(
    train: TrainParams,
    *,
    classes: Sequence[str],
    negative_class: int | None,
    epochs: int,
    lr: float,
    seed: int,
    precision: Any,
    finetune: Finetune | None,
) -> Recipe:
    batch_size = usual_batch(train) if train.batch_size == "auto" else train.batch_size
    optimizers = {train.optimizer, finetune.head_optimizer if finetune else train.optimizer}
    return Recipe(
        epochs=epochs,
        batch_size=batch_size,
        optimizer=train.optimizer,
        lr=lr if train.batch_size == "auto" else scaled_lr(lr, batch_size, train),
        weight_decay=train.weight_decay,
        schedule=train.schedule,
        warmup_fraction=train.warmup_fraction,
        label_smoothing=train.label_smoothing,
        grad_clip_norm=train.grad_clip_norm,
        ema_decay=train.ema_decay,
        eval_every=train.eval_every,
        select=train.select,
        momentum=train.momentum if optimizers & MOMENTUM_READERS else 0.0,  # or one training would have several keys
        betas=(train.betas[0], train.betas[1]),
        accumulation=train.accumulation,
        plateau_patience=train.plateau_patience,
        plateau_factor=train.plateau_factor,
        watch=train.watch,
        watch_classes=_indices(train.watch_classes, classes),
        early_stop=train.early_stop,
        sampler=train.sampler,
        negative_ratio=train.negative_ratio,
        negative_class=None if train.negative_ratio is None else negative_class,
        batch_norm=train.batch_norm,
        compile=train.compile,
        recompute=train.recompute,
        seed=seed,
        precision=precision,
        threads=train.threads_per_fold,
        finetune=finetune,
    )
