"""Readers of keypoints: one module for each file format, one function `read(path)`, one registry."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kineflow.annotations.pose import deeplabcut_csv, deeplabcut_h5
from kineflow.annotations.pose.track import PoseTrack
from kineflow.errors import ParamsError

__all__ = ["POSE_FORMATS", "PoseFormat", "PoseTrack", "read_pose"]


@dataclass(frozen=True)
class PoseFormat:
    """A file format of keypoints: its name, a line for the docs, its suffixes, and its reader."""

    name: str
    summary: str
    suffixes: tuple[str, ...]
    read: Callable[[Path], PoseTrack]


POSE_FORMATS: tuple[PoseFormat, ...] = (
    PoseFormat("deeplabcut_csv", "DeepLabCut's CSV", (".csv",), deeplabcut_csv.read),
    PoseFormat("deeplabcut_h5", "DeepLabCut's HDF5", (".h5", ".hdf5"), deeplabcut_h5.read),
)


def read_pose(path: Path) -> PoseTrack:
    """The keypoints of one video, by the file's suffix.

    Raises:
        AnnotationError: the file is missing or malformed.
        ParamsError: no reader has the suffix.
    """
    for known in POSE_FORMATS:
        if path.suffix.lower() in known.suffixes:
            return known.read(path)
    suffixes = ", ".join(suffix for known in POSE_FORMATS for suffix in known.suffixes)
    raise ParamsError(f"{path}: no reader of keypoints takes {path.suffix or 'no suffix'}; known: {suffixes}")
