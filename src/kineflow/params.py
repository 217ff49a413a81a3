"""The typed, strict view of `params.yaml`: every value a run depends on, each with its meaning.

There are no defaults here: the file holds every value, and the presets in `params/` are whole files.
Unknown keys, wrong types and impossible combinations are refused by `load_params`, naming the key.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, Self, TypeVar, get_args

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from kineflow.errors import ParamsError

Fraction = Annotated[float, Field(ge=0, le=1)]
Scale = Annotated[float, Field(gt=0, le=1)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
NetworkName = Literal["rgb", "flow", "pose"]  # streams that a network learns
StreamName = Literal[NetworkName, "fv"]
NETWORK_NAMES: tuple[NetworkName, ...] = get_args(NetworkName)
STREAM_NAMES: tuple[StreamName, ...] = get_args(StreamName)
Labels = Literal["exclusive", "independent"]  # exactly one of the classes, or any of them
METRICS: dict[tuple[str, Labels], tuple[str, ...]] = {  # that a promotion may go by, as evaluation names them
    ("clip", "exclusive"): ("video_top1_acc", "video_macro_f1", "video_mean_class_acc", "video_log_loss"),
    ("clip", "independent"): ("video_mAP", "video_macro_f1", "video_exact_match"),
    ("frame", "exclusive"): ("frame_macro_f1", "frame_top1_acc", "frame_mean_class_acc", "frame_log_loss"),
    ("frame", "independent"): ("frame_macro_f1", "frame_mAP", "frame_top1_acc"),
}
S = TypeVar("S", bound="Section")


class Section(BaseModel):
    """A part of params.yaml: frozen, strict, closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class SampleParams(Section):
    """The procedurally rendered data set; `sync` renders what of it is missing."""

    folder: str  # where it is rendered: `clips/` with clips.csv, `videos/` with videos.csv
    seed: NonNegativeInt
    num_groups: PositiveInt
    clips_per_class_per_group: NonNegativeInt
    clip_sec: PositiveFloat
    fps: PositiveInt
    size_px: PositiveInt
    long_videos_per_group: NonNegativeInt
    long_sec: PositiveFloat


class DataParams(Section):
    """Where the videos and their annotations are."""

    name: str  # of the data set: in the registry and in data/assignments.csv
    source: str  # a folder, or an s3://bucket/prefix
    annotations: str  # a file or folder, or an s3:// URI; format-dependent
    format: Literal[
        "class_folders",
        "manifest",
        "ucf101",
        "frame_csv",
        "boris_csv",
        "boris_project",
        "hmdb51",
        "path_label",
        "activitynet",
        "kinetics",
        "something_something",
        "via_csv",
    ]
    group_from: str  # annotations | video | folder | column:NAME | regex:PATTERN (first group, on the video's key)
    keep: Literal["reference", "dvc"]  # leave raw videos where they are, or put them under DVC


class RoiParams(Section):
    """What of each frame is looked at. A key that its kind does not use is null."""

    kind: Literal["full", "boxes", "pose"]  # all; a fixed box for each video; a crop that follows a body part
    path: str | None  # boxes: a CSV; pose: a folder with one file of keypoints for each video
    bodypart: str | None  # pose: what is followed
    side_px: PositiveInt | None  # pose: of the square crop, in pixels of the video
    min_likelihood: Fraction | None  # pose: keypoints below it are not believed
    smooth_frames: PositiveInt | None  # pose: frames of the video that are averaged; odd, 1 does not smooth

    @model_validator(mode="after")
    def _keys_of_its_kind(self) -> Self:
        of_pose = ("bodypart", "side_px", "min_likelihood", "smooth_frames")
        wanted = {"full": (), "boxes": ("path",), "pose": ("path", *of_pose)}[self.kind]
        for name in ("path", *of_pose):
            if (getattr(self, name) is not None) != (name in wanted):
                raise ValueError(f"kind: {self.kind} wants {name} {'given' if name in wanted else 'null'}")
        if self.path is not None and self.path.startswith("s3://"):
            raise ValueError("path must be a local file or folder")
        if self.smooth_frames is not None and self.smooth_frames % 2 == 0:
            raise ValueError("smooth_frames must be odd")
        return self


class FramesParams(Section):
    """How frames are extracted. Either both `height_px` and `width_px`, or `short_side_px`."""

    fps: PositiveFloat  # resampled by time
    height_px: PositiveInt | None
    width_px: PositiveInt | None
    short_side_px: PositiveInt | None
    jpeg_quality: Annotated[int, Field(ge=1, le=100)]
    roi: RoiParams

    @model_validator(mode="after")
    def _one_way_to_size(self) -> Self:
        fixed = self.height_px is not None and self.width_px is not None
        if fixed == (self.short_side_px is not None) or (self.height_px is None) != (self.width_px is None):
            raise ValueError("give either height_px and width_px, or short_side_px, and null for the rest")
        return self


