"""`index.tsv`, which every store of one file for each video has: which videos, made from what, and how much of each.

The columns are video_id, key (of everything that the file depends on) and num_frames (how many images, flows or
features it holds). The version is that of the whole folder: files that have none of their own (`.npy`) have this one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kineflow.atomic import write_text
from kineflow.errors import DataError
from kineflow.schema import FileSchema

INDEX = "index.tsv"
COLUMNS = "video_id\tkey\tnum_frames"
SCHEMA = FileSchema("index", version=2, oldest=1, remedy="run the stage that makes this folder again")


@dataclass(frozen=True)
class VideoResult:
    """What the result of one video is: its key in the store, and how many frames, flows or features it holds."""

    video_id: str
    key: str
    num_frames: int


def write_index(folder: Path, results: Iterable[VideoResult]) -> None:
    """Write the index of a folder, whole or not at all."""
    rows = [f"{result.video_id}\t{result.key}\t{result.num_frames}" for result in results]
    write_text(folder / INDEX, "\n".join([SCHEMA.line, COLUMNS, *rows]) + "\n")


def read_index(folder: Path) -> list[VideoResult]:
    """What the stage that owns `folder` made.

    Raises:
        DataError: it made nothing, or the index is of another version or damaged.
    """
    path = folder / INDEX
    if not path.is_file():
        raise DataError(f"{path} is not there; run the stage that makes {folder}")
    try:
        lines = SCHEMA.check_lines(path, path.read_text(encoding="utf-8").split("\n")[:-1])
        if not lines or lines[0] != COLUMNS:
            raise DataError(f"{path} is not an index; {SCHEMA.remedy}")
        rows = [line.split("\t") for line in lines[1:]]
        return [VideoResult(video_id, key, int(num_frames)) for video_id, key, num_frames in rows]
    except ValueError as err:
        raise DataError(f"{path} is damaged; {SCHEMA.remedy}") from err
