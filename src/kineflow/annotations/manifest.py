"""A CSV or TSV with a header and one row for each video: `path`, `label`, and optionally `group`.

Every other column is kept, for `data.group_from: column:NAME`. A `role` column (train, val, test) gives official lists.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from kineflow.annotations.delimited import named_cells, read_rows, require_columns, unique_header
from kineflow.annotations.matching import UnknownVideoError, VideoIndex
from kineflow.annotations.model import Annotations, Event, Problems
from kineflow.errors import AnnotationError

ROLES = ("train", "val", "test")


def read(path: Path, videos: Sequence[str]) -> Annotations:
    """Labels of whole videos from a manifest.

    Raises:
        AnnotationError: the header lacks a column, or rows name unknown videos, no label, or a video twice.
    """
    rows = read_rows(path)
    first = next(rows, None)
    if first is None:
        raise AnnotationError(f"{path.name}: the manifest is empty; give it a header path,label,group and rows")
    header = unique_header(first)
    require_columns(first, header, ("path", "label"))
    index, problems = VideoIndex(videos), Problems()
    events: list[Event] = []
    columns: dict[str, dict[str, str]] = {}
    seen: dict[str, str] = {}
    for row in rows:
        try:
            values = named_cells(row, header)
        except AnnotationError as err:
            problems.take(err)
            continue
        key = _checked_video(values, row.source, index, seen, problems)
        if key is not None:
            events.append(Event(key, values["label"], None, None, values.get("subject", ""), row.source))
            columns[key] = {name: value for name, value in values.items() if name not in ("path", "label")}
    problems.raise_if_any()
    roles = {key: values["role"] for key, values in columns.items() if values.get("role")}
    groups = {key: values["group"] for key, values in columns.items() if values.get("group")}
    return Annotations(events=events, groups=groups, columns=columns, roles=roles)


def _checked_video(
    values: Mapping[str, str], source: str, index: VideoIndex, seen: dict[str, str], problems: Problems
) -> str | None:
    try:
        key = index.find(values["path"])
    except UnknownVideoError as err:
        problems.add(source, str(err))
        return None
    if key in seen:
        problems.add(source, f"video {key} is already in row {seen[key]}; keep one row")
        return None
    seen[key] = source.rpartition(":")[2]
    if not values["label"]:
        problems.add(source, "no label; fill it in or remove the row")
        return None
    if values.get("role", "") not in ("", *ROLES):
        problems.add(source, f"role {values['role']!r}; write train, val, test or nothing")
        return None
    return key