class FlowParams(Section):
    """How optical flow is computed and quantised to 8 bits (zero is 128, the bound is 127 steps away)."""

    method: Literal["dis_fast", "dis_medium", "farneback", "tvl1", "raft_small", "raft_large"]
    weights: str | None  # of RAFT: a local file or `torchvision:NAME`; null for the other methods
    bound_px: PositiveFloat  # displacements beyond it are clipped
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] | None  # null: lossless PNG

    @model_validator(mode="after")
    def _weights_of_networks(self) -> Self:
        if self.method.startswith("raft_") and self.weights is None:
            raise ValueError(f"method {self.method} needs weights: a local file, or torchvision:{self.method}")
        if not self.method.startswith("raft_") and self.weights is not None:
            raise ValueError(f"weights are for raft_small and raft_large; write null for {self.method}")
        return self


class PoseParams(Section):
    """Where keypoints come from, and how skeletons are drawn; of use where streams.pose is enabled."""

    source: Literal["files", "keypointrcnn"]  # files made before, or torchvision's network on the extracted frames
    path: str | None  # files: a folder or s3:// prefix, with one file or OpenPose folder for each video
    weights: str | None  # keypointrcnn: a local file or `torchvision:NAME`
    limbs: list[Annotated[list[str], Field(min_length=2, max_length=2)]] | None  # null: those of the file or its layout
    min_likelihood: Fraction  # a joint below it is not drawn, nor are its limbs
    line_width: Annotated[float, Field(gt=0, le=0.5)]  # of a limb, as a fraction of the shorter side of a frame

    @model_validator(mode="after")
    def _keys_of_its_source(self) -> Self:
        if self.source == "files" and self.weights is not None:
            raise ValueError("weights are for source: keypointrcnn; write null for files")
        if self.source == "keypointrcnn" and self.path is not None:
            raise ValueError("path is for source: files; write null for keypointrcnn")
        return self


class EmbedParams(Section):
    """Frozen features of every frame (task frame), for models named `embedding.*`."""

    enabled: bool
    backbone: str
    weights: str | None  # a local file, `timm:NAME`, `torchvision:NAME`, or null for seeded random features
    height_px: PositiveInt
    width_px: PositiveInt
    precision: Literal["fp32", "fp16"]


class NegativesParams(Section):
    """Clips that show no class, drawn from long videos."""

    label: str | None  # the class that they are given; null with overlap: keep, where they have none
    ratio: PositiveFloat  # negatives for each clip of an event
    within: list[str]  # labels of state events that a negative lies inside; they are no classes. Empty: anywhere
    min_distance_sec: NonNegativeFloat  # to every event of a class
    redraw: bool  # another place in the same video every epoch, in training only


class ClipsParams(Section):
    """What one clip is. Task clip: whole videos or annotated events. Task frame: windows."""

    from_: Literal["videos", "events"] = Field(alias="from")
    window_sec: PositiveFloat | None  # length of a window; task clip from events: null for whole state events
    stride_sec: PositiveFloat | None  # from window to window; null: the window's length
    position: Literal["start", "centre", "end"]  # of a point event in its window
    margin_sec: float  # a window begins this much earlier than `position` says, a state event counts from there
    states: Literal["whole", "windows"]  # with window_sec: a state event is one clip, or windows inside it
    overlap: Literal["separate", "drop", "first", "keep"]  # of clips of different labels; keep: a clip may have several
    frame_labels: Labels  # task frame: one behaviour or the background in each frame, or each behaviour by itself
    classes: list[str] | None  # labels of events that are classes; null: all
    without_support: Literal["refuse", "leave_out"]  # a class with too few clips, or in one group only
    negatives: NegativesParams | None
    min_frames: PositiveInt  # shorter clips are refused by a gate

    @model_validator(mode="after")
    def _events_together(self) -> Self:
        if self.negatives is not None and (self.from_ != "events" or self.window_sec is None):
            raise ValueError("negatives needs from: events and a window_sec, the length of a negative")
        if self.negatives is not None and self.negatives.label in (self.classes or []):
            raise ValueError("negatives.label is one of classes; give negatives another label")
        if self.negatives is not None and (self.negatives.label is None) != (self.overlap == "keep"):
            raise ValueError("negatives.label is null with overlap: keep, where they show no class, and text otherwise")
        if self.stride_sec is not None and self.window_sec is None:
            raise ValueError("stride_sec needs a window_sec")
        return self

    def refuse_what_only_clips_have(self) -> None:
        """Raise ValueError for keys that task frame does not look at, where they ask for something."""
        unused = {"position": "centre", "margin_sec": 0.0, "states": "whole", "overlap": "separate", "classes": None}
        for key, plain in unused.items():
            if getattr(self, key) != plain:
                written = "null" if plain is None else plain
                raise ValueError(
                    f"clips.{key} is for task clip; task frame learns every frame label, so write {written}"
                )


