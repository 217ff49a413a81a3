"""Keypoints from OpenPose as JSON: a folder for each video, a file `..._keypoints.json` for each of its frames.

A file holds `people`, each with `pose_keypoints_2d`: x, y and confidence of every body part, zeros where it was not
found. Their number tells the model, BODY_25 or COCO. People are in no order from frame to frame; faces, hands and
three dimensions are not read.

Source: OpenPose's documentation, "Output" (`--write_json`, `--keypoint_scale 0`).
"""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kineflow.annotations.json_file import Node, read_json
from kineflow.annotations.pose.layouts import BODY_25, COCO_18, Layout
from kineflow.annotations.pose.numbered import in_frame_order
from kineflow.annotations.pose.track import PoseTrack
from kineflow.errors import AnnotationError

FRAME_FILE = re.compile(r"(\d+)_keypoints\.json$")
MODELS = {3 * len(layout.bodyparts): layout for layout in (BODY_25, COCO_18)}


def read(folder: Path) -> PoseTrack:
    """The track of one video; as many individuals as the fullest frame has people.

    Raises:
        AnnotationError: a frame is missing, or a file is malformed; names the place in it.
    """
    names = sorted(path.name for path in folder.iterdir() if path.name.endswith("_keypoints.json"))
    if not names:
        raise AnnotationError(f"{folder.name}: holds no ..._keypoints.json; give the folder that --write_json named")
    files = [folder / names[place] for place in in_frame_order(names, FRAME_FILE, source=folder.name)]
    frames = [_people(path) for path in files]
    layout = _layout(frames, files)
    num_people = max(len(people) for people in frames)
    xyc = np.full((len(frames), num_people, len(layout.bodyparts), 3), np.nan, np.float32)
    for frame, people in enumerate(frames):
        for person, values in enumerate(people):
            xyc[frame, person] = values.reshape(-1, 3)
    xyc[xyc[..., 2] <= 0] = np.nan
    if np.isfinite(xyc).any() and np.nanmax(np.abs(xyc[..., :2])) <= 1.0:
        raise AnnotationError(
            f"{folder.name}: coordinates are fractions, not pixels; run OpenPose with --keypoint_scale 0"
        )
    individuals = tuple(f"person{number}" for number in range(num_people))
    xy_px, likelihood = np.ascontiguousarray(xyc[..., :2]), np.ascontiguousarray(xyc[..., 2])
    return PoseTrack(layout.bodyparts, individuals, xy_px, likelihood, layout.limbs)


def _people(path: Path) -> list[NDArray[np.float64]]:
    people = [person["pose_keypoints_2d"] for person in read_json(path)["people"].elements()]
    return [_numbers(values) for values in people if values.expect(list)]


def _numbers(values: Node) -> NDArray[np.float64]:
    array = np.array([value if type(value) in (int, float) else np.nan for value in values.value], np.float64)
    if len(array) not in MODELS:
        wanted = " or ".join(f"{count} of {layout.name}" for count, layout in MODELS.items())
        raise AnnotationError(f"{values.source}: {len(array)} numbers where {wanted} were expected; use such a model")
    if not np.isfinite(array).all():
        place = int(np.flatnonzero(~np.isfinite(array))[0])
        raise AnnotationError(f"{values.source}[{place}]: {values.value[place]!r} is no number; correct it")
    return array


def _layout(frames: list[list[NDArray[np.float64]]], files: list[Path]) -> Layout:
    """The one model of all frames; BODY_25 where nobody was ever found."""
    found: Layout | None = None
    for people, path in zip(frames, files, strict=True):
        for person in people:
            layout = MODELS[len(person)]
            if found is not None and layout is not found:
                raise AnnotationError(f"{path.name}: is of {layout.name}, frames before of {found.name}; use one model")
            found = layout
    return found or BODY_25
