"""ActivityNet JSON: labelled segments of untrimmed videos, and the subset that each belongs to.

`{"database": {"ID": {"subset": "training", "annotations": [{"label": "...", "segment": [1.5, 9.0]}]}}}`; THUMOS,
HACS and FineAction come in the same form. A video is named by its id or, as in the official download, `v_ID`.
Subsets training, validation and testing become roles. A video of the testing subset without annotations is left alone.

Source: ActivityNet, "Download", http://activity-net.org/download.html.
"""

from collections.abc import Sequence
from pathlib import Path

from kineflow.annotations.json_file import Node, read_json
from kineflow.annotations.listed import ROLES, find_any
from kineflow.annotations.matching import UnknownVideoError, VideoIndex
from kineflow.annotations.model import Annotations, Event, Problems
from kineflow.errors import AnnotationError


def read(path: Path, videos: Sequence[str]) -> Annotations:
    """Segments and roles of the videos.

    Raises:
        AnnotationError: the file is no ActivityNet JSON, or names an unknown video or subset, or a wrong segment.
    """
    index, problems = VideoIndex(videos), Problems()
    events: list[Event] = []
    roles: dict[str, str] = {}
    for name, entry in read_json(path)["database"].items():
        try:
            segments = [_segment(item) for item in entry.get("annotations", []).elements()]
            role = _role(entry)
            if not segments:
                continue
            key = find_any(index, (name, f"v_{name}"))
        except UnknownVideoError as err:
            problems.add(entry.source, str(err))
            continue
        except AnnotationError as err:
            problems.take(err)
            continue
        roles |= {key: role} if role else {}
        events += [Event(key, label, start, stop, "", source) for label, start, stop, source in segments]
    problems.raise_if_any()
    return Annotations(events=events, roles=roles)


def _role(entry: Node) -> str:
    subset = entry.get("subset", "")
    if subset.value and str(subset.value).lower() not in ROLES:
        raise AnnotationError(f"{subset.source}: {subset.shown}; write training, validation or testing")
    return ROLES.get(str(subset.value).lower(), "")


def _segment(item: Node) -> tuple[str, float, float, str]:
    label, segment = item["label"].text(), item["segment"]
    start_sec, stop_sec = segment[0].number(), segment[1].number()
    if stop_sec < start_sec:
        raise AnnotationError(
            f"{segment.source}: stops at {stop_sec:g} s, before its start at {start_sec:g} s; correct it"
        )
    return label, start_sec, stop_sec, item.source
