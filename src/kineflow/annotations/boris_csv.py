"""Events exported by BORIS as CSV or TSV.

Four layouts are read, told apart by their header:

- tabular events of BORIS 8: `Behavior`, `Behavior type` (START, STOP, POINT), `Time`, `Source`, `Media file name`, ...;
- tabular events of BORIS 7 and before: some lines about the observation, then `Time`, `Media file path`,
  `Behavior`, `Status`, ...;
- aggregated events of BORIS 8: `Behavior`, `Start (s)`, `Stop (s)`, `Source`, with or without `Media file name`, ...;
- aggregated events of BORIS 7 and before: the same with `Media file` and `Total length`.

Times run over the whole observation, its offset included. BORIS 8 lists all media files of player 1 in `Source` and
their durations in `Media duration (s)`: by these an event is moved into its part, and a state that runs over a bound is
cut into one event for each part. (`Media file name` is not trusted there: BORIS chooses it without regard to the
offset.) Older exports give no durations, so an observation of several parts is refused.
Independent variables become columns, for `data.group_from: column:NAME`.

Source: https://www.boris.unito.it/user_guide/export_events/ and the exports in https://github.com/olivierfriard/BORIS
(boris/export_observation.py, tests/files).
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kineflow.annotations.chapters import Chapter, ClockEvent, cut, line_up
from kineflow.annotations.delimited import Row, named_cells, read_rows, unique_header
from kineflow.annotations.folder import file_or_folder
from kineflow.annotations.matching import UnknownVideoError, VideoIndex
from kineflow.annotations.model import Annotations, Event, Problems
from kineflow.errors import AnnotationError

OBSERVATION = "Observation id"
SOURCE, OFFSET, DURATION = "source", "time offset (s)", "media duration (s)"
MEDIA_NAMES = ("media file name", "media file path", "media file")
TYPE_NAMES = ("behavior type", "status")
# They change from event to event, so they say nothing about a video.
# fmt: off
EVENT_COLUMNS = frozenset({
    "behavior", "behavioral category", "behavior type", "status", "time", "subject", "modifiers", "image index",
    "image file path", "comment", "comment start", "comment stop", "start (s)", "stop (s)", "duration (s)",
    "image index start", "image index stop", "image file path start", "image file path stop", "total length", "fps",
    "fps (frame/s)", "observation duration", "coding duration", "observation duration by subject by observation",
})
# fmt: on
NO_MEDIA = ("", "NA", "Not found")  # BORIS writes so where it finds no file for a time
PLAYER = re.compile(r"(?:^|[| ])player #(\d+):\s*", re.IGNORECASE)


@dataclass(frozen=True)
class _Record:
    """One row: its cells by lower-case column name, and the parts of the recording that it is about."""

    source: str
    cells: Mapping[str, str]
    chapters: Sequence[Chapter]
    state: tuple[str, ...]
    """What a START and its STOP have in common."""

    @property
    def label(self) -> str:
        return self.cells["behavior"]

    def at(self, start_sec: float, stop_sec: float | None) -> Iterator[Event]:
        """The event in each part, from times on the observation's clock."""
        subject = self.cells.get("subject", "")
        subject = "" if subject.lower() == "no focal subject" else subject
        return cut(ClockEvent(self.label, start_sec, stop_sec, subject, self.source), self.chapters)


@dataclass
class _Reading:
    """What was found so far; `export` is the file that is being read.

    `parts` and `first_media` are by what the rows say, so that each is worked out once; `observations` are by video,
    each with its file.
    """

    index: VideoIndex
    export: str = ""
    problems: Problems = field(default_factory=Problems)
    events: list[Event] = field(default_factory=list)
    open_states: dict[tuple[str, ...], tuple[_Record, float]] = field(default_factory=dict)
    columns: dict[str, dict[str, str]] = field(default_factory=dict)
    conflicting: set[tuple[str, str]] = field(default_factory=set)
    parts: dict[tuple[str, ...], Sequence[Chapter]] = field(default_factory=dict)
    first_media: dict[str, str] = field(default_factory=dict)
    observations: dict[str, tuple[str, str]] = field(default_factory=dict)


def read(path: Path, videos: Sequence[str]) -> Annotations:
    """State and point events of one export, or of every export in a folder and below.

    Raises:
        AnnotationError: no header is found; a row is malformed or names an unknown video; a state is not closed; the
            parts of a recording are not told apart; a video is in two observations.
    """
    reading = _Reading(VideoIndex(videos))
    for export in file_or_folder(path, (".csv", ".tsv"), wanted="the events exported by BORIS"):
        reading.export = export.relative_to(path).as_posix() if export != path else export.name
        _read_export(export, reading)
        for record, _ in reading.open_states.values():
            text = f"{record.label} starts and has no STOP; close it in BORIS and export again"
            reading.problems.add(record.source, text)
        reading.open_states.clear()
    reading.problems.raise_if_any()
    for key, name in reading.conflicting:
        reading.columns[key].pop(name, None)
    return Annotations(events=reading.events, columns=reading.columns)


