"""Temporal segments of VIA 3, the VGG video annotator, exported as CSV.

Lines that begin with `#` come first: `# ATTRIBUTE = {...}` holds the attributes and their options as JSON,
`# CSV_HEADER = ...` the columns. There are two exports:

- all annotations: `metadata_id,file_list,flags,temporal_coordinates,spatial_coordinates,metadata`; two temporal
  coordinates are a state, one a point, none the whole video;
- temporal segments only: `metadata_id,file_list,temporal_segment_start,temporal_segment_end,metadata`, without
  attributes, so that an option goes by its number.

Cells are JSON. The label is the value of the row's attribute: an option by its name, each of several ticked ones, or
the text that was typed.

Source: `_via_import_export.js` of https://gitlab.com/vgg/via, and the notes that VIA writes into each export.
"""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from kineflow.annotations.delimited import read_lines
from kineflow.annotations.json_file import Node
from kineflow.annotations.listed import find_any
from kineflow.annotations.matching import UnknownVideoError, VideoIndex
from kineflow.annotations.model import Annotations, Event, Problems
from kineflow.errors import AnnotationError

ALL = ("file_list", "temporal_coordinates", "spatial_coordinates", "metadata")
SEGMENTS = ("file_list", "temporal_segment_start", "temporal_segment_end", "metadata")
TEXT = 1  # type of an attribute that is typed in, not chosen
ATTRIBUTE, HEADER = "# ATTRIBUTE =", "# CSV_HEADER ="


@dataclass(frozen=True)
class _Export:
    """The columns, the options' names by attribute, and the data lines with their `file:row`."""

    columns: tuple[str, ...]
    options: Mapping[str, Mapping[str, str]]
    lines: Sequence[tuple[str, str]]


def read(path: Path, videos: Sequence[str]) -> Annotations:
    """State, point and whole-video labels.

    Raises:
        AnnotationError: the file is no such export, or a row is malformed or names an unknown video.
    """
    export = _parse_export(path)
    index, problems = VideoIndex(videos), Problems()
    events: list[Event] = []
    for source, line in export.lines:
        try:
            events += _events(_cells(line, export, source), export, index, source)
        except UnknownVideoError as err:
            problems.add(source, str(err))
        except AnnotationError as err:
            problems.take(err)
    problems.raise_if_any()
    return Annotations(events=events)


def _parse_export(path: Path) -> _Export:
    columns: tuple[str, ...] = ()
    options: dict[str, dict[str, str]] = {}
    lines: list[tuple[str, str]] = []
    for source, line in read_lines(path):
        if line.startswith(HEADER):
            named = [name.strip() for name in line.removeprefix(HEADER).split(",")]
            columns = tuple(name for name in named if name)  # spreadsheets add blank ones at the end
        elif line.startswith(ATTRIBUTE):
            attributes = _json(line.removeprefix(ATTRIBUTE), source)
            options = {name: _options(node) for name, node in attributes.items()}
        elif not line.startswith("#"):
            lines.append((source, line))
    if not columns:
        lack = "the line `# CSV_HEADER = ...` is missing"
        raise AnnotationError(f"{path.name}: {lack}; export temporal segments from VIA 3")
    wanted = SEGMENTS if SEGMENTS[1] in columns else ALL
    if missing := [name for name in wanted if name not in columns]:
        lack = f"the line `# CSV_HEADER = ...` lacks {', '.join(missing)}"
        raise AnnotationError(f"{path.name}: {lack}; export temporal segments from VIA 3")
    return _Export(columns, options, lines)


def _options(attribute: Node) -> dict[str, str]:
    if attribute.get("type", 0).value == TEXT:
        return {}
    return {name: str(node.value).strip() for name, node in attribute.get("options", {}).items()}


def _cells(line: str, export: _Export, source: str) -> dict[str, str]:
    try:
        (cells,) = csv.reader([line], strict=True)
    except (csv.Error, ValueError) as err:
        raise AnnotationError(f"{source}: {err}; correct the quotes of this row") from err
    if len(cells) < len(export.columns) or any(cells[len(export.columns) :]):
        wrong = f"{len(cells)} columns where the header has {len(export.columns)}"
        raise AnnotationError(f"{source}: {wrong}; correct the row")
    return dict(zip(export.columns, cells, strict=False))


def _events(cells: Mapping[str, str], export: _Export, index: VideoIndex, source: str) -> Iterator[Event]:
    file = _json(cells["file_list"], f"{source}: file_list")[0].text()
    times = _times(cells, source)
    values = [(name, node) for name, node in _json(cells["metadata"], f"{source}: metadata").items() if node.value]
    if len(values) != 1:
        raise AnnotationError(f"{source}: metadata has {len(values)} labels; give the segment one")
    if len(times) == 2 and times[1] < times[0]:
        raise AnnotationError(f"{source}: stops at {times[1]:g} s, before its start at {times[0]:g} s; correct it")
    key = find_any(index, (file, unquote(file)))  # a file that was opened by its address
    start_sec, stop_sec = [*times, None, None][:2]
    for label in _labels(*values[0], export.options):
        yield Event(key, label, start_sec, stop_sec, "", source)


def _times(cells: Mapping[str, str], source: str) -> list[float]:
    if SEGMENTS[1] in cells:
        return [_json(cells[name], f"{source}: {name}").number() for name in SEGMENTS[1:3]]
    temporal = _json(cells["temporal_coordinates"], f"{source}: temporal_coordinates")
    times = [node.number() for node in temporal.elements()]
    if _json(cells["spatial_coordinates"] or "[]", f"{source}: spatial_coordinates").expect(list):
        raise AnnotationError(f"{source}: is a region of a frame; export temporal segments only")
    if len(times) > 2:
        raise AnnotationError(f"{source}: {len(times)} temporal coordinates; write a start and a stop")
    return times


def _labels(attribute: str, value: Node, options: Mapping[str, Mapping[str, str]]) -> list[str]:
    """The option or the ticked options by name, or the text; of an attribute without options, the value itself."""
    known = options.get(attribute, {})
    if not known:
        return [value.text()]
    chosen = [part.strip() for part in str(value.value).split(",")]
    if unknown := [part for part in chosen if not known.get(part)]:
        held = ", ".join(known)[:80]
        raise AnnotationError(f"{value.source}: option {unknown[0][:40]!r} is none of {held}; correct the metadata")
    return [known[part] for part in chosen]


def _json(text: str, source: str) -> Node:
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError) as err:
        raise AnnotationError(f"{source}: {text.strip()[:40]!r} is no JSON; export again") from err
    return Node(source, value)