class SplitsParams(Section):
    """Who is trained on and who is tested on; a group never crosses."""

    kind: Literal["group_kfold", "leave_one_group_out", "official", "file"]  # file: data/folds.csv, written by hand
    num_folds: Annotated[int, Field(ge=2)]  # of group_kfold and official
    num_repeats: PositiveInt  # of the folds of group_kfold and official, each dealt with another seed
    test: Literal["none", "groups", "official", "named", "file"]
    test_fraction: Fraction  # of the groups, for test: groups
    test_names: list[str]  # groups or videos, for test: named; the whole group of a video is held out

    @model_validator(mode="after")
    def _together(self) -> Self:
        for kind in ("official", "file"):
            if (self.kind == kind) != (self.test == kind):
                raise ValueError(f"kind: {kind} and test: {kind} go together")
        if (self.test == "named") != bool(self.test_names):
            raise ValueError("test: named and test_names go together")
        if self.num_repeats > 1 and self.kind not in ("group_kfold", "official"):
            raise ValueError(f"num_repeats is 1 with kind: {self.kind}, whose folds are always the same")
        return self


class ValidationParams(Section):
    """Rules of the gates that a data set may loosen: `stop` ends the run, `warn` reports."""

    min_clips_per_class: PositiveInt
    max_quarantined_fraction: Fraction
    subjects: list[str] | None  # that events may name; null: any
    exclusive: list[Annotated[list[str], Field(min_length=2)]]  # of each a subject shows at most one at a time
    severity: dict[str, Literal["stop", "warn"]]  # by rule name; unnamed rules have their own default


class FinetuneParams(Section):
    """How a model that starts from `weights` is trained: pooling and head first, then the backbone's top blocks."""

    head_epochs: NonNegativeInt  # of the stream's epochs: pooling and head train alone, the backbone stays as it is
    head_optimizer: Literal["sgd", "adamw"]  # of those epochs
    head_lr: PositiveFloat  # of those epochs
    top_blocks: NonNegativeInt | None  # nearest the output, that train afterwards with pooling and head; 0: none
    top_fraction: Fraction | None  # the same as a fraction of the backbone's blocks; 1: all. One of the two is null
    blocks_lr_factor: Annotated[float, Field(gt=0, le=1)]  # of the last block's rate, times the stream's lr
    lr_decay_per_block: Annotated[float, Field(gt=0, le=1)]  # from each block to the one before it

    @model_validator(mode="after")
    def _one_way_to_count(self) -> Self:
        if (self.top_blocks is None) == (self.top_fraction is None):
            raise ValueError("give either top_blocks or top_fraction, and null for the other")
        return self


class SelfSupervisionParams(Section):
    """What a stream's model learns from the training clips themselves, beside their labels or before them."""

    direction_weight: NonNegativeFloat  # of the loss of the arrow of time, trained beside classification; 0: none
    tracking_weight: NonNegativeFloat  # of the loss of tracking by cycles, trained beside classification; 0: none
    patch_fraction: Annotated[float, Field(gt=0, lt=1)]  # side of the tracked patch, of the image's
    num_past: PositiveInt  # steps into the past
    gap: PositiveInt  # frames of the clip from one step to the next
    branch_after: str  # the backbone's layer that the branches read, for example stages.0
    pretrain_epochs: NonNegativeInt  # of contrastive training before classification; 0: none


