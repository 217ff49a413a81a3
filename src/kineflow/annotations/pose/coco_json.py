"""Keypoints in COCO's JSON, one file for each video, whose `images` are its frames.

The file name of an image ends in the number of its frame. An annotation's `keypoints` are x, y and a flag for each
name of its category: 2 is visible (likelihood 1 here), 1 is hidden but known (0.5), 0 is not labelled. `skeleton`
joins names by numbers that count from 1. Individuals of a frame are in the order of the file.

Source: COCO's documentation, "Data format", keypoint detection.
"""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kineflow.annotations.json_file import Node, read_json
from kineflow.annotations.pose.layouts import known_limbs
from kineflow.annotations.pose.numbered import in_frame_order
from kineflow.annotations.pose.track import Limb, PoseTrack
from kineflow.errors import AnnotationError

IMAGE_NUMBER = re.compile(r"(\d+)\D*$")
LIKELIHOOD = {0: np.nan, 1: 0.5, 2: 1.0}


def read(path: Path) -> PoseTrack:
    """The track of one video.

    Raises:
        AnnotationError: the file is missing or malformed, or its images are not the frames of one video.
    """
    root = read_json(path)
    frame_of = _frames(root["images"], path.name)
    category, bodyparts, limbs = _category(root["categories"])
    individuals: list[list[NDArray[np.float64]]] = [[] for _ in frame_of]
    for annotation in root["annotations"].elements():
        if annotation["category_id"].number() != category:
            continue
        image = annotation["image_id"]
        if image.number() not in frame_of:
            raise AnnotationError(f"{image.source}: no image has the id {image.value!r}; correct it")
        values_P3 = _keypoints(annotation["keypoints"], len(bodyparts))
        if np.isfinite(values_P3).any():
            individuals[frame_of[image.number()]].append(values_P3)
    num_individuals = max((len(found) for found in individuals), default=0)
    xyl = np.full((len(frame_of), num_individuals, len(bodyparts), 3), np.nan, np.float32)
    for frame, found in enumerate(individuals):
        xyl[frame, : len(found)] = np.reshape(found, (len(found), len(bodyparts), 3))
    names = tuple(f"individual{number}" for number in range(num_individuals))
    return PoseTrack(bodyparts, names, np.ascontiguousarray(xyl[..., :2]), np.ascontiguousarray(xyl[..., 2]), limbs)


def _frames(images: Node, name: str) -> dict[float, int]:
    """The frame of each image, by its id."""
    elements = list(images.elements())
    if not elements:
        raise AnnotationError(f"{name}: images is empty; list every frame of the video")
    files = [image["file_name"].text() for image in elements]
    frame_of = {
        elements[place]["id"].number(): frame
        for frame, place in enumerate(in_frame_order(files, IMAGE_NUMBER, source=name))
    }
    if len(frame_of) < len(elements):
        raise AnnotationError(f"{images.source}: two images have the same id; give each its own")
    return frame_of


def _category(categories: Node) -> tuple[float, tuple[str, ...], tuple[Limb, ...]]:
    """The id, the names and the limbs of the one category that has keypoints."""
    found = [category for category in categories.elements() if category.get("keypoints", []).expect(list)]
    if len(found) != 1:
        raise AnnotationError(f"{categories.source}: {len(found)} categories have keypoints; keep the one to be drawn")
    bodyparts = tuple(name.text() for name in found[0]["keypoints"].elements())
    pairs = found[0].get("skeleton", [])
    limbs = tuple(_limb(pair, bodyparts) for pair in pairs.elements())
    return found[0]["id"].number(), bodyparts, limbs or known_limbs(bodyparts)


def _limb(pair: Node, bodyparts: tuple[str, ...]) -> Limb:
    numbers = pair.expect(list)
    if len(numbers) != 2 or not all(type(n) is int and 1 <= n <= len(bodyparts) for n in numbers):
        raise AnnotationError(f"{pair.source}: {numbers} are not two numbers from 1 to {len(bodyparts)}; correct them")
    return bodyparts[numbers[0] - 1], bodyparts[numbers[1] - 1]


def _keypoints(keypoints: Node, num_bodyparts: int) -> NDArray[np.float64]:
    """x, y and likelihood, float (P, 3), NaN where nothing is labelled."""
    values = keypoints.expect(list)
    if len(values) != 3 * num_bodyparts:
        wrong = f"{len(values)} numbers where {num_bodyparts} keypoints have {3 * num_bodyparts}"
        raise AnnotationError(f"{keypoints.source}: {wrong}; correct them")
    points_P3 = np.empty((num_bodyparts, 3))
    for part in range(num_bodyparts):
        x, y, flag = (keypoints[3 * part + column].number() for column in range(3))
        if flag not in LIKELIHOOD:
            raise AnnotationError(f"{keypoints.source}[{3 * part + 2}]: {flag:g} is not 0, 1 or 2; correct it")
        points_P3[part] = (x, y, LIKELIHOOD[int(flag)]) if flag else np.nan
    return points_P3
