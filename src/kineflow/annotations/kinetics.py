"""Kinetics CSV: `label,youtube_id,time_start,time_end,split`, one file or a folder of them.

Clips are trimmed, so each is a whole video. It is named `<id>_<start>_<end>` with six digits each, as the usual
downloaders write it, or just `<id>`. `split` (train, val or validate, test) becomes the role. The test list of
Kinetics-400 has no column `label`: such a list is left alone. Further columns (`is_cc`) are not read.

Source: Kay et al., "The Kinetics Human Action Video Dataset", arXiv:1705.06950, and the CSV files published with it.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from kineflow.annotations.delimited import named_cells, read_rows, require_columns, unique_header
from kineflow.annotations.folder import file_or_folder
from kineflow.annotations.listed import ROLES, Listed
from kineflow.annotations.matching import VideoIndex
from kineflow.annotations.model import Annotations
from kineflow.errors import AnnotationError

COLUMNS = ("youtube_id", "time_start", "time_end", "split")


def read(path: Path, videos: Sequence[str]) -> Annotations:
    """Labels and roles of trimmed clips.

    Raises:
        AnnotationError: a column is missing, or a row is malformed or names an unknown video.
    """
    listed = Listed(VideoIndex(videos))
    for file in file_or_folder(path, (".csv",), wanted="the files of Kinetics"):
        rows = read_rows(file)
        first = next(rows, None)
        if first is None:
            raise AnnotationError(f"{file.name}: the file is empty; take it from Kinetics again")
        header = unique_header(first)
        require_columns(first, header, COLUMNS)
        for row in rows:
            try:
                _add(named_cells(row, header), row.source, listed)
            except AnnotationError as err:
                listed.problems.take(err)
    return listed.annotations()


def _add(cells: Mapping[str, str], source: str, listed: Listed) -> None:
    label = cells.get("label", "")
    video, start, end, split = (cells[name] for name in COLUMNS)
    role = ROLES.get(split.lower(), "")
    if "label" not in cells and role == "test":
        return
    try:
        times_sec = (float(start), float(end))
    except ValueError:
        times_sec = (math.nan, math.nan)
    if not label:
        listed.problems.add(source, "no label; fill it in or remove the row")
    elif not role:
        listed.problems.add(source, f"split {split!r}; write train, val or test")
    elif not all(map(math.isfinite, times_sec)):
        listed.problems.add(source, f"time_start {start!r} or time_end {end!r} is no number; correct it")
    elif times_sec[1] <= times_sec[0]:
        listed.problems.add(source, f"time_end {end} is not after time_start {start}; correct it")
    else:
        names = (f"{video}_{int(times_sec[0]):06d}_{int(times_sec[1]):06d}", video)
        listed.add(names, label, source, role=role)
