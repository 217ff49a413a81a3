"""Params of what is learned from: clips, folds, and the rules that gates hold them to."""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from kineflow.params.section import Fraction, Labels, NonNegativeFloat, Section


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