def _read_export(path: Path, reading: _Reading) -> None:
    rows = read_rows(path)
    header_row, preamble = _find_header(path, rows, reading)
    header = unique_header(header_row)
    _check_header(header_row, [name.lower() for name in header])
    lower_header = {name.lower(): column for name, column in header.items()}
    about_video = {name.lower(): name for name in header if _describes_video(name.lower())}
    modifiers = [name for name in lower_header if name.startswith("modifier")]
    before = {name.lower(): value for name, value in preamble.items()}
    described: set[tuple[object, ...]] = set()
    for row in rows:
        try:
            cells = before | named_cells(row, lower_header)
            record = _record(row.source, cells, modifiers, reading)
            _add_aggregated(record, reading) if "start (s)" in cells else _add_tabular(record, reading)
        except AnnotationError as err:
            reading.problems.take(err)
        except (UnknownVideoError, ValueError) as err:
            reading.problems.add(row.source, str(err))
        else:
            said = (id(record.chapters), *(cells[name] for name in about_video))
            if said not in described:  # thousands of rows say the same
                described.add(said)
                stated = preamble | {name: cells[lower] for lower, name in about_video.items()}
                _describe(record.chapters, stated, reading)


def _find_header(path: Path, rows: Iterator[Row], reading: _Reading) -> tuple[Row, dict[str, str]]:
    """The header, and what the lines before it say: observation, offset and independent variables."""
    preamble: dict[str, str] = {}
    in_variables = False
    media: list[str] = []
    for row in rows:
        lower = {cell.lower() for cell in row.cells}
        if "behavior" in lower and ("time" in lower or "start (s)" in lower):
            if media and OBSERVATION in preamble:
                reading.first_media[preamble[OBSERVATION]] = media[0]
            return row, preamble
        cells = [cell for cell in row.cells if cell]
        name, value = cells[0], cells[1] if len(cells) == 2 else ""
        if name.lower().startswith("independent variables"):
            in_variables = True
        elif name.lower() == "observation id" and value:
            preamble[OBSERVATION] = value
        elif name.lower() == "player #1" and value:
            media.append(value)
        elif (name.lower() == OFFSET and value) or (in_variables and value and name.lower() != "variable"):
            preamble[name] = value
    raise AnnotationError(f"{path.name}: no header with Behavior and Time; export tabular events from BORIS")


def _check_header(row: Row, lower: Sequence[str]) -> None:
    if not any(name in lower for name in (*MEDIA_NAMES, SOURCE)):
        raise AnnotationError(f"{row.source}: the header lacks Media file name; export tabular events from BORIS")
    if "start (s)" in lower:
        if "stop (s)" not in lower:
            raise AnnotationError(f"{row.source}: the header has Start (s) but not Stop (s); add the column")
    elif not any(name in lower for name in TYPE_NAMES):
        raise AnnotationError(f"{row.source}: the header lacks Behavior type (or Status); export tabular events")
    if twice := next((name for name in lower if lower.count(name) > 1), None):
        raise AnnotationError(f"{row.source}: two columns are named {twice[:80]!r} but for case; rename one")


def _record(source: str, cells: Mapping[str, str], modifiers: Sequence[str], reading: _Reading) -> _Record:
    kind = cells.get("observation type", "")
    if kind.lower().startswith(("live", "from ")):
        raise ValueError(f"observation type {kind!r} has no video; leave the observation out of the export")
    if not cells["behavior"]:
        raise ValueError("no behavior; fill it in or remove the row")
    media = next((cells[name] for name in MEDIA_NAMES if name in cells), "")
    said = (media, *(cells.get(name, "") for name in (SOURCE, DURATION, OFFSET)))
    if said not in reading.parts:
        reading.parts[said] = _parts(*said, index=reading.index)
    chapters = reading.parts[said]
    observation = cells.get("observation id", "")
    if SOURCE not in cells and "total length" in cells:
        first = reading.first_media.setdefault(observation, media)
        if reading.index.find(first) != chapters[0].video_id:
            text = f"observation {observation!r} has several media files and this export not the length of each"
            raise ValueError(f"{text}; export again with BORIS 8, or name the .boris project instead")
    _keep_to_one_observation(observation, chapters, reading)
    of_state = (observation or chapters[0].video_id, cells.get("subject", ""), cells["behavior"])
    return _Record(source, cells, chapters, (*of_state, *(cells[name] for name in modifiers)))


