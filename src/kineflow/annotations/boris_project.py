"""BORIS projects (`.boris`, JSON): the events of every observation, with the ethogram's types and class order.

Times run over the whole observation. The observation's offset is subtracted; the media files of one player follow each
other (the chapters of an action camera), so each event is moved into its chapter, and a state that runs over a
boundary is cut into one event for each chapter. Players after the first are other views of the same scene: their
media offset is subtracted, what they do not show is left out, and so are those that are not in the source.

A project says neither START nor STOP: events of one behaviour, subject and modifiers open and close a state in turn.
Independent variables and the observation's name become columns, for `data.group_from: column:NAME`.

Source: boris/config.py (project format 7.0) and tests/files/*.boris in https://github.com/olivierfriard/BORIS.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kineflow.annotations.boris_csv import OBSERVATION
from kineflow.annotations.chapters import Chapter, ClockEvent, cut, line_up
from kineflow.annotations.json_file import Node, read_json
from kineflow.annotations.matching import AmbiguousVideoError, UnknownVideoError, VideoIndex
from kineflow.annotations.model import Annotations, Event, Problems
from kineflow.errors import AnnotationError


@dataclass
class _Reading:
    """What was found so far, and the ethogram: whether a behaviour is a state, by its code."""

    is_state: dict[str, bool]
    index: VideoIndex
    problems: Problems = field(default_factory=Problems)
    events: list[Event] = field(default_factory=list)
    columns: dict[str, dict[str, str]] = field(default_factory=dict)


def read(path: Path, videos: Sequence[str]) -> Annotations:
    """State and point events of every observation; classes as the ethogram orders them.

    Raises:
        AnnotationError: the file is no project, or an observation is malformed, names an unknown video or behaviour,
            or leaves a state open.
    """
    project = read_json(path)
    reading = _Reading(_ethogram(project["behaviors_conf"]), VideoIndex(videos))
    for name, observation in project["observations"].items():
        try:
            _read_observation(name, observation, reading)
        except AnnotationError as err:
            reading.problems.take(err)
    reading.problems.raise_if_any()
    return Annotations(events=reading.events, columns=reading.columns, classes=tuple(reading.is_state))


def _ethogram(behaviours: Node) -> dict[str, bool]:
    found: dict[str, bool] = {}
    ordered = sorted(behaviours.items(), key=lambda item: (len(item[0]), item[0]) if item[0].isdecimal() else (99, ""))
    for _, behaviour in ordered:
        code, kind = behaviour["code"].text(), behaviour["type"]
        if not kind.text().lower().startswith(("state", "point")):
            raise AnnotationError(f"{kind.source}: {kind.shown}; write State event or Point event")
        if code in found:
            raise AnnotationError(f"{behaviour.source}: {code[:40]!r} is there twice; rename one")
        found[code] = kind.text().lower().startswith("state")
    return found


def _read_observation(name: str, observation: Node, reading: _Reading) -> None:
    kind, dated = observation.get("type", "MEDIA"), observation.get("media_creation_date_as_offset", False)
    if kind.text().upper() != "MEDIA":
        raise AnnotationError(f"{kind.source}: {kind.shown} observations have no video; remove the observation")
    if dated.value:
        raise AnnotationError(f"{dated.source}: times count from the media's creation date; shift them to start at 0")
    players = _players(observation, reading)
    variables = {key: str(node.value).strip() for key, node in observation.get("independent_variables", {}).items()}
    for chapter in (chapter for player in players for chapter in player):
        if chapter.video_id in reading.columns:
            other = reading.columns[chapter.video_id][OBSERVATION]
            text = f"{chapter.video_id} is already in observation {other}; keep one of the two"
            raise AnnotationError(f"{observation.source}: {text}")
        reading.columns[chapter.video_id] = {OBSERVATION: name, **variables}
    for state in _states(observation, reading):
        for chapters in players:
            reading.events += cut(state, chapters)


def _players(observation: Node, reading: _Reading) -> list[list[Chapter]]:
    """The chapters of each player, those of the first player first."""
    media = observation.get("media_info", {})
    lengths, offsets = media.get("length", {}), media.get("offset", {})
    players: list[list[Chapter]] = []
    for number, files in sorted(observation["file"].items()):
        names = [node.text() for node in files.elements()]
        if not names:
            continue
        try:
            keys = [reading.index.find(name) for name in names]
        except UnknownVideoError as err:
            if not players or isinstance(err, AmbiguousVideoError):
                raise AnnotationError(f"{files.source}: {err}") from err
            continue
        start_sec = offsets.get(number, 0.0).number()
        lengths_sec = [lengths[name].number() for name in names[:-1]]
        players.append(line_up(keys, lengths_sec, start_sec=start_sec, catches_earlier=not players))
    if not players:
        raise AnnotationError(f"{observation.source}.file: names no media file; add one in BORIS")
    return players


def _states(observation: Node, reading: _Reading) -> Iterator[ClockEvent]:
    """The events, in the order of their starts; problems are noted."""
    offset_sec = observation.get("time offset", 0.0).number()
    opened: dict[tuple[str, str, str], ClockEvent] = {}
    rows = [(node[0].number() - offset_sec, node) for node in observation.get("events", []).elements()]
    found = []
    for time_sec, node in sorted(rows, key=lambda row: row[0]):
        subject, label = str(node[1].value or "").strip(), node[2].text()
        subject = "" if subject.lower() == "no focal subject" else subject
        if label not in reading.is_state:
            reading.problems.add(node.source, f"{label!r} is not in the ethogram; add it or correct the event")
            continue
        state = ClockEvent(label, time_sec, None, subject, node.source)
        identity = (subject, label, str(node.value[3]) if len(node.value) > 3 else "")
        if not reading.is_state[label]:
            found.append(state)
        elif identity in opened:
            start = opened.pop(identity)
            found.append(ClockEvent(label, start.start_sec, time_sec, subject, start.source))
        else:
            opened[identity] = state
    for state in opened.values():
        reading.problems.add(state.source, f"{state.label} starts and never stops; close it in BORIS")
    yield from sorted(found, key=lambda state: state.start_sec)
