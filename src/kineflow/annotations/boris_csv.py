"""Events exported by BORIS as CSV or TSV.

Three layouts are read, told apart by their header:

- tabular events of BORIS 8: `Behavior`, `Behavior type` (START, STOP, POINT), `Time`, `Media file name`, ...;
- tabular events of BORIS 7 and before: some lines about the observation, then `Time`, `Media file path`,
  `Behavior`, `Status`, ...;
- aggregated events: `Behavior`, `Start (s)`, `Stop (s)`, `Media file name` or `Media file`, ...

Times run over the whole observation: the observation's offset and the durations of the media files before the
event's own are subtracted. Independent variables become columns, for `data.group_from: column:NAME`.

Source: the BORIS user guide, "Export events"; the column names are those of the program's exports.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kineflow.annotations.delimited import Row, read_rows, unique_header
from kineflow.annotations.matching import UnknownVideoError, VideoIndex
from kineflow.annotations.model import Annotations, Event, Problems
from kineflow.errors import AnnotationError

MEDIA_NAMES = ("media file name", "media file path", "media file")
TYPE_NAMES = ("behavior type", "status")
# They change from event to event, so they say nothing about a video.
# fmt: off
EVENT_COLUMNS = frozenset({
    "behavior", "behavioral category", "behavior type", "status", "time", "subject", "modifiers", "image index",
    "image file path", "comment", "comment start", "comment stop", "start (s)", "stop (s)", "duration (s)",
    "image index start", "image index stop", "image file path start", "image file path stop", "total length", "fps",
    "fps (frame/s)", "observation duration by subject by observation",
})
# fmt: on


@dataclass(frozen=True)
class _Record:
    """One row: its cells by lower-case column name, and its video."""

    source: str
    cells: Mapping[str, str]
    video_id: str
    media_start_sec: float

    @property
    def state(self) -> tuple[str, ...]:
        """What a START and its STOP have in common."""
        modifiers = [value for name, value in self.cells.items() if name.startswith("modifier")]
        observation = self.cells.get("observation id") or self.video_id
        return (observation, self.cells.get("subject", ""), self.cells["behavior"], *modifiers)


@dataclass
class _Reading:
    """What was found so far."""

    problems: Problems = field(default_factory=Problems)
    events: list[Event] = field(default_factory=list)
    open_states: dict[tuple[str, ...], tuple[_Record, float]] = field(default_factory=dict)
    columns: dict[str, dict[str, str]] = field(default_factory=dict)
    conflicting: set[tuple[str, str]] = field(default_factory=set)


def read(path: Path, videos: Sequence[str]) -> Annotations:
    """State and point events of one export, or of every export in a folder.

    Raises:
        AnnotationError: no header is found; a row is malformed or names an unknown video; a state is not closed.
    """
    index, reading = VideoIndex(videos), _Reading()
    for export in _exports(path):
        _read_export(export, index, reading)
        for record, _ in reading.open_states.values():
            text = f"{record.cells['behavior']} starts and has no STOP; close it in BORIS and export again"
            reading.problems.add(record.source, text)
        reading.open_states.clear()
    reading.problems.raise_if_any()
    for key, name in reading.conflicting:
        reading.columns[key].pop(name, None)
    return Annotations(events=reading.events, columns=reading.columns)


def _exports(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(item for item in path.iterdir() if item.suffix.lower() in (".csv", ".tsv") and item.name[0] != ".")
    if not found:
        raise AnnotationError(f"{path}: holds no .csv or .tsv; export the events of BORIS there")
    return found


def _read_export(path: Path, index: VideoIndex, reading: _Reading) -> None:
    rows = read_rows(path)
    header_row, variables = _find_header(path, rows)
    names = list(unique_header(header_row))
    lower = [name.lower() for name in names]
    _check_header(header_row, lower)
    for row in rows:
        record = _record(row, names, variables, index, reading.problems)
        if record is None:
            continue
        own = {name: row.cells[i] for i, name in enumerate(names) if _describes_video(lower[i])}
        _keep_columns(record.video_id, variables | own, reading)
        if "start (s)" in record.cells:
            _add_aggregated(record, reading)
        else:
            _add_tabular(record, reading)


def _find_header(path: Path, rows: Iterator[Row]) -> tuple[Row, dict[str, str]]:
    """The header, and the independent variables in the lines before it."""
    variables: dict[str, str] = {}
    in_variables = False
    for row in rows:
        lower = {cell.lower() for cell in row.cells}
        if "behavior" in lower and ("time" in lower or "start (s)" in lower):
            return row, variables
        cells = [cell for cell in row.cells if cell]
        if cells[0].lower().startswith("independent variables"):
            in_variables = True
        elif cells[0].lower().startswith("time offset") and len(cells) == 2:
            variables["Time offset (s)"] = cells[1]
        elif in_variables and len(cells) == 2 and [cell.lower() for cell in cells] != ["variable", "value"]:
            variables[cells[0]] = cells[1]
    raise AnnotationError(f"{path.name}: no header with Behavior and Time; export tabular events from BORIS")


def _check_header(row: Row, lower: Sequence[str]) -> None:
    if not any(name in lower for name in MEDIA_NAMES):
        raise AnnotationError(f"{row.source}: the header lacks Media file name; export tabular events from BORIS")
    if "start (s)" in lower:
        if "stop (s)" not in lower:
            raise AnnotationError(f"{row.source}: the header has Start (s) but not Stop (s); add the column")
    elif not any(name in lower for name in TYPE_NAMES):
        raise AnnotationError(f"{row.source}: the header lacks Behavior type (or Status); export tabular events")


def _record(
    row: Row, names: Sequence[str], variables: Mapping[str, str], index: VideoIndex, problems: Problems
) -> _Record | None:
    if len(row.cells) != len(names):
        problems.add(row.source, f"{len(row.cells)} columns where the header has {len(names)}; correct the row")
        return None
    cells = {name.lower(): value for name, value in variables.items()}
    cells |= {name.lower(): cell for name, cell in zip(names, row.cells, strict=True)}
    media = next((cells[name] for name in MEDIA_NAMES if name in cells), "")
    try:
        video_id = index.find(media)
        start_sec = _media_start_sec(cells, media)
    except UnknownVideoError as err:
        problems.add(row.source, str(err))
        return None
    except ValueError as err:
        problems.add(row.source, f"{err}; correct the row")
        return None
    if not cells["behavior"]:
        problems.add(row.source, "no behavior; fill it in or remove the row")
        return None
    return _Record(row.source, cells, video_id, start_sec)


def _media_start_sec(cells: Mapping[str, str], media: str) -> float:
    """When in its observation's time a media file begins."""
    offset_sec = _parse_sec(cells.get("time offset (s)", "") or "0")
    durations = cells.get("media duration (s)", "").split("|")
    for player, listed in enumerate(cells.get("source", "").split("|")):
        files = listed.partition(":")[2].split(";") if listed.lower().startswith("player #") else []
        if len(files) > 1 and media in files:
            before = durations[player].split(";")[: files.index(media)] if player < len(durations) else []
            if len(before) < files.index(media):
                raise ValueError(f"{len(files)} media files but {len(before)} durations before {media}")
            return offset_sec + sum(_parse_sec(duration) for duration in before)
    return offset_sec


