"""Params of training: the loop and its resources, augmentation, distillation."""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from kineflow.params.section import Fraction, NonNegativeFloat, NonNegativeInt, Scale, Section

Beta = Annotated[float, Field(ge=0, lt=1)]


class AugmentParams(Section):
    """Random changes of a training clip; each is constant over the clip."""

    flip: bool  # horizontal; negates x of the flow. Off where left and right are classes
    crop_scale_min: Scale | None  # crops anywhere: the smallest, as a fraction of the image; 1: the whole image
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

    batch_size: PositiveInt | Literal["auto"]  # auto: found by trying, once for all folds
    accumulation: PositiveInt  # batches of a step; the last step of an epoch may have fewer
    lr_batch_size: PositiveInt | None  # the streams' lr are for steps of so many clips, and scale; null: as they stand
    optimizer: Literal["sgd", "adam", "adamw", "swats"]
    momentum: Beta  # of SGD, and of SWATS once it is SGD
    betas: Annotated[list[Beta], Field(min_length=2, max_length=2)]  # of Adam and what is made of it
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
    watch_classes: Annotated[list[str], Field(min_length=1)] | None  # of F1 and average precision; null: all
    early_stop: PositiveInt | None  # validations without a better one that end a fold's training; null: never
    batch_norm: Literal["batch", "frozen", "precise"]
    num_views: PositiveInt | Literal["all"]  # test-time windows in time whose probabilities are averaged
    crops: Literal[
        "whole", "mirrored", "center", "three", "ten"
    ]  # of each window; their probabilities are averaged too
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
    def _rate_of_a_found_batch(self) -> Self:
        if self.batch_size == "auto" and self.lr_batch_size is None:
            raise ValueError("batch_size: auto needs lr_batch_size, the clips of the steps that the streams' lr is for")
        return self

    @model_validator(mode="after")
    def _one_way_to_draw(self) -> Self:
        if self.negative_ratio is not None and self.sampler != "each_once":
            raise ValueError(f"negative_ratio and sampler: {self.sampler} both say what is drawn; write each_once")
        return self

    @model_validator(mode="after")
    def _classes_of_a_mean(self) -> Self:
        if self.watch_classes is not None and self.watch not in ("macro_f1", "average_precision"):
            raise ValueError(f"watch_classes is for means over classes, not for watch: {self.watch}; write null")
        return self

    @model_validator(mode="after")
    def _crops_have_a_size(self) -> Self:
        is_whole = self.crops in ("whole", "mirrored")
        if is_whole != (self.crop_scale is None):
            raise ValueError(f"crops: {self.crops} wants crop_scale {'null' if is_whole else 'given'}")
        if self.crops == "mirrored" and not self.augment.flip:
            raise ValueError("crops: mirrored judges mirror images, which training saw with augment.flip: true alone")
        return self


class DistillParams(Section):
    """An RGB student that learns from a teacher of the same fold: the features of flow (MARS), or the say of fv."""

    enabled: bool
    teacher: Literal["flow", "fv"]
    epochs: PositiveInt
    feature_weight: NonNegativeFloat  # teacher flow: of the mean squared error between pooled features
    prob_weight: NonNegativeFloat  # teacher fv: of the cross-entropy with its probabilities
