"""A recording in consecutive parts, as action cameras write it: events of the whole clock, cut at the parts' bounds."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kineflow.annotations.model import Event


@dataclass(frozen=True)
class Chapter:
    """One media file of a recording, on the recording's clock.

    Args:
        video_id: the video's key.
        start_sec: of its first frame.
        stop_sec: of the next file's first frame; infinite for the last.
        catches_earlier: whether it takes events before its start, so that a wrong time is not lost.
    """

    video_id: str
    start_sec: float
    stop_sec: float
    catches_earlier: bool


@dataclass(frozen=True)
class ClockEvent:
    """An event on the clock of a recording; `stop_sec` is None for a point event."""

    label: str
    start_sec: float
    stop_sec: float | None
    subject: str
    source: str


def line_up(
    videos: Sequence[str], lengths_sec: Sequence[float], *, start_sec: float = 0.0, catches_earlier: bool = True
) -> list[Chapter]:
    """Chapters that follow each other.

    Args:
        videos: keys, in the order of recording.
        lengths_sec: of all but the last, which ends nowhere: an event after its end is then found with the video.
        start_sec: of the first.
        catches_earlier: whether the first takes events before its start.
    """
    chapters = []
    for i, key in enumerate(videos):
        stop_sec = math.inf if i == len(videos) - 1 else start_sec + lengths_sec[i]
        chapters.append(Chapter(key, start_sec, stop_sec, catches_earlier and i == 0))
        start_sec = stop_sec
    return chapters


def cut(event: ClockEvent, chapters: Sequence[Chapter]) -> Iterator[Event]:
    """The event in each chapter that it touches, on that chapter's own clock; a state is cut at the bounds."""
    for chapter in chapters:
        first_sec = -math.inf if chapter.catches_earlier else chapter.start_sec
        if event.stop_sec is None or event.stop_sec == event.start_sec:
            if first_sec <= event.start_sec < chapter.stop_sec:
                moved = round(event.start_sec - chapter.start_sec, 6)
                stop = None if event.stop_sec is None else moved
                yield Event(chapter.video_id, event.label, moved, stop, event.subject, event.source)
            continue
        start_sec, stop_sec = max(first_sec, event.start_sec), min(chapter.stop_sec, event.stop_sec)
        if start_sec < stop_sec:
            times = (round(start_sec - chapter.start_sec, 6), round(stop_sec - chapter.start_sec, 6))
            yield Event(chapter.video_id, event.label, *times, event.subject, event.source)
