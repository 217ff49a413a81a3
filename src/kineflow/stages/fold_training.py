"""What the stages `train` and `distill` share: folds and release model of one network, and their outs.

Outs, in `models/<stream>/`: `folds/<k>/` and `release/` (bundles), `oof.parquet`, `test.parquet` (logits),
`curves.csv`, `summary.json`, `history.json`.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median_low
from typing import Any

import numpy as np
import pandas as pd

from kineflow.data.clips import extracted_frame_counts, num_window_frames
from kineflow.data.dataset import ClipItem
from kineflow.data.event_clips import Span, class_events
from kineflow.data.frame_labels import BACKGROUND, behaviours
from kineflow.data.items import clip_classes, clip_items, window_items
from kineflow.data.negatives import negative_starts
from kineflow.data.preprocessing import Preprocessing, Stream, decode_px
from kineflow.data.probabilities import Labels, to_logits, to_probs
from kineflow.data.readers import StreamStore
from kineflow.data.views import Augment
from kineflow.errors import ParamsError
from kineflow.models.describe import describe_model
from kineflow.models.registry import check_padded
from kineflow.params import AugmentParams, NetworkName, Params, StreamParams, TrainParams, as_json
from kineflow.stages import paths
from kineflow.stages.clip_rules import negative_rule, not_classes
from kineflow.stages.learned_labels import read_learned_labels
from kineflow.stages.stage import StageReport
from kineflow.stages.transfer import check_unseen, finetune_of, tell_weights, weights_key
from kineflow.stages.weights_manifest import read_weights, weights_file
from kineflow.storage import patience_sec
from kineflow.store import home, runs
from kineflow.tables import CLIPS, EVENTS, FOLDS, LOGITS, VIDEOS, read_table, write_table
from kineflow.training.bundle import Bundle, Member, write_bundle
from kineflow.training.finetune import Finetune
from kineflow.training.folds import Resources, train_jobs
from kineflow.training.job import Job, ObjectiveConfig
from kineflow.training.model_config import ModelConfig
from kineflow.training.precision import choose_device, choose_precision
from kineflow.training.recipe import Recipe
from kineflow.training.run_storage import RunStorage
from kineflow.training.self_supervision.config import SelfSupervision
from kineflow.video.flow_store import FlowReader
from kineflow.video.frame_store import FrameReader
from kineflow.video.pose_store import PoseReader

RELEASE = -1
CURVE_COLUMNS = ("epoch", "train_loss", "val_loss", "val_metric")


@dataclass(frozen=True)
class Dataset:
    """The clips of the data set with their roles.

    Args:
        classes: in the order of the models' outputs.
        items: every clip by clip_id.
        roles: clip ids by (fold, role), in the order of the clips table; fold -1 holds the role `test`.
        groups, sha256: of each video.
        redraw_starts: by clip_id of a negative, where training may draw it anew; validation and test never do.
        window_stride_sec: task frame: from one window to the next; None where they tile their video.
    """

    classes: tuple[str, ...]
    items: Mapping[str, ClipItem]
    roles: Mapping[tuple[int, str], list[str]]
    groups: Mapping[str, str]
    sha256: Mapping[str, str]
    redraw_starts: Mapping[str, tuple[Span, ...]] = field(default_factory=dict)
    window_stride_sec: float | None = None

    @property
    def folds(self) -> list[int]:
        """The fold numbers, in order."""
        return sorted({fold for fold, role in self.roles if role == "val"})

    def clips(self, fold: int, role: str) -> list[ClipItem]:
        """The clips of a role in a fold, in a stable order."""
        return [self.items[clip_id] for clip_id in self.roles.get((fold, role), [])]

    def training_clips(self, items: list[ClipItem]) -> list[ClipItem]:
        """The same clips, with the places where negatives are drawn anew."""
        return [replace(item, redraw_starts=self.redraw_starts.get(item.clip_id, ())) for item in items]

    @property
    def judged(self) -> dict[str, str]:
        """The group of every video that a clip for validation or test is of."""
        ids = [clip_id for (_, role), of_role in self.roles.items() if role != "train" for clip_id in of_role]
        return {self.items[clip_id].video_id: self.groups[self.items[clip_id].video_id] for clip_id in ids}

    @property
    def development(self) -> list[ClipItem]:
        """Every clip that is not for test."""
        in_test = set(self.roles.get((RELEASE, "test"), []))
        in_folds = {clip_id for (fold, _), ids in self.roles.items() if fold != RELEASE for clip_id in ids}
        return [item for clip_id, item in self.items.items() if clip_id in in_folds - in_test]


def load_dataset(params: Params) -> Dataset:
    """Read the tables of the workspace."""
    clips = read_table(paths.CLIPS, CLIPS)
    folds = read_table(paths.FOLDS, FOLDS)
    videos = read_table(paths.VIDEOS, VIDEOS)
    if params.task == "clip":
        classes = clip_classes(clips)
        items = clip_items(clips, classes)
    else:
        labels = read_learned_labels(params, videos)
        classes = tuple(behaviours(labels))
        sources = {v: FrameReader(paths.FRAMES / f"{v}.zip").source_frames for v in clips["video_id"].unique()}
        items = window_items(clips, labels, sources)
    order = {clip_id: position for position, clip_id in enumerate(items)}
    roles: dict[tuple[int, str], list[str]] = {}
    for fold, role, clip_id in folds[["fold", "role", "clip_id"]].itertuples(index=False):
        roles.setdefault((int(fold), role), []).append(clip_id)
    roles = {key: sorted(ids, key=order.__getitem__) for key, ids in roles.items()}
    by_video = videos.set_index("video_id")
    return Dataset(
        classes,
        items,
        roles,
        by_video["group"].to_dict(),
        by_video["sha256"].to_dict(),
        redraw_starts=_redraw_starts(params, videos, clips),
        window_stride_sec=params.clips.stride_sec if params.task == "frame" else None,
    )


def _redraw_starts(params: Params, videos: pd.DataFrame, clips: pd.DataFrame) -> dict[str, tuple[Span, ...]]:
    """By clip_id of each negative: where in its video a training epoch may draw it anew; empty if none is redrawn."""
    negatives, fps = params.clips.negatives, params.frames.fps
    if negatives is None or not negatives.redraw:
        return {}
    events = read_table(paths.EVENTS, EVENTS)
    drawn = clips["origin"] == "negative"
    wanted = class_events(events, classes=params.clips.classes, not_classes=not_classes(params.clips))
    num_frames = extracted_frame_counts(videos, fps=fps)
    found: dict[str, tuple[Span, ...]] = {}
    for window, of_length in clips[drawn].groupby(clips["stop_frame"] - clips["start_frame"]):
        starts = negative_starts(
            events, wanted, clips[~drawn], num_frames, fps=fps, window=int(window), rule=negative_rule(negatives)
        )
        pairs = zip(of_length["clip_id"], of_length["video_id"], strict=True)
        found |= {clip_id: tuple(starts[video_id]) for clip_id, video_id in pairs}
    return found


def stream_jobs(params: Params, dataset: Dataset, stream: NetworkName, report: StageReport) -> list[Job]:
    """One job for each fold of a stream, as the stage `train` trains it."""
    config = params.streams[stream]
    source: Stream = "embedding" if config.model.startswith("embedding.") else stream
    objective_of = classification_of(params)
    return plan(
        params, dataset, source, config, name=stream, epochs=config.epochs, objective_of=objective_of, report=report
    )


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

    Args:
        name: rgb, flow, pose or student.
        objective_of: the objective of a fold (-1 for the release model).
    """
    train = params.train
    device = choose_device(train.gpus_per_fold)
    precision, why = choose_precision(train.precision, device)
    report.note(f"training {config.model} on {device.type} in {precision}: {why}")
    store = StreamStore.of(stream, paths.STORES[stream])
    augment = _augment(train.augment)
    smallest_crop = min(augment.smallest_crop, train.crop_scale or 1.0)
    preprocessing = Preprocessing(
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
        num_views=train.num_views,
        short_clips=config.short_clips,
        input=config.input,
        crops=train.crops,
        crop_scale=train.crop_scale or 1.0,
    )
    channels = preprocessing.num_channels or store.num_features
    if config.short_clips == "pad":
        check_padded(config.model)
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
            self_supervision=_self_supervision(config, name),
            objective=objective_of(fold),
        )
        for fold in dataset.folds
    ]


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
    if train.lr_batch_size is not None:
        lr = lr * train.batch_size * train.accumulation / train.lr_batch_size
    return Recipe(
        epochs=epochs,
        batch_size=train.batch_size,
        optimizer=train.optimizer,
        lr=lr,
        weight_decay=train.weight_decay,
        schedule=train.schedule,
        warmup_fraction=train.warmup_fraction,
        label_smoothing=train.label_smoothing,
        grad_clip_norm=train.grad_clip_norm,
        ema_decay=train.ema_decay,
        eval_every=train.eval_every,
        select=train.select,
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


def resources_of(train: TrainParams) -> Resources:
    """What params and the environment give each training."""
    kept = runs()
    return Resources(
        threads=train.threads_per_fold,
        workers=train.workers_per_fold,
        max_failures=train.max_failures,
        cache_bytes=int(train.cache_gb * 1e9),
        run_storage=None if kept is None else RunStorage(kept.rstrip("/"), patience_sec()),
    )


def train_network(
    params: Params,
    dataset: Dataset,
    jobs: list[Job],
    *,
    name: str,
    objective_of: Callable[[int], Any],
    report: StageReport,
) -> None:
    """Train folds and release model, and write `models/<name>/`."""
    train = params.train
    resources = resources_of(train)
    refit = params.release.form == "refit"
    release: Job | None = None
    if refit and train.select == "last":  # needs no fold's best epoch, so it may train beside the folds
        release = release_job(
            jobs[0], dataset, name=name, epochs=jobs[0].recipe.epochs, objective=objective_of(RELEASE)
        )
    together = [*jobs, release] if release else jobs
    folders, skipped = train_jobs(together, home(), resources, label=report.stage, say=report.note)
    if refit and release is None:
        epochs = median_low([_result(folders[job.key])["best_epoch"] for job in jobs])
        release = release_job(jobs[0], dataset, name=name, epochs=epochs, objective=objective_of(RELEASE))
        more, skipped_too = train_jobs([release], home(), resources, label=report.stage, say=report.note)
        folders, skipped = folders | more, skipped + skipped_too
    report.items, report.skipped = len(folders), skipped
    _write_outs(paths.MODELS / name, name, dataset, jobs, release, folders)


def _write_outs(
    out: Path, name: str, dataset: Dataset, jobs: list[Job], release: Job | None, folders: Mapping[str, Path]
) -> None:
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    oof, ensembled, curves = [], [], []
    for job in jobs:
        logits = read_table(folders[job.key] / "logits.parquet", LOGITS)
        in_val = logits["clip_id"].isin([item.clip_id for item in job.val])
        oof.append(logits[in_val])
        ensembled.append(logits[~in_val])
        for epoch in _result(folders[job.key])["curves"]:
            curves.append(
                {"fold": job.fold, **{k: epoch[k] for k in ("epoch", "train_loss", "val_loss", "val_metric")}}
            )
        _bundle(out / "folds" / str(job.fold), name, dataset, [job], folders)
    write_table(out / "oof.parquet", LOGITS, pd.concat(oof, ignore_index=True))
    if release is not None:
        test = read_table(folders[release.key] / "logits.parquet", LOGITS)
    else:
        test = mean_logits(ensembled, jobs[0].labels)
    write_table(out / "test.parquet", LOGITS, test)
    pd.DataFrame(curves).to_csv(out / "curves.csv", index=False)
    _bundle(out / "release", name, dataset, [release] if release else jobs, folders)
    summary = _summary(name, dataset, jobs, release, folders)
    (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    write_history(out, {job.fold: _result(folders[job.key]) for job in (*jobs, *([release] if release else []))})


def write_history(out: Path, results: Mapping[int, Mapping[str, Any]]) -> None:
    """`history.json`: of each training, by its fold, how its epochs went and what the machine was busy with."""
    kept = ("best_epoch", "seconds", "curves", "machine")
    rows = [{"fold": fold} | {name: result[name] for name in kept} for fold, result in results.items()]
    (out / "history.json").write_text(json.dumps(rows, indent=1) + "\n")


def _bundle(out: Path, name: str, dataset: Dataset, jobs: list[Job], folders: Mapping[str, Path]) -> None:
    members = tuple(
        Member(
            stream=name,
            model=replace(job.model, weights=None),
            preprocessing=Preprocessing.from_json(_result(folders[job.key])["preprocessing"], where=folders[job.key]),
            precision=job.recipe.precision,
            weights=f"model_{index}.pt",
        )
        for index, job in enumerate(jobs)
    )
    videos = sorted({item.video_id for job in jobs for item in job.train})
    bundle = Bundle(
        root=out,
        task=jobs[0].model.task,
        classes=dataset.classes,
        members=members,
        training_videos=tuple(dataset.sha256[video] for video in videos),
        training_groups=tuple(dataset.groups[video] for video in videos),
        labels=jobs[0].labels,
        window_stride_sec=dataset.window_stride_sec,
    )
    weights = {member.weights: folders[job.key] / "weights.pt" for member, job in zip(members, jobs, strict=True)}
    write_bundle(bundle, weights)


def mean_logits(tables: list[pd.DataFrame], labels: Labels) -> pd.DataFrame:
    """The logits of the mean probability of the fold models; empty without test clips."""
    first = tables[0].reset_index(drop=True)
    classes = LOGITS.extra_columns([str(name) for name in first.columns])
    probs_NK = np.mean([to_probs(table[classes].to_numpy(), labels) for table in tables], axis=0)
    first[classes] = to_logits(probs_NK, labels)
    return first.assign(fold=RELEASE)


def _summary(
    name: str, dataset: Dataset, jobs: list[Job], release: Job | None, folders: Mapping[str, Path]
) -> dict[str, Any]:
    job = jobs[0]
    results = {job.fold: _result(folders[job.key]) for job in jobs}
    _, num_frames, height_px, width_px = job.input_CTHW
    model, loaded = job.model.load(seed=0)
    described = describe_model(model, num_frames=num_frames, height_px=height_px, width_px=width_px)
    return {
        "stream": name,
        "model": job.model.name,
        "classes": list(dataset.classes),
        "task": job.model.task,
        "labels": job.labels,
        "num_params": described.num_parameters,
        "macs": described.macs,
        "input_shape": list(job.input_CTHW),
        "precision": job.recipe.precision,
        "device": results[job.fold]["device"],
        "weights": None if loaded is None else {"source": _source(name), **loaded.to_json()},
        "recipe": job.recipe.to_json(),
        "augment": asdict(job.augment),
        "objective": job.objective.key["kind"],
        "preprocessing": results[job.fold]["preprocessing"],
        "release": {
            "form": "refit" if release else "fold_ensemble",
            "epochs": release.recipe.epochs if release else None,
        },
        "folds": [
            {
                "fold": fold,
                "best_epoch": result["best_epoch"],
                "seconds": result["seconds"],
                "val_loss": result["curves"][result["best_epoch"] - 1]["val_loss"],
                "val_metric": result["curves"][result["best_epoch"] - 1]["val_metric"],
            }
            for fold, result in results.items()
        ],
    }


def _source(name: str) -> str:
    """What params say of the weights that a network started from."""
    return read_weights(paths.WEIGHTS)[weights_key(name)].source


def _result(folder: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return result


def classification_of(params: Params) -> Callable[[int], ObjectiveConfig]:
    """The plain classification objective for every fold."""
    train = params.train
    return lambda fold: ObjectiveConfig(train.label_smoothing, train.class_weights, train.focal_gamma)
