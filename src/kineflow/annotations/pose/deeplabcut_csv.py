"""Keypoints from DeepLabCut as CSV: three header rows (scorer, bodyparts, coords), four with `individuals`.

The first column counts the frames from 0. Empty cells are points that were not found.

Source: DeepLabCut's documentation, "Novel video analysis" and "The H5 and CSV files".
"""

import csv
from pathlib import Path

import numpy as np

from kineflow.annotations.delimited import Row, read_rows
from kineflow.annotations.pose.columns import LEVELS, LEVELS_MULTI, as_track
from kineflow.annotations.pose.track import PoseTrack
from kineflow.errors import AnnotationError


def read(path: Path) -> PoseTrack:
    """The track of one video.

    Raises:
        AnnotationError: the header is another, or a row is malformed; names the row.
    """
    rows = read_rows(path, delimiter=",")
    header = [row for _, row in zip(range(3), rows, strict=False)]
    if len(header) == 3 and header[1].cells[0] == LEVELS_MULTI[1]:
        header += [row for _, row in zip(range(1), rows, strict=False)]
    levels = tuple(row.cells[0] for row in header)
    if levels not in (LEVELS, LEVELS_MULTI):
        raise AnnotationError(
            f"{path.name}:1: the header rows are not scorer, bodyparts, coords; take DeepLabCut's file"
        )
    if len({len(row.cells) for row in header}) > 1:
        raise AnnotationError(f"{header[-1].source}: the header rows differ in length; take DeepLabCut's file")
    columns = list(zip(*(row.cells[1:] for row in header), strict=True))
    values = [_values(row, frame, len(columns)) for frame, row in enumerate(rows)]
    values_FK = np.array(values, np.float64).reshape(len(values), len(columns))
    return as_track(columns, values_FK, source=header[0].source)


def is_deeplabcut(path: Path) -> bool:
    """Whether a CSV begins as those of DeepLabCut do."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = [row[0] for _, row in zip(range(2), csv.reader(file), strict=False) if row]
    except (OSError, UnicodeDecodeError, csv.Error):
        return False
    return first[:1] == ["scorer"] and first[1:] in (["bodyparts"], ["individuals"])


def _values(row: Row, frame: int, num_columns: int) -> list[float]:
    if len(row.cells) != num_columns + 1:
        wrong = f"{len(row.cells)} columns where the header has {num_columns + 1}"
        raise AnnotationError(f"{row.source}: {wrong}; the file may be cut off")
    if row.cells[0] not in (str(frame), f"{frame}.0"):
        raise AnnotationError(f"{row.source}: frame {row.cells[0]} where {frame} follows; give one row for each frame")
    try:
        return [float(cell) if cell else np.nan for cell in row.cells[1:]]
    except ValueError as err:
        raise AnnotationError(f"{row.source}: {str(err).rpartition(': ')[2]} is no number; correct it") from err
