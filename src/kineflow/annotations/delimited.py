"""Text files of annotations: lines, and comma, semicolon or tab separated rows, so that errors can name the row."""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kineflow.errors import AnnotationError

DELIMITERS = "\t,;"
MAX_CELL_CHARS = 10_000_000  # csv's own 131,072 is less than some comments
QUOTED = re.compile(r'"[^"]*"')


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
    """The text of an annotation file, with its own line ends.

    Raises:
        AnnotationError: it cannot be read, or is not UTF-8.
    """
    try:
        content = path.read_bytes()
    except IsADirectoryError as err:
        raise AnnotationError(f"{path} is a folder; name the annotation file in data.annotations") from err
    except (FileNotFoundError, NotADirectoryError) as err:
        raise AnnotationError(
            f"{path}: the annotation file is not there; correct data.annotations (init: --annotations)"
        ) from err
    except OSError as err:
        raise AnnotationError(f"{path}: cannot be read ({err.strerror}); correct its permissions or its name") from err
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        raise AnnotationError(f"{path.name}:{_line_of(content, err.start)}: not UTF-8 text; save it as UTF-8") from err
    if (at := content.find(b"\0")) >= 0:
        line = _line_of(content, at)
        raise AnnotationError(f"{path.name}:{line}: holds a zero byte, so it is no UTF-8 text; save it as UTF-8")
    return text


def read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """`file:row` and text of every line that is not blank, stripped; rows count from 1.

    Raises:
        AnnotationError: the file cannot be read.
    """
    for row, line in enumerate(_split_lines(read_text(path)), start=1):
        if line.strip():
            yield f"{path.name}:{row}", line.strip()


def read_rows(path: Path, *, delimiter: str | None = None) -> Iterator[Row]:
    """Every row that is not blank, the header included; the separator is found where it is not given.

    Raises:
        AnnotationError: the file cannot be read or its quoting is broken.
    """
    text = read_text(path)
    csv.field_size_limit(MAX_CELL_CHARS)
    reader = csv.reader(_split_lines(text), delimiter=delimiter or find_delimiter(text), strict=True)
    try:
        for cells in reader:
            stripped = tuple(map(str.strip, cells))
            if any(stripped):
                yield Row(f"{path.name}:{reader.line_num}", stripped)
    except csv.Error as err:
        raise AnnotationError(f"{path.name}:{reader.line_num}: {err}; correct the quotes of this row") from err


def find_delimiter(text: str) -> str:
    """The separator that occurs most often outside quotes in the first line that is not blank."""
    first_line = next((line for line in _split_lines(text) if line.strip()), "")
    return max(DELIMITERS, key=QUOTED.sub("", first_line).count)


def unique_header(row: Row) -> dict[str, int]:
    """Column by name, first column first; blank columns at the end, as spreadsheets leave them, are not counted.

    Raises:
        AnnotationError: a column is named twice.
    """
    index: dict[str, int] = {}
    num_named = max((i + 1 for i, name in enumerate(row.cells) if name), default=0)
    for column, name in enumerate(row.cells[:num_named]):
        if name in index:
            raise AnnotationError(f"{row.source}: column {name[:80]!r} is there twice; rename one")
        index[name] = column
    return index


def require_columns(row: Row, header: Mapping[str, int], names: Sequence[str]) -> None:
    """Raise AnnotationError if a column of `names` is missing."""
    missing = [name for name in names if name not in header]
    if missing:
        held = " ".join(", ".join(header)[:200].splitlines())
        raise AnnotationError(f"{row.source}: the header lacks {', '.join(missing)} (it has {held}); add the column")


def named_cells(row: Row, header: Mapping[str, int]) -> dict[str, str]:
    """The cells of a row by the header's names; blank cells beyond the header are not counted.

    Raises:
        AnnotationError: the row has more or fewer cells than the header.
    """
    if len(row.cells) < len(header) or any(row.cells[len(header) :]):
        wrong = f"{len(row.cells)} columns where the header has {len(header)}"
        raise AnnotationError(f"{row.source}: {wrong}; correct the row")
    return dict(zip(header, row.cells, strict=False))


def _split_lines(text: str) -> Iterator[str]:
    """Lines as editors count them; `str.splitlines` would also split at characters that names may hold."""
    return (match[0] for match in re.finditer(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z", text))


def _line_of(content: bytes, position: int) -> int:
    return content[:position].count(b"\n") + 1
