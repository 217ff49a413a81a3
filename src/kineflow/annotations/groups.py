"""Which group (subject, nest, recording) a video belongs to, by the rule in `data.group_from`."""

import re
from collections.abc import Mapping, Sequence

from kineflow.annotations.model import Annotations, Problems
from kineflow.errors import ParamsError

RULES = "annotations, video, folder, column:NAME or regex:PATTERN"


def assign_groups(rule: str, videos: Sequence[str], annotations: Annotations) -> dict[str, str]:
    """The group of every video.

    Args:
        rule: `annotations` (the format's own), `video` (each its own), `folder` (the one it is in), `column:NAME` (of
            the annotation file), or `regex:PATTERN` (its first group, searched in the key).
        videos: keys; those without annotations are their own group where the annotations would say.
        annotations: of these videos.

    Raises:
        ParamsError: the rule is unknown, or no regular expression with a group.
        AnnotationError: an annotated video has no group, or a key does not match.
    """
    name, _, argument = rule.partition(":")
    if rule == "video":
        return {key: key for key in videos}
    if rule == "folder":
        return {key: key.rpartition("/")[0] or "." for key in videos}
    if name == "regex" and argument:
        return _by_regex(argument, videos)
    if name == "column" and argument:
        stated = {key: row[argument] for key, row in annotations.columns.items() if row.get(argument)}
        return _stated(stated, videos, annotations, f"no single value in column {argument!r}")
    if rule == "annotations":
        return _stated(annotations.groups, videos, annotations, "no group in the annotations")
    raise ParamsError(f"data.group_from: {rule!r} is no rule; write {RULES}")


def _stated(stated: Mapping[str, str], videos: Sequence[str], annotations: Annotations, lack: str) -> dict[str, str]:
    problems = Problems()
    annotated = {event.video_id for event in annotations.events} | set(annotations.frame_tables)
    if annotated and not stated:
        known = sorted({name for row in annotations.columns.values() for name in row})
        text = f"{lack} for any video (columns: {', '.join(known) or 'none'}); choose another of {RULES}"
        problems.add("data.group_from", text)
        problems.raise_if_any()
    for key in videos:
        if key in annotated and key not in stated:
            problems.add(key, f"{lack}; fill it in or choose another data.group_from")
    problems.raise_if_any()
    return {key: stated.get(key, key) for key in videos}


def _by_regex(pattern: str, videos: Sequence[str]) -> dict[str, str]:
    try:
        compiled = re.compile(pattern)
    except re.error as err:
        raise ParamsError(f"data.group_from: {pattern!r} is no regular expression ({err}); correct it") from err
    if compiled.groups < 1:
        raise ParamsError(f"data.group_from: {pattern!r} has no (group) in parentheses; add one")
    problems = Problems()
    groups = {}
    for key in videos:
        match = compiled.search(key)
        if match is None or not match[1]:
            problems.add(key, f"{pattern!r} does not match; correct data.group_from or rename the video")
        else:
            groups[key] = match[1]
    problems.raise_if_any()
    return groups
