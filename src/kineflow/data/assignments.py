"""Which groups are held out for test: `data/assignments.csv`, kept in git and only ever appended to.

Columns dataset, group, role (`test` or `development`). A group keeps its role for as long as the file lives, so
that a model of today is never scored on a group that a model of yesterday has trained on.
"""

import csv
from collections.abc import Mapping
from pathlib import Path

from kineflow.annotations.delimited import Row, read_rows
from kineflow.atomic import replacing
from kineflow.errors import DataError

COLUMNS = ("dataset", "group", "role")
ROLES = ("test", "development")


def read_assignments(path: Path, *, dataset: str) -> dict[str, str]:
    """Role of each group of `dataset` that has one; empty where the file is not there yet.

    Raises:
        AnnotationError: it is no UTF-8 text of comma separated rows.
        DataError: the header or a role is unknown, or a group has both roles (as after a merge in git).
    """
    if not path.is_file():
        return {}
    roles: dict[str, str] = {}
    rows = read_rows(path, delimiter=",")
    header = next(rows, Row(f"{path.name}:1", ()))
    if header.cells != COLUMNS:
        raise DataError(f"{path}: the first row is {','.join(header.cells)!r}; it must be {','.join(COLUMNS)!r}")
    for row in rows:
        if len(row.cells) != len(COLUMNS) or row.cells[2] not in ROLES:
            text = f"{','.join(row.cells)!r} is not dataset,group,role with role test or development"
            raise DataError(f"{row.source}: {text}")
        name, group, role = row.cells
        if name == dataset and roles.setdefault(group, role) != role:
            raise DataError(
                f"{row.source}: group {group!r} of {dataset!r} is {role} here and {roles[group]} above; "
                "keep the row that models were trained with"
            )
    return roles


def append_assignments(path: Path, *, dataset: str, roles: Mapping[str, str]) -> None:
    """Add the role of new groups of `dataset`, sorted by group; the rows that are there stay as they are.

    The file is written whole or not at all.

    Raises:
        DataError: a group has a role already.
    """
    if not roles:
        return
    taken = sorted(set(roles) & set(read_assignments(path, dataset=dataset)))
    if taken:
        raise DataError(f"{path}: group {taken[0]!r} of {dataset!r} has a role already, and a role never changes")
    text = path.read_bytes().decode("utf-8") if path.is_file() else ",".join(COLUMNS) + "\n"
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        file.write(text if text.endswith("\n") else text + "\n")
        csv.writer(file, lineterminator="\n").writerows((dataset, group, roles[group]) for group in sorted(roles))