class StreamParams(Section):
    """One input stream and its model."""

    enabled: bool
    model: str  # backbone.pooling, see `kineflow models`
    options: dict[str, int | float | str | bool]  # of the model; `kineflow models` lists them
    weights: str | None  # a local file, `timm:NAME`, `torchvision:NAME`, or null to start from scratch
    sampling: Literal["segments", "dense"]  # segments over the whole clip, or consecutive frames
    num_frames: PositiveInt
    frame_stride: PositiveInt  # dense sampling only
    short_clips: Literal["loop", "pad"]  # their frames again, or padding that the model leaves out
    height_px: PositiveInt  # model input
    width_px: PositiveInt
    input: Literal["stored", "difference", "orientation"]  # difference: of neighbouring frames, rgb; orientation: flow
    subtract_background: bool  # rgb from a camera that does not move: only what moves is seen
    epochs: PositiveInt
    lr: PositiveFloat
    dropout: Fraction
    finetune: FinetuneParams | None  # null: the whole model trains from the first epoch on, at one rate
    self_supervision: SelfSupervisionParams | None  # null: labels alone

    @model_validator(mode="after")
    def _padding_is_of_dense_clips(self) -> Self:
        if self.short_clips == "pad" and self.sampling != "dense":
            raise ValueError("short_clips: pad needs sampling: dense; segments are as many in every clip")
        return self

    @model_validator(mode="after")
    def _finetune_together(self) -> Self:
        if self.finetune is None:
            return self
        if self.weights is None:
            raise ValueError("finetune needs weights to start from; without, every part must train: write null")
        if self.self_supervision is not None:
            raise ValueError("finetune and self_supervision exclude each other; write null for one")
        if self.finetune.head_epochs >= self.epochs:
            raise ValueError(f"finetune.head_epochs are some of the {self.epochs} epochs, and must be fewer")
        return self


class CellParams(Section):
    """One size of the cells that motion descriptors are made of: each is 2 x 2 cells large and 3 long."""

    cell_px: Annotated[int, Field(ge=2)]  # height and width, in pixels of the described frame
    cell_flows: PositiveInt  # length, in flows


class FisherParams(Section):
    """Fisher vectors of motion descriptors and linear support vector machines: a stream without a network."""

    enabled: bool
    short_side_px: PositiveInt  # frames and flow are averaged down to it before they are described
    scales: Annotated[list[CellParams], Field(min_length=1)]
    channels: Annotated[list[Literal["hof", "mbh", "hog"]], Field(min_length=1)]
    track: bool  # descriptors move on with the flow
    num_components: PositiveInt  # principal components of the descriptors of a channel
    num_gaussians: PositiveInt  # of the mixture of a channel
    svm_c: PositiveFloat  # higher: training clips matter more, simplicity less
    window_sec: PositiveFloat | None  # task frame: of the windows that slide over a video; null on task clip

    @model_validator(mode="after")
    def _each_channel_once(self) -> Self:
        if len(set(self.channels)) < len(self.channels):
            raise ValueError("channels names one twice")
        return self


class StreamsParams(Section):
    """The streams; a disabled one keeps its place in the graph with an explicit `disabled` out."""

    rgb: StreamParams
    flow: StreamParams
    pose: StreamParams
    fv: FisherParams

    @property
    def enabled(self) -> tuple[StreamName, ...]:
        """Names of the enabled streams, in the order of the graph."""
        return tuple(name for name in STREAM_NAMES if getattr(self, name).enabled)

    @property
    def networks(self) -> tuple[NetworkName, ...]:
        """Names of the enabled streams that a network learns."""
        return tuple(name for name in NETWORK_NAMES if self[name].enabled)

    def __getitem__(self, name: NetworkName) -> StreamParams:
        stream = getattr(self, name, None)
        if not isinstance(stream, StreamParams):
            raise ParamsError(f"unknown network stream {name!r}; known: {', '.join(NETWORK_NAMES)}")
        return stream

    @model_validator(mode="after")
    def _at_least_one(self) -> Self:
        if not self.enabled:
            raise ValueError("enable at least one stream")
        for name in NETWORK_NAMES:
            if name != "rgb" and self[name].subtract_background:
                raise ValueError(f"{name}.subtract_background is for rgb; {name} has no background")
            if name != "rgb" and self[name].input == "difference":
                raise ValueError(f"{name}.input: difference is for rgb; write stored")
            if name != "flow" and self[name].input == "orientation":
                raise ValueError(f"{name}.input: orientation is for flow; write stored")
            if name != "rgb" and self[name].enabled and self[name].model.startswith("embedding."):
                raise ValueError(f"{name}.model: embedding.* is for rgb; embeddings are of frames")
        return self


