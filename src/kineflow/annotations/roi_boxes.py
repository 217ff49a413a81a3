"""One fixed box for each video: CSV with the columns video, x, y, width, height, in pixels of the video as shown."""

from dataclasses import dataclass
from pathlib import Path

from kineflow.annotations.delimited import named_cells, read_rows, require_columns, unique_header
from kineflow.errors import AnnotationError

COLUMNS = ("video", "x", "y", "width", "height")


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels of the video as shown (turned); x and y are its upper left corner, from 0."""

    x_px: int
    y_px: int
    width_px: int
    height_px: int


def read_boxes(path: Path) -> dict[str, Box]:
    """The box of each video, by its video_id.

    Raises:
        AnnotationError: the file is missing, or a row is wrong; names the row.
    """
    rows = read_rows(path)
    first = next(rows, None)
    if first is None:
        raise AnnotationError(f"{path.name}: no header; the columns are {', '.join(COLUMNS)}")
    header = unique_header(first)
    require_columns(first, header, COLUMNS)
    boxes: dict[str, Box] = {}
    for row in rows:
        cells = named_cells(row, header)
        video = cells["video"]
        if video in boxes:
            raise AnnotationError(f"{row.source}: {video} has a box above already; keep one")
        boxes[video] = Box(*(_pixels(cells[name], name, row.source) for name in COLUMNS[1:]))
    return boxes


def _pixels(cell: str, name: str, source: str) -> int:
    least = 1 if name in ("width", "height") else 0
    if not cell.isascii() or not cell.isdecimal() or len(cell) > 9 or int(cell) < least:
        raise AnnotationError(f"{source}: {name} is {cell!r}; write a whole number of pixels, at least {least}")
    return int(cell)
