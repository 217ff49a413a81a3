"""Change values in the text of a YAML file and leave its comments where they are."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from kineflow.errors import ParamsError

KEY_LINE = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z_][\w]*):(?P<rest>.*)$")


@dataclass(frozen=True)
class Change:
    """A new value for a key (such as `train.batch_size`), and a comment to put beside it."""

    key: str
    value: Any
    comment: str = ""


def change_values(text: str, changes: Mapping[str, Any] | list[Change], *, where: str) -> str:
    """`text` with other values; block mappings of two spaces, as the presets are written.

    Raises:
        ParamsError: a key is not in the text.
    """
    listed = changes if isinstance(changes, list) else [Change(key, value) for key, value in changes.items()]
    lines = text.splitlines()
    for change in listed:
        lines = _changed(lines, change, where)
    return "\n".join(lines) + "\n"


def _changed(lines: list[str], change: Change, where: str) -> list[str]:
    found = dict(_key_lines(lines))
    if change.key not in found:
        near = difflib.get_close_matches(change.key, found, n=1, cutoff=0.5)
        hint = f"; nearest: {near[0]}" if near else ""
        raise ParamsError(f"{where}: there is no key {change.key!r}{hint}")
    start = found[change.key]
    indent = len(lines[start]) - len(lines[start].lstrip())
    stop = start + 1  # of the nested block that the value may be
    while stop < len(lines) and lines[stop].strip() and len(lines[stop]) - len(lines[stop].lstrip()) > indent:
        stop += 1
    old_comment = _comment(lines[start]) if stop == start + 1 else ""
    comment = f"  # {change.comment}" if change.comment else old_comment
    name = change.key.rpartition(".")[2]
    return [*lines[:start], f"{' ' * indent}{name}: {in_one_line(change.value)}{comment}", *lines[stop:]]


def _key_lines(lines: list[str]) -> list[tuple[str, int]]:
    found = []
    stack: list[tuple[int, str]] = []
    for number, line in enumerate(lines):
        match = KEY_LINE.match(line)
        if match is None:
            continue
        indent = len(match["indent"])
        while stack and stack[-1][0] >= indent:
            stack.pop()
        stack.append((indent, match["key"]))
        found.append((".".join(key for _, key in stack), number))
    return found


def _comment(line: str) -> str:
    """The comment behind a plain value, with the blanks before it."""
    match = re.search(r"\s+#.*$", line)
    quoted = line.count('"') or line.count("'")
    return match[0] if match and not quoted else ""


def in_one_line(value: Any) -> str:
    """A value as YAML, in flow style."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True).strip()
    return text.removesuffix("\n...").strip()