class AugmentParams(Section):
    """Random changes of a training clip; each is constant over the clip."""

    flip: bool  # horizontal; negates x of the flow. Off where left and right are classes
    crop_scale_min: Scale | None  # crops anywhere: the smallest side, as a fraction of the image; 1: the whole image
    crop_scales: Annotated[list[Scale], Field(min_length=1)] | None  # instead: multi-scale crops at 13 places
    rotation_deg: Annotated[float, Field(ge=0, le=180)]  # within +- this angle
    zoom: NonNegativeFloat  # times e^+-this
    shift: Fraction  # within +- this fraction of the crop, down and to the right
    brightness: NonNegativeFloat  # rgb: offset within +- this fraction
    contrast: Fraction  # rgb: gain around the middle, within 1 +- this
    saturation: Fraction  # rgb: distance from grey, times 1 +- this
    hue: Annotated[float, Field(ge=0, le=0.5)]  # rgb: within +- this fraction of the colour circle
    amplitude: NonNegativeFloat  # flow: times e^+-this
    time_jitter: Fraction  # of a segment, or of the free room of a dense clip
    segment_frame: Literal["middle", "random"]  # rgb, pose: which frame of a segment
    mixup: NonNegativeFloat  # both parameters of the beta distribution of the share; 0 for none
    cutmix: NonNegativeFloat

    @model_validator(mode="after")
    def _one_kind_of_crop(self) -> Self:
        if (self.crop_scale_min is None) == (self.crop_scales is None):
            raise ValueError("give either crop_scale_min or crop_scales, and null for the other")
        if self.crop_scales is not None and self.crop_scales != sorted(set(self.crop_scales), reverse=True):
            raise ValueError("crop_scales must fall, as [1.0, 0.875, 0.75, 0.66]")
        return self


class TrainParams(Section):
    """The training loop and its resources."""

    batch_size: PositiveInt
    accumulation: PositiveInt  # batches of a step; the last step of an epoch may have fewer
    lr_batch_size: PositiveInt | None  # the streams' lr are for steps of so many clips, and scale; null: as they stand
    optimizer: Literal["sgd", "adam", "adamw", "swats"]
    betas: Annotated[list[Fraction], Field(min_length=2, max_length=2)]  # of Adam and what is made of it
    weight_decay: NonNegativeFloat
    schedule: Literal["constant", "linear", "cosine", "plateau"]
    plateau_patience: PositiveInt  # validations without a better one before the rate falls; schedule: plateau
    plateau_factor: Annotated[float, Field(gt=0, lt=1)]  # by which it falls
    warmup_fraction: Fraction
    sampler: Literal["each_once", "balanced", "square_root"]  # which clips an epoch draws
    negative_ratio: PositiveFloat | None  # negatives that an epoch draws for each positive; null: all that there are
    class_weights: Literal["none", "balanced"]  # of the loss; balanced: inverse to how often a class is shown
    focal_gamma: NonNegativeFloat  # above 0: what the model is sure of already counts less in the loss
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    grad_clip_norm: PositiveFloat | None
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None
    eval_every: PositiveInt  # epochs
    select: Literal["best", "last"]  # which epoch's weights a fold keeps, by what is watched
    watch: Literal["loss", "accuracy", "macro_f1", "average_precision", "top1_top3"]  # on the validation clips
    watch_classes: list[str] | None  # that F1 and average precision are the mean of; null: all
    early_stop: PositiveInt | None  # validations without a better one that end a fold's training; null: never
    batch_norm: Literal["batch", "frozen", "precise"]
    num_views: PositiveInt | Literal["all"]  # test-time windows in time whose probabilities are averaged
    crops: Literal["whole", "center", "three", "ten"]  # of each window; their probabilities are averaged too
    crop_scale: Scale | None  # of these crops, as a fraction of the largest of the input's shape; null for whole
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    compile: bool  # by torch.compile
    recompute: bool  # activations inside the backbone's blocks, to save memory
    threads_per_fold: PositiveInt
    workers_per_fold: PositiveInt  # data-parallel; above 1 by Ray Train
    gpus_per_fold: NonNegativeFloat  # used when there is a GPU
    max_failures: NonNegativeInt  # restarts of a fold whose worker dies
    cache_gb: NonNegativeFloat  # of decoded videos on disk; 0 for none
    augment: AugmentParams

    @model_validator(mode="after")
    def _one_way_to_draw(self) -> Self:
        if self.negative_ratio is not None and self.sampler != "each_once":
            raise ValueError(f"negative_ratio and sampler: {self.sampler} both say what is drawn; write each_once")
        return self

    @model_validator(mode="after")
    def _crops_have_a_size(self) -> Self:
        if (self.crops == "whole") != (self.crop_scale is None):
            raise ValueError(f"crops: {self.crops} wants crop_scale {'null' if self.crops == 'whole' else 'given'}")
        return self


class DistillParams(Section):
    """An RGB student that learns from a teacher of the same fold: the features of flow (MARS), or the say of fv."""

    enabled: bool
    teacher: Literal["flow", "fv"]
    epochs: PositiveInt
    feature_weight: NonNegativeFloat  # teacher flow: of the mean squared error between pooled features
    prob_weight: NonNegativeFloat  # teacher fv: of the cross-entropy with its probabilities


