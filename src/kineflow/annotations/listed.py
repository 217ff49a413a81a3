"""Whole videos with one label each, gathered from lists; what official lists have in common."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from kineflow.annotations.matching import UnknownVideoError, VideoIndex
from kineflow.annotations.model import Annotations, Event, Problems

ROLES = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validate": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


@dataclass
class Listed:
    """Videos found so far, each listed once; what does not fit is noted in `problems`.

    Args:
        index: of the source's videos.
    """

    index: VideoIndex
    problems: Problems = field(default_factory=Problems)
    events: dict[str, Event] = field(default_factory=dict)
    roles: dict[str, str] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)

    def add(self, names: Sequence[str], label: str, source: str, *, role: str = "", group: str = "") -> None:
        """Note the label of the first of `names` that is a video; role and group where they are stated."""
        try:
            key = find_any(self.index, names)
        except UnknownVideoError as err:
            self.problems.add(source, str(err))
            return
        if key in self.events:
            self.problems.add(source, f"video {key} is already in {self.events[key].source}; keep one of the two")
            return
        self.events[key] = Event(key, label, None, None, "", source)
        if role:
            self.roles[key] = role
        if group:
            self.groups[key] = group

    def annotations(self, classes: Sequence[str] | None = None) -> Annotations:
        """All of it.

        Raises:
            MalformedAnnotationsError: problems were noted.
        """
        self.problems.raise_if_any()
        events = list(self.events.values())
        ordered = None if classes is None else tuple(classes)
        return Annotations(events=events, roles=self.roles, groups=self.groups, classes=ordered)


def find_any(index: VideoIndex, names: Sequence[str]) -> str:
    """The key of the first name that a video has.

    Raises:
        UnknownVideoError: none has; about the first name.
    """
    first: UnknownVideoError | None = None
    for name in names:
        try:
            return index.find(name)
        except UnknownVideoError as err:
            first = first or err
    raise first or UnknownVideoError("no video is named; fill in its name")
