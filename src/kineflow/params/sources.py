"""Params of what is seen: where videos are, and the frames, flow, skeletons and embeddings made of them."""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from kineflow.params.section import Fraction, NonNegativeInt, Section, Seed


class SampleParams(Section):
    """The procedurally rendered data set; `sync` renders what of it is missing."""

    folder: str  # where it is rendered: `clips/` with clips.csv, `videos/` with videos.csv
    seed: Seed
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
    precision: Literal["fp32", "bf16", "fp16"]  # of the stored features
