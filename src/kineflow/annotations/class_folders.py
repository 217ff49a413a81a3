"""One folder for each class, with its videos: `jump/a.mp4`. The annotation path is not read.

A video deeper inside (`jump/day1/a.mp4`) belongs to the class of the outermost folder.
"""

from collections.abc import Sequence
from pathlib import Path

from kineflow.annotations.model import Annotations, Event, Problems


def read(path: Path, videos: Sequence[str]) -> Annotations:
    """Labels of whole videos from the folders they are in.

    Raises:
        AnnotationError: a video is in no folder, or a folder's name has blanks around it.
    """
    problems = Problems()
    events = []
    for key in sorted(videos):
        label, slash, _ = key.partition("/")
        if slash and label != label.strip():
            problems.add(key, f"the class folder {label!r} begins or ends with a blank; rename it")
        elif slash:
            events.append(Event(key, label, None, None, "", key))
        else:
            problems.add(key, "the video is in no class folder; move it into one")
    problems.raise_if_any()
    return Annotations(events=events, classes=tuple(sorted({event.label for event in events})))