class EvaluateParams(Section):
    """What models are compared with, and how they are fused."""

    baselines: list[Literal["majority", "metadata", "hof"]]
    fusion: Literal["equal"]


class ReleaseParams(Section):
    """The model that is scored on test, registered and loaded for prediction."""

    stream: Literal[StreamName, "fusion", "student"]
    form: Literal["refit", "fold_ensemble"]


class RegisterParams(Section):
    """Where the model goes in the registry."""

    model_name: str


class PromotionParams(Section):
    """When a challenger becomes the champion."""

    metric: str  # a key of metrics.json under cv.<stream> and test.<stream>
    min_gain: float  # the challenger must score at least this much more
    min_clips: PositiveInt  # fewer clips to compare on: refused
    beat_baselines: bool  # cross-validated score above every baseline


class PruneParams(Section):
    """When a trial of a search ends early: successive halving (ASHA) over folds."""

    after_folds: PositiveInt  # a trial is first judged then, and again whenever that many times 1/keep are done
    keep: Annotated[float, Field(gt=0, lt=1)]  # this share of the trials goes on


Value = int | float | str | bool | None
RangeKind = Literal["choice", "grid", "uniform", "loguniform", "int_range"]


class SearchParams(Section):
    """What `kineflow search` tries: other values of keys that training reads, each scored by cross-validation."""

    stream: NetworkName  # whose training a trial is
    metric: str | None  # a trial's score, the mean over the folds; null: promotion.metric
    algorithm: Literal["grid", "random", "tpe", "pbt"]
    num_trials: PositiveInt | None  # of random and tpe; the population of pbt; null for grid
    num_generations: PositiveInt | None  # of pbt, else null
    prune: PruneParams | None  # null: every trial sees every fold
    space: dict[str, dict[RangeKind, list[Value]]]  # by key of params.yaml, what to try

    @model_validator(mode="after")
    def _together(self) -> Self:
        if not self.space:
            raise ValueError("space is empty; name a key and what to try, such as train.batch_size: {choice: [8, 16]}")
        for key, tried in self.space.items():
            _check_range(key, tried)
        kinds = {kind for tried in self.space.values() for kind in tried}
        if self.algorithm == "grid" and kinds != {"grid"}:
            raise ValueError("algorithm: grid tries every combination, so every key of space is a grid: [...]")
        if self.algorithm in ("tpe", "pbt") and "grid" in kinds:
            raise ValueError(f"algorithm: {self.algorithm} draws from every key of space; write choice, not grid")
        if (self.num_trials is None) != (self.algorithm == "grid"):
            raise ValueError("num_trials is null for algorithm: grid, which tries all, and a number for the others")
        if (self.num_generations is None) == (self.algorithm == "pbt"):
            raise ValueError("num_generations is a number for algorithm: pbt, and null for the others")
        if self.algorithm == "pbt" and self.prune is not None:
            raise ValueError("prune is null for algorithm: pbt, whose generations replace the worst trials")
        if self.algorithm == "pbt" and self.num_trials == 1:
            raise ValueError("num_trials is the population of algorithm: pbt, which needs at least 2")
        return self


def _check_range(key: str, tried: dict[RangeKind, list[Value]]) -> None:
    """Refuse, with a ValueError, what is no range of values for `key` of a search's space."""
    if len(tried) != 1:
        raise ValueError(f"space: {key} wants exactly one of {', '.join(get_args(RangeKind))}")
    ((kind, values),) = tried.items()
    where = f"space: {key}: {{{kind}: {values}}}"
    if kind in ("choice", "grid"):
        if not values or any(value in values[:i] for i, value in enumerate(values)):
            raise ValueError(f"{where} wants values, each of them once")
        return
    is_int = kind == "int_range"
    numbers = [v for v in values if isinstance(v, int if is_int else int | float) and not isinstance(v, bool)]
    if len(numbers) != len(values) or len(values) not in ((2, 3) if is_int else (2,)):
        form = "whole numbers [low, high] or [low, high, step]" if is_int else "two numbers [low, high]"
        raise ValueError(f"{where} wants {form}; YAML takes 1e-4 for text, so write 1.0e-4")
    if not numbers[0] < numbers[1] or min(numbers[2:], default=1) < 1:
        raise ValueError(f"{where} is empty; low must be below high, and a step at least 1")
    if kind == "loguniform" and numbers[0] <= 0:
        raise ValueError(f"{where} wants a low above 0")


