"""Lists of `path label`, one video a line, separated by a blank or a comma; as mmaction2, SlowFast and VideoMAE use.

A label is a word, or a number. With a list of classes beside it (`classes.txt`, `labels.txt` or `label_map.txt`, one
class a line), numbers count its lines from 0; without one, a number is its own name.
A file name with the word `train`, `val` or `test` states the role, and the lists that are named alike but for that word
are read with it: `train.csv` with `val.csv` and `test.csv`. A single list states no role.

Source: mmaction2, "Prepare Dataset"; SlowFast, DATASET.md; VideoMAE, DATASET.md.
"""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from kineflow.annotations.delimited import read_lines
from kineflow.annotations.listed import Listed
from kineflow.annotations.matching import VIDEO_SUFFIXES, VideoIndex
from kineflow.annotations.model import Annotations
from kineflow.errors import AnnotationError

CLASS_LISTS = ("classes.txt", "labels.txt", "label_map.txt")
ROLE_WORD = re.compile(r"(?<![a-z])(train|val|test)(?![a-su-z])", re.IGNORECASE)


def read(path: Path, videos: Sequence[str]) -> Annotations:
    """Labels of whole videos, and their roles where train, val or test lists lie side by side.

    Raises:
        AnnotationError: a list is missing, empty or malformed, or names an unknown video or class number.
    """
    if path.is_dir():
        raise AnnotationError(f"{path} is a folder; name one list, such as {path / 'train.txt'}")
    classes = _parse_classes(path.parent)
    lists = [path, *(path.with_name(name) for name in role_lists(path.name) if path.with_name(name).is_file())]
    listed = Listed(VideoIndex(videos))
    for list_path in lists:
        word = ROLE_WORD.search(list_path.name)
        _read_list(list_path, classes, listed, role=word[1].lower() if word and len(lists) > 1 else "")
    return listed.annotations(classes)


def role_lists(name: str) -> tuple[str, ...]:
    """Names of the lists of the other roles."""
    word = ROLE_WORD.search(name)
    if word is None:
        return ()
    others = [role for role in ("train", "val", "test") if role != word[1].lower()]
    return tuple(f"{name[: word.start(1)]}{role}{name[word.end(1) :]}" for role in others)


def files_beside(name: str) -> tuple[str, ...]:
    """Names of the files that are read beside a list."""
    return (*role_lists(name), *CLASS_LISTS)


def split_line(line: str) -> tuple[str, str]:
    """Path and label of a line; either is blank where the line does not hold both."""
    by_comma, by_blank = line.rpartition(","), line.strip().rpartition(" ")
    if "\t" in line:
        by_blank = line.rpartition("\t")
    is_path = [PurePosixPath(parts[0].strip().lower()).suffix in VIDEO_SUFFIXES for parts in (by_comma, by_blank)]
    head, _, tail = by_comma if is_path[0] or (by_comma[1] and not is_path[1]) else by_blank
    return head.strip(), tail.strip()


def _read_list(path: Path, classes: Sequence[str] | None, listed: Listed, *, role: str) -> None:
    is_empty = True
    for source, line in read_lines(path):
        is_empty = False
        name, label = split_line(line)
        if not name or not label:
            listed.problems.add(source, f"{line!r} is not `path label`; correct the line")
        elif classes is None:
            listed.add([name], label, source, role=role)
        elif label.isdecimal() and len(label) < 10 and int(label) < len(classes):
            listed.add([name], classes[int(label)], source, role=role)
        elif label in classes:
            listed.add([name], label, source, role=role)
        else:
            text = f"label {label!r} is none of the {len(classes)} classes in the class list (numbers count from 0)"
            listed.problems.add(source, f"{text}; correct it")
    if is_empty:
        listed.problems.add(path.name, "the list is empty; write `path label` lines")


def _parse_classes(folder: Path) -> list[str] | None:
    for name in CLASS_LISTS:
        if (folder / name).is_file():
            classes = [line for _, line in read_lines(folder / name)]
            if not classes or len(set(classes)) < len(classes):
                raise AnnotationError(f"{name}: lists no class, or one twice; write each class once")
            return classes
    return None