def _keep_to_one_observation(observation: str, chapters: Sequence[Chapter], reading: _Reading) -> None:
    """Two observers of one video, or one observation that was exported twice, would count its events twice."""
    for chapter in chapters if observation else ():
        first, file = reading.observations.setdefault(chapter.video_id, (observation, reading.export))
        if (first, file) != (observation, reading.export):
            where = f" of {file}" if file != reading.export else ""
            raise ValueError(f"{chapter.video_id} is already in observation {first!r}{where}; keep one of the two")


def _parts(media: str, source: str, durations: str, offset: str, *, index: VideoIndex) -> Sequence[Chapter]:
    """The parts of player 1, on the clock that the times are written in; other players are other views."""
    start_sec = _parse_sec(offset or "0")
    files = _files_of_player_1(source, media)
    if len(files) == 1:
        return line_up([index.find(files[0])], [], start_sec=start_sec)
    lengths = durations.split("|")[0].split(";")
    if len(lengths) != len(files):
        given = f"{len(files)} media files but {len(lengths) if durations else 0} durations"
        raise ValueError(f"{given} in {DURATION.capitalize()}; export again with BORIS 8")
    return line_up([index.find(file) for file in files], [_parse_sec(text) for text in lengths], start_sec=start_sec)


def _files_of_player_1(source: str, media: str) -> list[str]:
    """Those that `Source` lists, or the row's own media file where it lists none."""
    if not source or PLAYER.sub("", source, count=1) == media:
        return [media]
    listed = PLAYER.split(source)[2] if PLAYER.match(source) else source
    files = [name.strip() for name in listed.split(";") if name.strip()]
    if files and (media in files or media in NO_MEDIA):
        return files
    return [media]


def _add_tabular(record: _Record, reading: _Reading) -> None:
    kind = next(record.cells[name] for name in TYPE_NAMES if name in record.cells).upper()
    time_sec = _parse_sec(record.cells["time"])
    opened = reading.open_states.get(record.state)
    if kind == "POINT":
        reading.events += record.at(time_sec, None)
    elif kind == "START" and opened is None:
        reading.open_states[record.state] = (record, time_sec)
    elif kind == "START" and opened is not None:
        raise ValueError(f"{record.label} starts again before it stops ({opened[0].source}); add its STOP")
    elif kind == "STOP" and opened is not None:
        del reading.open_states[record.state]
        _close(*opened, record, time_sec, reading)
    elif kind == "STOP":
        raise ValueError(f"{record.label} stops and has no START before; add it")
    else:
        raise ValueError(f"behavior type {kind!r}; write START, STOP or POINT")


def _close(opened: _Record, start_sec: float, closing: _Record, stop_sec: float, reading: _Reading) -> None:
    first, last = opened.chapters, closing.chapters
    if first is not last and [part.video_id for part in first] != [part.video_id for part in last]:
        text = f"{opened.label} starts in {first[0].video_id} and stops in {last[0].video_id}"
        raise ValueError(f"{text}; stop it at the end of the first and start it again")
    _check_order(opened.label, start_sec, stop_sec)
    reading.events += opened.at(start_sec, stop_sec)


def _add_aggregated(record: _Record, reading: _Reading) -> None:
    start_sec = _parse_sec(record.cells["start (s)"])
    if record.cells.get("behavior type", "STATE").upper() == "POINT":
        reading.events += record.at(start_sec, None)
        return
    stop_sec = _parse_sec(record.cells["stop (s)"])
    _check_order(record.label, start_sec, stop_sec)
    reading.events += record.at(start_sec, stop_sec)


def _check_order(label: str, start_sec: float, stop_sec: float) -> None:
    if stop_sec < start_sec:
        text = f"{label} stops at {stop_sec:g} s, before its start at {start_sec:g} s"
        raise ValueError(f"{text}; correct the times")


def _describes_video(lower_name: str) -> bool:
    return (
        lower_name not in EVENT_COLUMNS | {*MEDIA_NAMES} and not lower_name.startswith("modifier") and bool(lower_name)
    )


def _describe(chapters: Sequence[Chapter], stated: Mapping[str, str], reading: _Reading) -> None:
    """Keep what is said about videos, unless it is said otherwise elsewhere."""
    for chapter in chapters:
        kept = reading.columns.setdefault(chapter.video_id, {})
        for name, value in stated.items():
            if kept.setdefault(name, value) != value:
                reading.conflicting.add((chapter.video_id, name))


def _parse_sec(text: str) -> float:
    """Seconds from `12.5`, `12,5`, or `00:01:02.5` with an optional sign."""
    plain = text.replace(",", ".")
    sign = -1.0 if plain.startswith("-") else 1.0
    try:
        numbers = [float(part) for part in plain.lstrip("+-").split(":")]
    except ValueError:
        numbers = [math.nan]
    if len(numbers) > 3 or not all(math.isfinite(number) and number >= 0 for number in numbers):
        raise ValueError(f"{text!r} is no time in seconds; correct the time")
    total = 0.0
    for number in numbers:
        total = total * 60 + number
    return sign * total