class Params(Section):
    """All of params.yaml."""

    task: Literal["clip", "frame"]
    seed: NonNegativeInt
    data: DataParams
    sample: SampleParams | None
    frames: FramesParams
    flow: FlowParams
    pose: PoseParams
    embed: EmbedParams
    clips: ClipsParams
    splits: SplitsParams
    validation: ValidationParams
    streams: StreamsParams
    train: TrainParams
    distill: DistillParams
    evaluate: EvaluateParams
    release: ReleaseParams
    register_: RegisterParams = Field(alias="register")
    promotion: PromotionParams
    search: SearchParams | None  # null: nothing to search

    @property
    def labels(self) -> Labels:
        """Whether a clip (a frame, on task frame) has exactly one of the classes, or any of them."""
        if self.task == "frame":
            return self.clips.frame_labels
        return "independent" if self.clips.overlap == "keep" else "exclusive"

    @property
    def needs_flow(self) -> bool:
        """Whether a stream or a baseline uses flow."""
        return self.streams.flow.enabled or self.streams.fv.enabled or "hof" in self.evaluate.baselines

    def _check_distillation(self) -> None:
        distill, teacher = self.distill, self.distill.teacher
        if not {"rgb", teacher} <= set(self.streams.enabled):
            raise ValueError(f"distill.enabled needs streams.rgb and streams.{teacher} enabled")
        if teacher == "flow" and distill.prob_weight:
            raise ValueError("distill.prob_weight is for teacher: fv; write 0 for flow, whose features are matched")
        if teacher == "fv" and distill.feature_weight:
            raise ValueError("distill.feature_weight must be 0 for teacher: fv, which has no features of a network")
        if teacher == "fv" and self.task == "frame":
            raise ValueError("distill.teacher: fv is for task clip; write flow")
        if teacher == "fv" and self.clips.negatives is not None and self.clips.negatives.redraw:
            raise ValueError("distill.teacher: fv judges negatives where they are; set clips.negatives.redraw: false")

    @model_validator(mode="after")
    def _possible_together(self) -> Self:
        enabled = self.streams.enabled
        if self.distill.enabled:
            self._check_distillation()
        if self.release.stream == "fusion" and len(enabled) < 2:
            raise ValueError("release.stream: fusion needs two enabled streams")
        if self.release.stream == "student" and not self.distill.enabled:
            raise ValueError("release.stream: student needs distill.enabled")
        if self.release.stream in STREAM_NAMES and self.release.stream not in enabled:
            raise ValueError(f"release.stream: {self.release.stream} is not enabled under streams")
        needed = {"files": "path", "keypointrcnn": "weights"}[self.pose.source]
        if self.streams.pose.enabled and getattr(self.pose, needed) is None:
            raise ValueError(f"streams.pose.enabled with pose.source: {self.pose.source} needs pose.{needed}")
        if self.release.form == "refit" and self.train.schedule == "plateau":
            raise ValueError(
                "train.schedule: plateau watches validation clips, which a refit has none of: write linear or "
                "cosine, or release.form: fold_ensemble"
            )
        if self.train.early_stop is not None and self.train.select == "last":
            raise ValueError("train.early_stop needs train.select: best; with last a release model trains all epochs")
        if self.task == "frame" and self.clips.window_sec is None:
            raise ValueError("clips.window_sec is the length of the windows of task frame, and must be given")
        if self.streams.fv.enabled and (self.streams.fv.window_sec is None) == (self.task == "frame"):
            raise ValueError("streams.fv.window_sec is for task frame, where it must be given; null on task clip")
        if self.task == "clip" and self.clips.from_ == "videos" and self.clips.window_sec is not None:
            raise ValueError("clips.window_sec is for task frame and for clips.from: events, null for whole videos")
        if self.task == "frame":
            self.clips.refuse_what_only_clips_have()
        if self.task == "frame" and self.clips.negatives is not None:
            raise ValueError("clips.negatives is for task clip; unlabelled behaviours of a frame are its negatives")
        if self.task == "clip" and self.clips.negatives is None and self.train.negative_ratio is not None:
            raise ValueError("train.negative_ratio needs clips.negatives, which it draws from; write null without them")
        known = METRICS[self.task, self.labels]
        if self.promotion.metric not in known:
            raise ValueError(f"promotion.metric: task {self.task} with {self.labels} labels has {', '.join(known)}")
        if self.promotion.metric.endswith("_log_loss") and self.promotion.beat_baselines:
            raise ValueError("promotion.beat_baselines must be false for a log loss, which baselines do not have")
        if self.embed.enabled and self.task != "frame":
            raise ValueError("embed.enabled is for task frame")
        uses_embeddings = self.streams.rgb.enabled and self.streams.rgb.model.startswith("embedding.")
        if uses_embeddings and not self.embed.enabled:
            raise ValueError("streams.rgb.model: embedding.* needs embed.enabled")
        finetune = self.streams.rgb.finetune
        if self.distill.enabled and finetune is not None and finetune.head_epochs >= self.distill.epochs:
            raise ValueError("streams.rgb.finetune.head_epochs must be fewer than distill.epochs too")
        if uses_embeddings and self.distill.enabled:
            raise ValueError("distill.enabled needs a student that sees pixels, not streams.rgb.model: embedding.*")
        if uses_embeddings and (self.train.crops != "whole" or self.train.augment.cutmix > 0):
            raise ValueError("streams.rgb.model: embedding.* has no image: wants train.crops: whole and cutmix: 0")
        return self

    @model_validator(mode="after")
    def _views_that_there_are(self) -> Self:
        rgb = self.streams.rgb
        sparse = [n for n in NETWORK_NAMES if self.streams[n].enabled and self.streams[n].sampling != "dense"]
        if self.train.num_views == "all" and (sparse or self.task == "frame"):
            raise ValueError("train.num_views: all is for task clip, with sampling: dense in every enabled stream")
        if rgb.input == "difference" and rgb.subtract_background:
            raise ValueError("streams.rgb.input: difference leaves no background; write subtract_background: false")
        if rgb.input == "difference" and self.task == "clip" and rgb.num_frames == 1:
            raise ValueError("streams.rgb.input: difference needs a num_frames above 1")
        if rgb.input == "difference" and rgb.model.startswith("embedding."):
            raise ValueError("streams.rgb.input: difference needs a model that sees pixels, not embedding.*")
        return self


