"""What every section of params.yaml is made of, and the names that several of them share."""

from typing import Annotated, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]
Scale = Annotated[float, Field(gt=0, le=1)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what every library draws from
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
