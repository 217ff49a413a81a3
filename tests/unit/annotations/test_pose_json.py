"""OpenPose and COCO: what is written by their rules is read, and what is malformed is named."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kineflow.annotations.pose import read_pose
from kineflow.annotations.pose.layouts import BODY_25, COCO_17, COCO_18, LAYOUTS, known_limbs
from kineflow.errors import AnnotationError


def write_openpose(folder: Path, frames: list[list[np.ndarray]], *, first: int = 0) -> Path:
    """As `--write_json` does: people of each frame, each float (P, 3) of x, y and confidence."""
    folder.mkdir(parents=True)
    for number, people in enumerate(frames, start=first):
        found = [
            {"person_id": [-1], "pose_keypoints_2d": person.ravel().tolist(), "face_keypoints_2d": []}
            for person in people
        ]
        text = json.dumps({"version": 1.3, "people": found})
        (folder / f"cage_{number:012d}_keypoints.json").write_text(text)
    return folder


def coco(**changes: Any) -> dict[str, Any]:
    """Two body parts in two frames, the second of which is listed first."""
    values: dict[str, Any] = {
        "images": [{"id": 8, "file_name": "frame_000001.png"}, {"id": 7, "file_name": "frame_000000.png"}],
        "categories": [{"id": 1, "name": "rat", "keypoints": ["nose", "tail"], "skeleton": [[2, 1]]}],
        "annotations": [
            {"image_id": 7, "category_id": 1, "keypoints": [1.5, 2, 2, 3, 4, 1]},
            {"image_id": 8, "category_id": 1, "keypoints": [5, 6, 2, 0, 0, 0]},
            {"image_id": 8, "category_id": 1, "keypoints": [7, 8, 2, 9, 9, 2]},
            {"image_id": 8, "category_id": 1, "keypoints": [0, 0, 0, 0, 0, 0]},
        ],
    }
    return values | changes


def write_json(path: Path, values: Any) -> Path:
    path.write_text(json.dumps(values))
    return path


@pytest.mark.parametrize("layout", [BODY_25, COCO_18])
def test_openpose_round_trip(tmp_path: Path, layout: Any) -> None:
    rng = np.random.default_rng(0)
    people = rng.uniform(1, 100, (3, len(layout.bodyparts), 3))
    people[..., 2] = rng.uniform(0.1, 1, people.shape[:2])
    people[1, 4] = 0  # not found
    track = read_pose(write_openpose(tmp_path / "cage", [[people[0], people[1]], [], [people[2]]], first=1))
    assert (track.bodyparts, track.limbs, track.individuals) == (
        layout.bodyparts,
        layout.limbs,
        ("person0", "person1"),
    )
    wanted = np.full((3, 2, len(layout.bodyparts), 3), np.nan)
    wanted[0], wanted[2, 0] = people[:2], people[2]
    wanted[0, 1, 4] = np.nan
    np.testing.assert_allclose(track.xy_px, wanted[..., :2], rtol=1e-6)
    np.testing.assert_allclose(track.likelihood, wanted[..., 2], rtol=1e-6)


def test_a_video_without_anybody(tmp_path: Path) -> None:
    track = read_pose(write_openpose(tmp_path / "cage", [[], []]))
    assert (track.num_frames, track.individuals, track.bodyparts) == (2, (), BODY_25.bodyparts)


@pytest.mark.parametrize(
    ("frames", "spoil", "message"),
    [
        ([[]], {"cage_000000000002_keypoints.json": '{"people": []}'}, "cage: frame 1 is missing"),
        ([[]], {"x_0_keypoints.json": '{"people": []}'}, "cage: frame 0 is there twice"),
        ([[]], {"cage_keypoints.json": "{}"}, "cage_keypoints.json has no frame number"),
        ([[]], {"cage_000000000000_keypoints.json": '{"people"'}, r"cage_000000000000_keypoints\.json:1: no JSON"),
        ([[]], {"cage_000000000000_keypoints.json": "{}"}, "'people' is missing"),
        ([[np.ones((7, 3))]], {}, r"people\[0\]\.pose_keypoints_2d: 21 numbers where 75 of BODY_25 or 54 of COCO_18"),
        ([[np.full((25, 3), 0.5)]], {}, "coordinates are fractions, not pixels"),
        ([[np.ones((25, 3)) * 9], [np.ones((18, 3)) * 9]], {}, "is of COCO_18, frames before of BODY_25"),
        (
            [[np.ones((25, 3)) * 9]],
            {
                "cage_000000000001_keypoints.json": json.dumps(
                    {"people": [{"pose_keypoints_2d": [1.0, "x"] + [1.0] * 73}]}
                )
            },
            r"pose_keypoints_2d\[1\]: 'x' is no number",
        ),
    ],
)
def test_malformed_openpose(tmp_path: Path, frames: Any, spoil: dict[str, str], message: str) -> None:
    folder = write_openpose(tmp_path / "cage", frames)
    for name, text in spoil.items():
        (folder / name).write_text(text)
    with pytest.raises(AnnotationError, match=message):
        read_pose(folder)


def test_an_openpose_video_is_whole(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="cage: begins with frame 500"):
        read_pose(write_openpose(tmp_path / "cage", [[]], first=500))
    (tmp_path / "empty").mkdir()
    with pytest.raises(AnnotationError, match=r"empty: holds no \.\.\._keypoints\.json"):
        read_pose(tmp_path / "empty")


def test_coco_by_hand(tmp_path: Path) -> None:
    track = read_pose(write_json(tmp_path / "cage.json", coco()))
    assert (track.bodyparts, track.limbs) == (("nose", "tail"), (("tail", "nose"),))
    nan = np.nan
    wanted = [[[[1.5, 2], [3, 4]], [[nan, nan]] * 2], [[[5, 6], [nan, nan]], [[7, 8], [9, 9]]]]
    np.testing.assert_array_equal(track.xy_px, np.array(wanted, np.float32))
    likelihood = [[[1.0, 0.5], [nan, nan]], [[1.0, nan], [1.0, 1.0]]]
    np.testing.assert_array_equal(track.likelihood, np.array(likelihood, np.float32))


def test_coco_round_trip_with_its_own_layout(tmp_path: Path) -> None:
    points = np.random.default_rng(0).integers(1, 200, (4, 17, 2))
    values = {
        "images": [{"id": i + 1, "file_name": f"{i + 1:05d}.jpg"} for i in range(4)],
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO_17.bodyparts)}],
        "annotations": [
            {"image_id": i + 1, "category_id": 1, "keypoints": np.insert(points[i], 2, 2, axis=1).ravel().tolist()}
            for i in range(4)
        ],
    }
    track = read_pose(write_json(tmp_path / "a.json", values))
    np.testing.assert_array_equal(track.xy_px[:, 0], points)
    assert track.limbs == COCO_17.limbs and len(track.limbs) == 19


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": []}, "images is empty"),
        ({"images": [{"id": 7, "file_name": "a.png"}]}, "a.png has no frame number"),
        ({"images": [{"id": 7, "file_name": "0.png"}, {"id": 7, "file_name": "1.png"}]}, "two images have the same id"),
        ({"images": [{"id": 7, "file_name": "0.png"}]}, r"annotations\[1\]\.image_id: no image has the id 8"),
        ({"categories": [{"id": 1, "name": "rat"}]}, "0 categories have keypoints"),
        (
            {"categories": [{"id": 1, "keypoints": ["a", "b"], "skeleton": [[0, 1]]}]},
            r"skeleton\[0\]: \[0, 1\] are not",
        ),
        ({"categories": [{"id": 1, "keypoints": ["a"]}]}, r"annotations\[0\]\.keypoints: 6 numbers where 1 keypoints"),
        (
            {"annotations": [{"image_id": 7, "category_id": 1, "keypoints": [1, 2, 2, 1, 2, 3]}]},
            r"keypoints\[5\]: 3 is not 0, 1 or 2",
        ),
        (
            {"annotations": [{"image_id": 7, "category_id": 1, "keypoints": [1, None, 2, 1, 2, 2]}]},
            r"keypoints\[1\]: 'None' is no number",
        ),
    ],
)
def test_malformed_coco(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        read_pose(write_json(tmp_path / "cage.json", coco(**change)))


def test_limbs_of_layouts_join_their_own_parts_into_one_body() -> None:
    for layout in LAYOUTS:
        joined = {layout.limbs[0][0]}
        while grown := {part for limb in layout.limbs if set(limb) & joined for part in limb} - joined:
            joined |= grown
        assert joined == set(layout.bodyparts)
        assert known_limbs(layout.bodyparts[::-1]) == layout.limbs
    assert known_limbs(("nose", "tail")) == ()
