"""Params of the streams: what each model sees, what it is, and where it starts from."""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from kineflow.errors import ParamsError
from kineflow.params.section import (
    NETWORK_NAMES,
    STREAM_NAMES,
    Fraction,
    NetworkName,
    NonNegativeFloat,
    NonNegativeInt,
    Section,
    StreamName,
)


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
    branch_after: Annotated[str, Field(min_length=1)]  # the backbone's layer that the branches read, such as stages.0
    pretrain_epochs: NonNegativeInt  # of contrastive training before classification; 0: none

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        if not (self.direction_weight or self.tracking_weight or self.pretrain_epochs):
            raise ValueError(
                "direction_weight, tracking_weight and pretrain_epochs are all 0, so nothing would be learned: give "
                "one of them, or write self_supervision: null"
            )
        return self


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
    motion_scale: Literal["training", "clip"]  # flow is divided by its strength in the training clips, or in its own
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
            if name != "flow" and self[name].motion_scale == "clip":
                raise ValueError(f"{name}.motion_scale: clip is for flow; write training")
            if name != "rgb" and self[name].input == "difference":
                raise ValueError(f"{name}.input: difference is for rgb; write stored")
            if name != "flow" and self[name].input == "orientation":
                raise ValueError(f"{name}.input: orientation is for flow; write stored")
            if name != "rgb" and self[name].enabled and self[name].model.startswith("embedding."):
                raise ValueError(f"{name}.model: embedding.* is for rgb; embeddings are of frames")
        return self
