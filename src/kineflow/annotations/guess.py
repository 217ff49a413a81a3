"""Which format is a file of annotations in? By its name and its first lines, never by trying all readers."""

import csv
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath

from kineflow.annotations import FORMATS, Format, boris_csv, find_format, hmdb51, something_something
from kineflow.annotations.delimited import find_delimiter, read_lines
from kineflow.annotations.frame_csv import INDEX_NAMES, VALUES
from kineflow.annotations.json_file import read_json
from kineflow.annotations.matching import VIDEO_SUFFIXES
from kineflow.annotations.path_label import split_line
from kineflow.errors import AnnotationError, ParamsError
from kineflow.storage import is_s3

MAX_LINES = 60  # before the header of an old BORIS export
MAX_FILES = 5  # of a folder


def choose_format(annotations: str, name: str | None, videos: Sequence[str]) -> tuple[Format, str]:
    """The format called `name`, or, without a name, the guessed one; and why.

    Args:
        annotations: a file or folder, or their s3:// URI, which is not looked into.
        name: one of `kineflow.annotations.FORMATS`, or None.
        videos: keys under the source; they tell class folders.

    Raises:
        AnnotationError, ParamsError: as by `guess_format`; or on S3 no format is named.
    """
    if name is not None:
        return find_format(name), "as given"
    if is_s3(annotations):
        raise ParamsError(f"{annotations}: the format of annotations on S3 is not guessed; choose it by --format")
    known, reason = guess_format(Path(annotations), videos)
    return known, f"guessed: {reason}"


def guess_format(path: Path, videos: Sequence[str]) -> tuple[Format, str]:
    """The format of `path`, and the reason.

    Args:
        path: a local file or folder.
        videos: keys under the source; they tell class folders.

    Raises:
        AnnotationError: the path is not there or its first file is not UTF-8.
        ParamsError: nothing fits, or more than one format does; names the candidates.
    """
    if not path.exists():
        raise AnnotationError(f"{path}: the annotations are not there; correct --annotations")
    found = dict(_of_folder(path, videos) if path.is_dir() else _of_file(path))
    if len(found) == 1:
        ((name, reason),) = found.items()
        return find_format(name), reason
    if found:
        candidates = " or ".join(f"{name} ({reason})" for name, reason in found.items())
        raise ParamsError(f"{path} could be {candidates}; choose by --format")
    if path.is_dir() and (inside := _files_inside(path)):
        raise ParamsError(f"{path} is a folder; name one of its files: {', '.join(inside)}")
    names = ", ".join(known.name for known in FORMATS)
    raise ParamsError(f"{path} looks like none of the formats {names}; choose by --format")


def _of_folder(path: Path, videos: Sequence[str]) -> Iterator[tuple[str, str]]:
    names = sorted(item.name for item in path.iterdir() if item.is_file() and item.name[0] != ".")
    if any(re.match(r"trainlist\d+\.txt", name) for name in names):
        yield "ucf101", "it holds trainlist and testlist files"
    if any(hmdb51.LIST.match(name) for name in names):
        yield "hmdb51", "it holds lists named <class>_test_split<N>.txt"
    if {"labels", "train"} <= {match[1] for name in names if (match := something_something.LIST.search(name))}:
        yield "something_something", "it holds train.json beside labels.json"
    tables = [item for item in sorted(path.rglob("*")) if item.suffix.lower() in (".csv", ".tsv")][:MAX_FILES]
    for table in tables:
        for name, reason in _of_table(table):
            if name in ("frame_csv", "boris_csv", "kinetics"):  # the formats that come as folders of tables
                yield name, f"{table.name}: {reason}"
    if not tables and videos and all("/" in key for key in videos) and not _lists(names):
        yield "class_folders", "every video is in a folder and no annotation file is there"


def _files_inside(path: Path) -> list[str]:
    """Files of a folder that could be named instead, with their formats."""
    files = [item for item in sorted(path.iterdir()) if item.is_file() and not item.name.startswith(".")]
    return [f"{item.name} ({name})" for item in files[:MAX_FILES] for name, _ in _of_file(item)]


def _lists(names: Sequence[str]) -> bool:
    return any(PurePosixPath(name).suffix.lower() in (".txt", ".json", ".boris") for name in names)


def _of_file(path: Path) -> Iterator[tuple[str, str]]:
    suffix = path.suffix.lower()
    if suffix == ".boris":
        yield "boris_project", "its name ends in .boris"
    elif suffix == ".json":
        yield from _of_json(path)
    elif re.match(r"trainlist\d+\.txt$", path.name):
        yield "ucf101", "it is named as a train list of UCF-101"
    elif hmdb51.LIST.match(path.name):
        yield "hmdb51", "it is named <class>_test_split<N>.txt"
    elif suffix in (".csv", ".tsv", ".txt"):
        yield from _of_table(path)


def _of_json(path: Path) -> Iterator[tuple[str, str]]:
    root = read_json(path).value
    if isinstance(root, dict) and "database" in root:
        yield "activitynet", "it has the key database"
    if isinstance(root, dict) and "behaviors_conf" in root:
        yield "boris_project", "it has the key behaviors_conf"
    if isinstance(root, list) and something_something.LIST.search(path.name):
        yield "something_something", "it is a list of entries and named as one of Something-Something"


def _of_table(path: Path) -> Iterator[tuple[str, str]]:
    lines = [line for _, line in islice(read_lines(path), MAX_LINES)]
    if not lines:
        return
    if any(line.startswith("# CSV_HEADER") for line in lines):
        yield "via_csv", "it has the line # CSV_HEADER of VIA"
        return
    rows = _rows(lines)
    header, first = rows[0], rows[1] if len(rows) > 1 else []
    if {"youtube_id", "time_start"} <= set(header):
        yield "kinetics", "it has the columns youtube_id and time_start"
    elif {"path", "label"} <= set(header):
        yield "manifest", "it has the columns path and label"
    elif any(_is_boris(row) for row in rows):
        yield "boris_csv", "it has the columns Behavior and Time or Start"
    elif header[0] != "scorer" and _is_frames(header, first):
        yield "frame_csv", "its rows are 0, 1 and -1 below the names of behaviours"
    elif PurePosixPath(split_line(lines[0])[0].lower()).suffix in VIDEO_SUFFIXES:
        yield "path_label", "its first line is the path of a video and a label"


def _rows(lines: Sequence[str]) -> list[list[str]]:
    """Cells of the first lines; none are kept of those whose quotes go on beyond them."""
    delimiter = find_delimiter(lines[0])
    try:
        return [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=delimiter)]
    except csv.Error:
        return [[lines[0]]]


def _is_boris(row: Sequence[str]) -> bool:
    lower = {cell.lower() for cell in row}
    return (
        "behavior" in lower
        and bool({"time", "start (s)"} & lower)
        and bool({*boris_csv.MEDIA_NAMES, boris_csv.SOURCE} & lower)
    )


def _is_frames(header: Sequence[str], first: Sequence[str]) -> bool:
    own = first[header[0] in INDEX_NAMES :]
    return len(header) == len(first) > 0 and bool(own) and set(own) <= set(VALUES) and not set(header) <= set(VALUES)
