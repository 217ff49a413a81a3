"""A folder with one CSV for each video and one row for each frame: a 0/1 column for each behaviour.

A file belongs to the video of the same name. A first column without a name (or named `frame`) that counts from 0 is
an index; a column `background` is 1 where no behaviour holds and is left out; -1 means unlabelled.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kineflow.annotations.delimited import Row, read_rows, unique_header
from kineflow.annotations.folder import file_or_folder
from kineflow.annotations.matching import UnknownVideoError, VideoIndex
from kineflow.annotations.model import Annotations, FrameTable, Problems
from kineflow.errors import AnnotationError

BACKGROUND = "background"
INDEX_NAMES = ("", "frame", "Unnamed: 0")
VALUES = {"0": 0, "1": 1, "-1": -1, "0.0": 0, "1.0": 1, "-1.0": -1}


def read(path: Path, videos: Sequence[str]) -> Annotations:
    """Labels of every frame of the videos that have a table.

    Raises:
        AnnotationError: a table has no video, malformed cells or other columns than the rest.
    """
    tables = _tables(path)
    index, problems = VideoIndex(videos), Problems()
    found: dict[str, FrameTable] = {}
    behaviours: tuple[str, ...] | None = None
    for table_path in tables:
        try:
            key = _find_video(index, table_path, path)
        except UnknownVideoError as err:
            problems.add(table_path.name, str(err))
            continue
        if key in found:
            problems.add(table_path.name, f"video {key} already has {found[key].source}; keep one table")
            continue
        table = parse_table(table_path, problems)
        if behaviours is None:
            behaviours = table.behaviours
        if set(table.behaviours) == set(behaviours):
            order = [table.behaviours.index(name) for name in behaviours]
            found[key] = FrameTable(behaviours, table.values[:, order], table.source)
        else:
            text = f"columns {', '.join(table.behaviours)}, but {', '.join(behaviours)} in {tables[0].name}"
            problems.add(f"{table_path.name}:1", f"{text}; give all tables the same (-1 where unlabelled)")
    problems.raise_if_any()
    return Annotations(frame_tables=found, classes=behaviours)


def _find_video(index: VideoIndex, table: Path, root: Path) -> str:
    """By its place in the folder where that mirrors the videos' folders; else by its bare name, of a video in none."""
    if table == root:
        return index.find(table.stem)
    try:
        return index.find(table.relative_to(root).with_suffix("").as_posix())
    except UnknownVideoError:
        key = index.find(table.stem)
        if "/" in key:
            raise
        return key


def parse_table(path: Path, problems: Problems) -> FrameTable:
    """One table, without its index and `background`; malformed rows are noted in `problems`.

    Raises:
        AnnotationError: there is no header or no behaviour.
    """
    rows = read_rows(path)
    first = next(rows, None)
    if first is None:
        raise AnnotationError(f"{path.name}: the table is empty; give it a header of behaviours and a row per frame")
    header = unique_header(first)
    names = list(header)
    index_column = 0 if names[0] in INDEX_NAMES else None
    behaviours = tuple(name for name in names[index_column is not None :] if name != BACKGROUND)
    if not behaviours or "" in behaviours or set(names) <= set(VALUES):
        raise AnnotationError(f"{first.source}: no header with the names of behaviours; write one")
    columns = np.array([header[name] for name in behaviours])
    first_line = int(first.source.rpartition(":")[2])
    values = []
    for frame, row in enumerate(rows):
        if row.source != f"{path.name}:{first_line + 1 + frame}":
            problems.add(row.source, "a blank row before this one shifts the frames; remove or fill it")
            break
        text = _fault(row, names, index_column, frame)
        if text is None:
            cells = np.array([VALUES.get(cell, 0) for cell in row.cells[: len(names)]], dtype=np.int8)
            text = _contradiction(cells, columns, header.get(BACKGROUND))
        if text is not None:
            problems.add(row.source, text)
            continue
        values.append(cells[columns])
    stacked = np.stack(values) if values else np.empty((0, len(behaviours)), np.int8)
    return FrameTable(behaviours, stacked, path.name)


def _fault(row: Row, names: Sequence[str], index_column: int | None, frame: int) -> str | None:
    if len(row.cells) < len(names) or any(row.cells[len(names) :]):
        return f"{len(row.cells)} columns where the header has {len(names)}; correct the row"
    for column, cell in enumerate(row.cells[: len(names)]):
        if column == index_column:
            if cell not in (str(frame), f"{frame}.0"):
                return f"frame {cell} where {frame} follows; give one row for each frame, counted from 0"
        elif cell not in VALUES:
            return f"{names[column]} is {cell!r}; write 0, 1, or -1 for unlabelled"
    return None


def _contradiction(cells: np.ndarray, columns: np.ndarray, background: int | None) -> str | None:
    if background is None or (cells == -1).any():
        return None
    if (cells[background] == 1) == bool((cells[columns] == 1).any()):
        return "background must be 1 exactly where no behaviour is; correct the row"
    return None


def _tables(path: Path) -> list[Path]:
    if not path.exists():
        raise AnnotationError(f"{path}: the folder of per-frame tables is not there; correct data.annotations")
    return file_or_folder(path, (".csv", ".tsv"), wanted="one table for each video")
