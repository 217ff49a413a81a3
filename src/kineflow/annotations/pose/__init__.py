"""Readers of keypoints: one module for each format, one function `read(path)`, one registry."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kineflow.annotations.pose import coco_json, deeplabcut_csv, deeplabcut_h5, openpose
from kineflow.annotations.pose.track import Limb, PoseTrack
from kineflow.errors import ParamsError

__all__ = ["POSE_FORMATS", "Limb", "PoseFormat", "PoseTrack", "read_pose"]


@dataclass(frozen=True)
class PoseFormat:
    """A format of keypoints: its name, a line for the docs, its suffixes, and its reader.

    Args:
        suffixes: of its files; of the files in the folder that `read` takes, where there is one for each frame.
        of_frames: whether it has a file for each frame.
    """

    name: str
    summary: str
    suffixes: tuple[str, ...]
    read: Callable[[Path], PoseTrack]
    of_frames: bool = False


POSE_FORMATS: tuple[PoseFormat, ...] = (
    PoseFormat("deeplabcut_csv", "DeepLabCut's CSV", (".csv",), deeplabcut_csv.read),
    PoseFormat("deeplabcut_h5", "DeepLabCut's HDF5", (".h5", ".hdf5"), deeplabcut_h5.read),
    PoseFormat("coco_json", "COCO's keypoints, one JSON for each video", (".json",), coco_json.read),
    PoseFormat("openpose", "OpenPose's folder of one JSON for each frame", ("_keypoints.json",), openpose.read, True),
)


def read_pose(path: Path) -> PoseTrack:
    """The keypoints of one video, by the suffix of its file; a folder is one of OpenPose.

    Raises:
        AnnotationError: the file is missing or malformed.
        ParamsError: no reader has the suffix.
    """
    for known in POSE_FORMATS:
        if known.of_frames and path.is_dir():
            return known.read(path)
        if not known.of_frames and path.suffix.lower() in known.suffixes:
            return known.read(path)
    suffixes = ", ".join(suffix for known in POSE_FORMATS for suffix in known.suffixes if not known.of_frames)
    raise ParamsError(
        f"{path}: no reader of keypoints takes {path.suffix or 'no suffix'}; known: {suffixes}, a folder of OpenPose"
    )
