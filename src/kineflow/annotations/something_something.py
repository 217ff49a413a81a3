"""Something-Something JSON: `*train.json` and `*validation.json` beside `*labels.json`.

An entry is `{"id": "74225", "template": "Spinning [something]", "placeholders": ["a cube"]}`; its class is the template
without brackets, as `labels.json` numbers it. `data.annotations` names one of the lists; the others are read beside it.
Entries of a test list have no template, and are left alone; what filled the placeholders is not read.

Source: Goyal et al., "The 'something something' video database", ICCV 2017, and the instructions of its version 2.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from kineflow.annotations.folder import files_inside, names_inside
from kineflow.annotations.json_file import Node, read_json
from kineflow.annotations.listed import ROLES, Listed
from kineflow.annotations.matching import VideoIndex
from kineflow.annotations.model import Annotations
from kineflow.errors import AnnotationError

LIST = re.compile(r"(train|validation|test|labels)\.json$")


def read(path: Path, videos: Sequence[str]) -> Annotations:
    """Labels and roles of whole videos; classes in the order of their numbers.

    Raises:
        AnnotationError: a list is missing or malformed, or names an unknown video or class.
    """
    lists = _lists(path)
    classes = _parse_classes(lists["labels"])
    known, listed = set(classes), Listed(VideoIndex(videos))
    for name in ("train", "validation", "test"):
        if name in lists:
            for entry in read_json(lists[name]).elements():
                _add(entry, known, listed, role=ROLES[name])
    return listed.annotations(classes)


def files_beside(name: str) -> tuple[str, ...]:
    """Names of the files that are read with one list."""
    match = LIST.search(name)
    if match is None:
        return ()
    return tuple(f"{name[: match.start()]}{other}.json" for other in ("train", "validation", "test", "labels"))


def _lists(path: Path) -> dict[str, Path]:
    """The lists that are there, by `train`, `validation`, `test` and `labels`."""
    first = path
    if path.is_dir():
        inside = [item for item in files_inside(path, (".json",)) if item.name.endswith("labels.json")]
        if len(inside) != 1:
            names = names_inside(path, inside)
            raise AnnotationError(f"{path}: holds the class lists {names}; name a train.json in data.annotations")
        first = inside[0]
    found = {LIST.search(name)[1]: first.with_name(name) for name in files_beside(first.name)}  # type: ignore[index]
    found = {name: item for name, item in found.items() if item.is_file()}
    if "labels" not in found or len(found) < 2:
        raise AnnotationError(f"{path}: no train.json or validation.json with its labels.json; name one of them")
    return found


def _parse_classes(path: Path) -> list[str]:
    numbers = {name: node.number() for name, node in read_json(path).items()}
    if not numbers or sorted(numbers.values()) != list(range(len(numbers))):
        raise AnnotationError(f"{path.name}: the class numbers are not 0 to {len(numbers) - 1}; take the official file")
    return sorted(numbers, key=numbers.__getitem__)


def _add(entry: Node, known: set[str], listed: Listed, *, role: str) -> None:
    try:
        name = str(entry["id"].value).strip()
        if role == "test" and "template" not in entry.value:
            return
        label = entry["template"].text().replace("[", "").replace("]", "")
        if label not in known:
            raise AnnotationError(f"{entry.source}: class {label[:80]!r} is not in labels.json; correct the template")
    except AnnotationError as err:
        listed.problems.take(err)
        return
    listed.add([name], label, entry.source, role=role)
