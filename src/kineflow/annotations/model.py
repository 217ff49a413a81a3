"""What every annotation reader returns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kineflow.errors import AnnotationError

if TYPE_CHECKING:
    import numpy as np

MAX_SHOWN = 5
MAX_CHARS = 400  # of one problem: a broken file may be one long line


@dataclass(frozen=True)
class Event:
    """One label at one time of one video.

    Args:
        video_id: the video's key.
        label: its class or behaviour, without blanks around it.
        start_sec: from the first frame; None where the label holds for the whole video.
        stop_sec: None for a point event and for the whole video.
        subject: which animal or person, or an empty string.
        source: `file:row` that it was read from; rows count from 1, the header included.
    """

    video_id: str
    label: str
    start_sec: float | None
    stop_sec: float | None
    subject: str
    source: str


@dataclass(frozen=True)
class FrameTable:
    """Labels of every frame of one video.

    Args:
        behaviours: names of the columns.
        values: int8 (frames, behaviours): 0, 1, or -1 where unlabelled.
        source: the file they were read from.
    """

    behaviours: tuple[str, ...]
    values: "np.ndarray"
    source: str


@dataclass(frozen=True)
class Annotations:
    """All that an annotation file says about the videos, in its own order.

    Args:
        events: labels with or without times.
        frame_tables: by video, where the format labels frames.
        groups: by video, where the format states groups.
        columns: by video, every other column of the file by its name.
        roles: by video, `train`, `val` or `test` of an official split.
        classes: where the format lists them, in its order.
    """

    events: Sequence[Event] = ()
    frame_tables: Mapping[str, FrameTable] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=dict)
    classes: tuple[str, ...] | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """Every label that occurs, in the order of `classes` where given, else sorted."""
        names = {event.label for event in self.events}
        names.update(name for table in self.frame_tables.values() for name in table.behaviours)
        if self.classes is None:
            return tuple(sorted(names))
        return tuple(name for name in self.classes if name in names)


class MalformedAnnotationsError(AnnotationError):
    """Every problem found in the annotation files; the message shows the first five and their number.

    Args:
        problems: one sentence each, beginning with `file:row`.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        shown = "; ".join(self.problems[:MAX_SHOWN])
        more = len(self.problems) - MAX_SHOWN
        count = f" (the first {MAX_SHOWN} of {len(self.problems)} problems)" if more > 0 else ""
        super().__init__(f"annotations do not fit: {shown}{count}")


@dataclass
class Problems:
    """Collects what is wrong, so that one run shows all of it."""

    found: list[str] = field(default_factory=list)

    def add(self, source: str, text: str) -> None:
        """Note `text` (what is wrong and what to do) about `source`, a `file:row`."""
        self.take(f"{source}: {text}")

    def take(self, sentence: object) -> None:
        """Note a sentence, or an error whose message is one, on one line; the middle of a long one is left out."""
        text = " ".join(str(sentence).splitlines())
        half = MAX_CHARS // 2
        self.found.append(text if len(text) <= MAX_CHARS else f"{text[:half]} ... {text[-half:]}")

    def raise_if_any(self) -> None:
        """Raise MalformedAnnotationsError if anything was noted."""
        if self.found:
            raise MalformedAnnotationsError(self.found)