def _add_tabular(record: _Record, reading: _Reading) -> None:
    kind = next(record.cells[name] for name in TYPE_NAMES if name in record.cells).upper()
    try:
        time_sec = _parse_sec(record.cells["time"]) - record.media_start_sec
    except ValueError as err:
        reading.problems.add(record.source, f"{err}; correct the time")
        return
    opened = reading.open_states.get(record.state)
    if kind == "POINT":
        reading.events.append(_event(record, time_sec, None))
    elif kind == "START" and opened is None:
        reading.open_states[record.state] = (record, time_sec)
    elif kind == "START" and opened is not None:
        text = f"{record.cells['behavior']} starts again before it stops ({opened[0].source}); add its STOP"
        reading.problems.add(record.source, text)
    elif kind == "STOP" and opened is not None:
        del reading.open_states[record.state]
        _close(*opened, record, time_sec, reading)
    elif kind == "STOP":
        reading.problems.add(record.source, f"{record.cells['behavior']} stops and has no START before; add it")
    else:
        reading.problems.add(record.source, f"behavior type {kind!r}; write START, STOP or POINT")


def _close(opened: _Record, start_sec: float, closing: _Record, stop_sec: float, reading: _Reading) -> None:
    if closing.video_id != opened.video_id:
        text = f"{opened.cells['behavior']} starts in {opened.video_id} and stops in {closing.video_id}"
        reading.problems.add(closing.source, f"{text}; stop it at the end of the first and start it again")
    elif stop_sec < start_sec:
        text = f"{opened.cells['behavior']} stops at {stop_sec:g} s, before its start at {start_sec:g} s"
        reading.problems.add(closing.source, f"{text}; correct the times")
    else:
        reading.events.append(_event(opened, start_sec, stop_sec))


def _add_aggregated(record: _Record, reading: _Reading) -> None:
    try:
        start_sec = _parse_sec(record.cells["start (s)"]) - record.media_start_sec
        if record.cells.get("behavior type", "STATE").upper() == "POINT":
            reading.events.append(_event(record, start_sec, None))
            return
        stop_sec = _parse_sec(record.cells["stop (s)"]) - record.media_start_sec
    except ValueError as err:
        reading.problems.add(record.source, f"{err}; correct the time")
        return
    if stop_sec < start_sec:
        text = f"{record.cells['behavior']} stops at {stop_sec:g} s, before its start at {start_sec:g} s"
        reading.problems.add(record.source, f"{text}; correct the times")
        return
    reading.events.append(_event(record, start_sec, stop_sec))


def _event(record: _Record, start_sec: float, stop_sec: float | None) -> Event:
    subject = record.cells.get("subject", "")
    subject = "" if subject.lower() == "no focal subject" else subject
    stop_sec = None if stop_sec is None else round(stop_sec, 6)
    return Event(record.video_id, record.cells["behavior"], round(start_sec, 6), stop_sec, subject, record.source)


def _describes_video(lower_name: str) -> bool:
    return lower_name not in EVENT_COLUMNS and not lower_name.startswith("modifier") and bool(lower_name)


def _keep_columns(video_id: str, values: Mapping[str, str], reading: _Reading) -> None:
    kept = reading.columns.setdefault(video_id, {})
    for name, value in values.items():
        if kept.setdefault(name, value) != value:
            reading.conflicting.add((video_id, name))


def _parse_sec(text: str) -> float:
    """Seconds from `12.5`, `12,5`, or `00:01:02.5` with an optional sign."""
    plain = text.strip().replace(",", ".")
    sign = -1.0 if plain.startswith("-") else 1.0
    parts = plain.lstrip("+-").split(":")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = [math.nan]
    if len(numbers) > 3 or not all(math.isfinite(number) and number >= 0 for number in numbers):
        raise ValueError(f"{text!r} is no time in seconds")
    total = 0.0
    for number in numbers:
        total = total * 60 + number
    return sign * total