def load_params(path: Path) -> Params:
    """Read and check `path`.

    Raises:
        ParamsError: the file is missing or no YAML, or a key is unknown, missing, of the wrong type or impossible.
    """
    try:
        text = path.read_text()
    except FileNotFoundError as err:
        raise ParamsError(f"{path} is not there; `kineflow use sample` writes one") from err
    except (IsADirectoryError, UnicodeDecodeError) as err:
        raise ParamsError(f"{path} is no text file in UTF-8; `kineflow use sample` writes one") from err
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as err:
        raise ParamsError(f"{path} is not valid YAML: {' '.join(str(err).split())}") from err
    return parse_params(values, where=str(path))


def parse_params(values: Any, *, where: str) -> Params:
    """Check a mapping as `load_params` does; `where` names it in errors."""
    try:
        return Params.model_validate(values)
    except ValidationError as err:
        raise ParamsError(f"{where}: {'; '.join(_explain(error) for error in err.errors())}") from err


def only(params: Params, keys: Sequence[str]) -> Params:
    """The same params with every section withheld that `keys` (as in a stage's `params:` list) do not name.

    Reading a withheld section is a bug in the stage, and raises AttributeError.
    """
    return _withhold(params, keys, prefix="")


def as_json(section: Section) -> dict[str, Any]:
    """A section as plain JSON values, named as in params.yaml."""
    return section.model_dump(mode="json", by_alias=True)


class Withheld:
    """Stands in for a section that the stage did not declare."""

    def __init__(self, key: str) -> None:
        self._key = key

    def _refuse(self, *_: object) -> NoReturn:
        raise AttributeError(f"params {self._key} is read but not declared in the stage's PARAMS")

    __getattr__ = __eq__ = __bool__ = __iter__ = __str__ = __format__ = __hash__ = _refuse


def _withhold(section: S, keys: Sequence[str], prefix: str) -> S:
    values: dict[str, Any] = {}
    for name, info in type(section).model_fields.items():
        key = prefix + (info.alias or name)
        value = getattr(section, name)
        inner = [k for k in keys if k.startswith(key + ".")]
        if key in keys:
            values[name] = value
        elif inner and isinstance(value, Section):
            values[name] = _withhold(value, inner, key + ".")
        else:
            values[name] = Withheld(key)
    return type(section).model_construct(**values)


def _explain(error: Any) -> str:
    key = ".".join(str(part) for part in error["loc"]) or "params"
    if error["type"] == "extra_forbidden":
        return f"{key}: unknown key"
    if error["type"] == "missing":
        return f"{key}: missing"
    message = str(error["msg"]).removeprefix("Value error, ")
    given = error["input"]
    shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool) else ""
    return f"{key}: {message[0].lower()}{message[1:]}{shown}"
