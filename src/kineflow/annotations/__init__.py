"""Readers of annotation files: one module for each format, one function `read(path, videos)`, one registry."""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kineflow.annotations import (
    activitynet,
    boris_csv,
    boris_project,
    class_folders,
    frame_csv,
    hmdb51,
    kinetics,
    manifest,
    path_label,
    something_something,
    ucf101,
    via_csv,
)
from kineflow.annotations.matching import VIDEO_SUFFIXES
from kineflow.annotations.model import Annotations, Event, FrameTable, MalformedAnnotationsError
from kineflow.errors import ParamsError

__all__ = [
    "FORMATS",
    "VIDEO_SUFFIXES",
    "Annotations",
    "Event",
    "Format",
    "FrameTable",
    "MalformedAnnotationsError",
    "find_format",
    "read",
]


@dataclass(frozen=True)
class Format:
    """An annotation format.

    Args:
        name: as in `data.format`.
        summary: one line for `kineflow init` and the docs.
        suffixes: of the files that belong to it where the annotations are a folder; none: no file is read.
        read: the annotations of the videos with these keys.
        beside: names or patterns (`*`) of the files that are read beside the annotation file of a name.
    """

    name: str
    summary: str
    suffixes: tuple[str, ...]
    read: Callable[[Path, Sequence[str]], Annotations]
    beside: Callable[[str], tuple[str, ...]] | None = None


FORMATS: tuple[Format, ...] = (
    Format("class_folders", "one folder of videos for each class", (), class_folders.read),
    Format("manifest", "a CSV or TSV with the columns path, label and group", (".csv", ".tsv"), manifest.read),
    Format("ucf101", "an official train list beside its test list", (".txt",), ucf101.read, ucf101.files_beside),
    Format("frame_csv", "a folder with a CSV of 0 and 1 per frame for each video", (".csv", ".tsv"), frame_csv.read),
    Format("boris_csv", "events exported by BORIS as CSV or TSV", (".csv", ".tsv"), boris_csv.read),
    Format("boris_project", "a BORIS project", (".boris",), boris_project.read),
    Format("hmdb51", "official lists of one split, a file for each class", (".txt",), hmdb51.read, hmdb51.files_beside),
    Format("path_label", "a list of `path label` lines", (".txt", ".csv"), path_label.read, path_label.files_beside),
    Format("activitynet", "ActivityNet JSON: segments and subsets", (".json",), activitynet.read),
    Format("kinetics", "the CSV of Kinetics", (".csv",), kinetics.read),
    Format(
        "something_something",
        "Something-Something JSON beside its labels.json",
        (".json",),
        something_something.read,
        something_something.files_beside,
    ),
    Format("via_csv", "temporal segments exported by VIA 3 as CSV", (".csv",), via_csv.read),
)


def find_format(name: str) -> Format:
    """The format called `name`.

    Raises:
        ParamsError: there is none; the message names the known ones, nearest first.
    """
    for known in FORMATS:
        if known.name == name:
            return known
    names = [known.name for known in FORMATS]
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    ordered = near + [known for known in names if known not in near]
    raise ParamsError(f"annotation format {name!r} is unknown; known: {', '.join(ordered)}")


def read(format: str, path: Path, *, videos: Sequence[str]) -> Annotations:
    """Annotations of the videos with the keys `videos`.

    Raises:
        AnnotationError: the file is missing or malformed, or does not fit the videos; names file and row.
        ParamsError: the format is unknown.
    """
    return find_format(format).read(path, videos)
