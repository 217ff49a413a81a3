"""Comma, semicolon or tab separated text, read so that errors can name the row."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kineflow.errors import AnnotationError

DELIMITERS = "\t,;"


@dataclass(frozen=True)
class Row:
    """One row of a file.

    Args:
        source: `file:row`; rows count from 1, as in an editor or a spreadsheet.
        cells: stripped of blanks.
    """

    source: str
    cells: tuple[str, ...]


def read_text(path: Path) -> str:
    """The text of an annotation file.

    Raises:
        AnnotationError: it is missing, or not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except IsADirectoryError as err:
        raise AnnotationError(f"{path} is a folder; name the annotation file in data.annotations") from err
    except (FileNotFoundError, NotADirectoryError) as err:
        raise AnnotationError(
            f"{path}: the annotation file is not there; correct data.annotations (init: --annotations)"
        ) from err
    except UnicodeDecodeError as err:
        line = path.read_bytes()[: err.start].count(b"\n") + 1
        raise AnnotationError(f"{path.name}:{line}: not UTF-8 text; save the file as UTF-8") from err


def read_rows(path: Path, *, delimiter: str | None = None) -> Iterator[Row]:
    """Every row that is not blank, the header included; the separator is the header's most frequent one.

    Raises:
        AnnotationError: the file cannot be read or its quoting is broken.
    """
    text = read_text(path)
    first_line = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = delimiter or max(DELIMITERS, key=first_line.count)
    reader = csv.reader(text.splitlines(keepends=True), delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            stripped = tuple(cell.strip() for cell in cells)
            if any(stripped):
                yield Row(f"{path.name}:{reader.line_num}", stripped)
    except csv.Error as err:
        raise AnnotationError(f"{path.name}:{reader.line_num}: {err}; correct the quotes of this row") from err


def unique_header(row: Row) -> dict[str, int]:
    """Column by name, first column first; names are unique.

    Raises:
        AnnotationError: a column is named twice.
    """
    index: dict[str, int] = {}
    for column, name in enumerate(row.cells):
        if name in index:
            raise AnnotationError(f"{row.source}: column {name!r} is there twice; rename one")
        index[name] = column
    return index


def require_columns(row: Row, header: dict[str, int], names: Sequence[str]) -> None:
    """Raise AnnotationError if a column of `names` is missing."""
    missing = [name for name in names if name not in header]
    if missing:
        raise AnnotationError(
            f"{row.source}: the header lacks {', '.join(missing)} (it has {', '.join(header)}); add the column"
        )
