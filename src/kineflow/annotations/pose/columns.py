"""DeepLabCut's columns (scorer, individual, body part, x | y | likelihood) laid out as a pose track."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kineflow.annotations.pose.track import PoseTrack
from kineflow.errors import AnnotationError

LEVELS = ("scorer", "bodyparts", "coords")
LEVELS_MULTI = ("scorer", "individuals", "bodyparts", "coords")
COORDS = ("x", "y", "likelihood")


def as_track(columns: Sequence[Sequence[str]], values_FK: NDArray[np.float64], *, source: str) -> PoseTrack:
    """A track from named columns.

    Args:
        columns: K times (scorer, bodypart, coord) or (scorer, individual, bodypart, coord).
        values_FK: float (frames, K).
        source: of the names, for errors.

    Raises:
        AnnotationError: columns are missing, double or of several scorers.
    """
    if not columns or len(columns[0]) not in (3, 4):
        raise AnnotationError(f"{source}: no columns of DeepLabCut; take the file that analyze_videos wrote")
    if len({column[0] for column in columns}) > 1:
        raise AnnotationError(f"{source}: columns of several scorers; keep those of one network")
    multi = len(columns[0]) == 4
    named = [(column[1] if multi else "", column[-2], column[-1]) for column in columns]
    individuals = tuple(dict.fromkeys(name for name, _, _ in named))
    bodyparts = tuple(dict.fromkeys(name for _, name, _ in named))
    place = {name: k for k, name in enumerate(named)}
    if len(place) < len(named) or not all(coord in COORDS for _, _, coord in named):
        raise AnnotationError(f"{source}: a column is there twice or is not x, y or likelihood; take the original file")
    xyl = np.full((len(values_FK), len(individuals), len(bodyparts), 3), np.nan, np.float32)
    for i, individual in enumerate(individuals):
        for p, bodypart in enumerate(bodyparts):
            columns_there = [place.get((individual, bodypart, coord)) for coord in COORDS]
            if columns_there == [None, None, None]:  # parts of one individual only, such as the corners of the arena
                continue
            found = [column for column in columns_there if column is not None]
            if len(found) < len(COORDS):
                lack = ", ".join(c for c, k in zip(COORDS, columns_there, strict=True) if k is None)
                raise AnnotationError(f"{source}: {bodypart} lacks the column {lack}; take the original file")
            xyl[:, i, p] = values_FK[:, found]
    return PoseTrack(bodyparts, individuals, np.ascontiguousarray(xyl[..., :2]), np.ascontiguousarray(xyl[..., 2]))
