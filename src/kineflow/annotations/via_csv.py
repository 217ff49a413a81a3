"""Temporal segments of VIA 3, the VGG video annotator, exported as CSV.

Lines that begin with `#` come first: `# ATTRIBUTE = {...}` holds the attributes and their options as JSON,
`# CSV_HEADER = metadata_id,file_list,flags,temporal_coordinates,spatial_coordinates,metadata` the columns. Cells are
JSON: two temporal coordinates are a state, one a point, none the whole video. The label is the value of the row's
attribute, an option by its name.

Source: Dutta and Zisserman, "The VIA annotation software for images, audio and video", ACM Multimedia 2019, and the
notes that VIA writes into each export.
"""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kineflow.annotations.delimited import read_text
from kineflow.annotations.json_file import Node
from kineflow.annotations.matching import UnknownVideoError, VideoIndex
from kineflow.annotations.model import Annotations, Event, Problems
from kineflow.errors import AnnotationError

COLUMNS = ("metadata_id", "file_list", "flags", "temporal_coordinates", "spatial_coordinates", "metadata")
ATTRIBUTE, HEADER = "# ATTRIBUTE =", "# CSV_HEADER ="


@dataclass(frozen=True)
class _Export:
    """The columns, the options' names by attribute, and the data lines with their row numbers."""

    columns: tuple[str, ...]
    options: Mapping[str, Mapping[str, str]]
    lines: Sequence[tuple[int, str]]


def read(path: Path, videos: Sequence[str]) -> Annotations:
    """State, point and whole-video labels.

    Raises:
        AnnotationError: the file is no such export, or a row is malformed or names an unknown video.
    """
    export = _parse_export(path)
    index, problems = VideoIndex(videos), Problems()
    events = []
    for row, cells in _rows(path, export):
        source = f"{path.name}:{row}"
        try:
            events.append(_event(cells, export, index, source))
        except UnknownVideoError as err:
            problems.add(source, str(err))
        except AnnotationError as err:
            problems.found.append(str(err))
    problems.raise_if_any()
    return Annotations(events=events)


def _parse_export(path: Path) -> _Export:
    columns: tuple[str, ...] = COLUMNS
    options: dict[str, dict[str, str]] = {}
    lines: list[tuple[int, str]] = []
    marked = False
    for row, line in enumerate(read_text(path).splitlines(), start=1):
        if line.startswith(HEADER):
            columns, marked = tuple(line.removeprefix(HEADER).strip().split(",")), True
        elif line.startswith(ATTRIBUTE):
            attributes = _json(line.removeprefix(ATTRIBUTE), f"{path.name}:{row}")
            options = {name: _options(node) for name, node in attributes.items()}
        elif line.strip() and not line.startswith("#"):
            lines.append((row, line))
    missing = [name for name in COLUMNS if name not in columns and name not in ("metadata_id", "flags")]
    if not marked or missing:
        lack = f"lacks {', '.join(missing)}" if missing else "is missing"
        raise AnnotationError(f"{path.name}: the line `# CSV_HEADER = ...` {lack}; export temporal segments from VIA 3")
    return _Export(columns, options, lines)


def _options(attribute: Node) -> dict[str, str]:
    return {name: str(node.value) for name, node in attribute.get("options", {}).items()}


def _rows(path: Path, export: _Export) -> Iterator[tuple[int, dict[str, str]]]:
    for row, line in export.lines:
        try:
            (cells,) = csv.reader([line], strict=True)
        except csv.Error as err:
            raise AnnotationError(f"{path.name}:{row}: {err}; correct the quotes of this row") from err
        if len(cells) != len(export.columns):
            wrong = f"{len(cells)} columns where the header has {len(export.columns)}"
            raise AnnotationError(f"{path.name}:{row}: {wrong}; correct the row")
        yield row, dict(zip(export.columns, cells, strict=True))


def _event(cells: Mapping[str, str], export: _Export, index: VideoIndex, source: str) -> Event:
    files = _json(cells["file_list"], f"{source}: file_list")
    temporal = _json(cells["temporal_coordinates"], f"{source}: temporal_coordinates")
    times = [node.number() for node in temporal.elements()]
    if _json(cells["spatial_coordinates"] or "[]", f"{source}: spatial_coordinates").expect(list):
        raise AnnotationError(f"{source}: is a region of a frame; export temporal segments only")
    values = [(name, node) for name, node in _json(cells["metadata"], f"{source}: metadata").items() if node.value]
    if len(values) != 1:
        raise AnnotationError(f"{source}: metadata has {len(values)} labels; give the segment one")
    if len(times) > 2:
        raise AnnotationError(f"{source}: {len(times)} temporal coordinates; write a start and a stop")
    if len(times) == 2 and times[1] < times[0]:
        raise AnnotationError(f"{source}: stops at {times[1]:g} s, before its start at {times[0]:g} s; correct it")
    name, node = values[0]
    label = export.options.get(name, {}).get(str(node.value), node.text())
    start_sec, stop_sec = [*times, None, None][:2]
    return Event(index.find(files[0].text()), label, start_sec, stop_sec, "", source)


def _json(text: str, source: str) -> Node:
    try:
        value: Any = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as err:
        raise AnnotationError(f"{source}: {text.strip()[:40]!r} is no JSON; export again") from err
    return Node(source, value)
