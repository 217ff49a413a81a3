"""JSON annotation files, read so that errors can name the place in them."""

import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kineflow.annotations.delimited import read_text
from kineflow.errors import AnnotationError

KINDS = {dict: "an object", list: "a list", str: "a text", float: "a number"}


@dataclass(frozen=True)
class Node:
    """A value of a JSON file and where it is.

    Args:
        source: `file: database.v1.segment[0]`.
        value: as the JSON module gives it.
    """

    source: str
    value: Any

    @property
    def shown(self) -> str:
        """The beginning of the value, for a message."""
        return repr(str(self.value)[:40])

    def __getitem__(self, name: str | int) -> "Node":
        """The member of an object or of a list.

        Raises:
            AnnotationError: this is neither, or has no such member.
        """
        kind: type = dict if isinstance(name, str) else list
        members = self.expect(kind)
        there = name in members if isinstance(name, str) else name < len(members)
        if not there:
            raise AnnotationError(f"{self.source}: {repr(name)[:80]} is missing; add it")
        return self._member(name)

    def get(self, name: str, default: Any) -> "Node":
        """The member of an object, or `default` where it is missing or null."""
        value = self.expect(dict).get(name)
        return self._member(name) if value is not None else Node(f"{self.source}.{name}", default)

    def items(self) -> Iterator[tuple[str, "Node"]]:
        """The members of an object by name."""
        for name in self.expect(dict):
            yield name, self._member(name)

    def elements(self) -> Iterator["Node"]:
        """The members of a list."""
        for index in range(len(self.expect(list))):
            yield self._member(index)

    def text(self) -> str:
        """The value, a text that is not blank."""
        found = str(self.expect(str)).strip()
        if not found:
            raise AnnotationError(f"{self.source}: is blank; fill it in")
        return found

    def number(self) -> float:
        """The value, a finite number; a text that holds one is taken too."""
        is_number = isinstance(self.value, int | float | str) and not isinstance(self.value, bool)
        try:
            number = float(self.value) if is_number else math.nan
        except (ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise AnnotationError(f"{self.source}: {self.shown} is no number; correct it")
        return number

    def expect(self, kind: type) -> Any:
        """The value.

        Raises:
            AnnotationError: it is of another kind.
        """
        if not isinstance(self.value, kind):
            raise AnnotationError(f"{self.source}: {self.shown} is not {KINDS[kind]}; correct it")
        return self.value

    def _member(self, name: str | int) -> "Node":
        step = f"[{name}]" if isinstance(name, int) else name if self.source.endswith(": ") else f".{name}"
        return Node(self.source + step, self.value[name])


def read_json(path: Path) -> Node:
    """The root of a JSON file.

    Raises:
        AnnotationError: it is missing, not UTF-8, no JSON (names the line), or has a key twice in one object.
    """
    text = read_text(path)
    if not text.strip():
        raise AnnotationError(f"{path.name}: the file is empty; take it from where it was made again")
    try:
        return Node(f"{path.name}: ", json.loads(text, object_pairs_hook=_unique))
    except json.JSONDecodeError as err:
        raise AnnotationError(f"{path.name}:{err.lineno}: no JSON ({err.msg}); it may be cut off") from err
    except RecursionError as err:
        raise AnnotationError(f"{path.name}: nested too deep for an annotation file; take another") from err
    except ValueError as err:  # a key twice, or a number of thousands of digits
        raise AnnotationError(f"{path.name}: {err}; correct it") from err


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; of two members with one name JSON would silently keep the last."""
    members = dict(pairs)
    if len(members) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"key {twice[:80]!r} is there twice in one object")
    return members
