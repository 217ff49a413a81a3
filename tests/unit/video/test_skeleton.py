"""Skeletons are where the keypoints are: positions computed by hand, under every resize, crop and frame rate."""

from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from kineflow.annotations.pose import PoseTrack
from kineflow.annotations.pose.layouts import COCO_17
from kineflow.errors import DataError
from kineflow.models.pose import CODE_VERSION, compute_pose
from kineflow.store import file_sha256
from kineflow.video.extract import FrameSize, extract_frames
from kineflow.video.frame_store import FrameReader
from kineflow.video.pose_files import PoseFiles
from kineflow.video.pose_store import PoseReader, PoseRule, writing_pose
from kineflow.video.roi import Region
from kineflow.video.skeleton import FramePose, draw_skeletons, limb_indices, poses_of_frames
from tests.unit.video.test_roi import write_video

RED, CYAN = (255, 0, 0), (0, 255, 255)

# Per CODE_VERSION of poses: the sum of each colour and its mean row and column, of the picture below.
# Where this fails, the same keypoints give other pictures: raise CODE_VERSION in models/pose.py and add its line.
GOLDEN = {1: [[31632, 11.729, 30.370], [29880, 23.705, 39.673], [4364, 35.716, 31.669]]}


def track(xy: np.ndarray, *, likelihood: float = 1.0) -> PoseTrack:
    """One individual, float (frames, P, 2)."""
    xy_px = xy[:, None].astype(np.float32)
    parts = tuple("abcdefgh"[: xy.shape[1]])
    return PoseTrack(parts, ("",), xy_px, np.full(xy_px.shape[:3], likelihood, np.float32))


def draw(xy_IP2: list, limbs: list[tuple[int, int]], likelihood_IP: list | None = None, **changes: float) -> np.ndarray:
    points = np.array(xy_IP2, float)
    likely = np.ones(points.shape[:2]) if likelihood_IP is None else np.array(likelihood_IP, float)
    options = {"height": 41, "width": 61, "min_likelihood": 0.5, "line_width": 0.025} | changes
    return draw_skeletons(FramePose(points, likely), limbs, **options)  # type: ignore[arg-type]


def centre(picture: np.ndarray) -> tuple[float, float]:
    """(x, y) of all that is drawn, weighed by its brightness."""
    light = picture.max(axis=-1).astype(float)
    rows, columns = np.indices(light.shape)
    return float((columns * light).sum() / light.sum()), float((rows * light).sum() / light.sum())


def frames_of(tmp_path: Path, *, size: FrameSize, region: Region | None = None, fps: float = 10.0) -> FrameReader:
    """Extracted frames of a video of 160x120 at 10 frames per second, ten frames long."""
    source = write_video(tmp_path / "a.mkv", [np.zeros((120, 160), np.uint8)] * 10)
    extract_frames(source, tmp_path / "a.zip", fps=fps, size=size, jpeg_quality=90, region=region)
    return FrameReader(tmp_path / "a.zip")


def test_a_limb_is_a_line_of_its_hue_between_its_joints() -> None:
    picture = draw([[[10, 20], [50, 20]]], [(0, 1)], line_width=0.07)  # three pixels
    assert tuple(picture[20, 30]) == RED and not picture[:16].any() and not picture[25:].any()
    assert tuple(picture[20, 10]) == RED and tuple(picture[20, 50]) == CYAN  # the joints' own hues lie over it
    assert not picture[:, :6].any() and not picture[:, 55:].any()


def test_hues_are_equally_far_apart() -> None:
    picture = draw([[[5, 5], [55, 5], [5, 20], [55, 20], [5, 35], [55, 35]]], [(0, 1), (2, 3), (4, 5)], line_width=0.07)
    assert [tuple(picture[row, 30]) for row in (5, 20, 35)] == [RED, (0, 255, 0), (0, 0, 255)]


def test_the_width_of_lines_goes_with_the_picture() -> None:
    for side in (40, 80, 160):
        points = [[[side * 0.25, side / 2], [side * 0.75, side / 2]]]
        picture = draw(points, [(0, 1)], height=side, width=side, line_width=0.1)
        assert (picture[:, side // 2].max(axis=-1) > 127).sum() == pytest.approx(0.1 * side, abs=1.1)
    assert draw([[[10, 20], [50, 20]]], [(0, 1)], line_width=0.001)[20, 30].any()  # never less than a pixel


def test_a_joint_below_the_threshold_takes_its_limbs_along() -> None:
    points = [[[10, 10], [30, 10], [50, 10]]]
    picture = draw(points, [(0, 1), (1, 2)], [[0.9, 0.5, 0.49]])
    assert picture[10, 20].any() and not picture[:, 33:].any()
    points[0][0] = [np.nan, np.nan]
    assert centre(draw(points, [(0, 1), (1, 2)], [[np.nan, 0.5, np.nan]])) == pytest.approx((30, 10), abs=0.05)


def test_every_individual_is_drawn_and_nobody_is_black() -> None:
    picture = draw([[[5, 10], [25, 10]], [[35, 30], [55, 30]]], [(0, 1)], line_width=0.07)
    assert tuple(picture[10, 15]) == tuple(picture[30, 45]) == RED
    empty = FramePose(np.zeros((0, 2, 2)), np.zeros((0, 2)))
    assert not draw_skeletons(empty, [(0, 1)], height=9, width=9, min_likelihood=0.5, line_width=0.1).any()


def test_places_between_pixels_and_far_outside() -> None:
    for x in (20.0, 20.25, 20.5):
        assert centre(draw([[[x, 17.75]]], [])) == pytest.approx((x, 17.75), abs=0.06)
    assert draw([[[-1e9, 20], [30, 20]]], [(0, 1)])[20, :29].any(axis=-1).all()


def test_limbs_are_those_given_else_of_the_file_else_of_the_layout() -> None:
    parts = ("nose", "spine", "tail")
    of_file = [("nose", "spine")]
    assert limb_indices(parts, of_file, given=[["spine", "tail"], ["nose", "tail"]]) == [(1, 2), (0, 2)]
    assert limb_indices(parts, of_file, given=[]) == []
    assert limb_indices(parts, of_file, given=None) == [(0, 1)]
    assert limb_indices(parts, [], given=None) == []
    assert limb_indices(COCO_17.bodyparts, [], given=None)[0] == (15, 13)
    with pytest.raises(DataError, match=r"no body part 'ear' \(there are nose, spine, tail\); correct pose\.limbs"):
        limb_indices(parts, [], given=[["nose", "ear"]])


def test_a_resize_takes_the_keypoints_along(tmp_path: Path) -> None:
    reader = frames_of(tmp_path, size=FrameSize(60, 40))  # half as high, a quarter as wide
    (pose, *_) = poses_of_frames(track(np.tile([[[79.5, 59.5], [0, 0]]], (10, 1, 1))), reader)
    np.testing.assert_allclose(pose.xy_IP2[0, 0], [19.5, 29.5])  # the middle stays the middle
    np.testing.assert_allclose(pose.xy_IP2[0, 1], [0.5 * 0.25 - 0.5, 0.5 * 0.5 - 0.5])


def test_a_fixed_box_moves_and_scales_them(tmp_path: Path) -> None:
    reader = frames_of(tmp_path, size=FrameSize(40, 40), region=Region(80, 80, np.array([[20.0, 30.0]])))
    (pose, *_) = poses_of_frames(track(np.tile([[[60.0, 70.0]]], (10, 1, 1))), reader)
    # at half its size the whole frame has it at 60.5 / 2 - 0.5 = 29.75 and 34.75; the box begins at 10, and at 15 or 16
    assert reader.corners_T2[0].tolist() == [10, 16]
    np.testing.assert_allclose(pose.xy_IP2[0, 0], [19.75, 18.75])


def test_a_moving_crop_leaves_what_it_follows_in_the_middle(tmp_path: Path) -> None:
    nose = np.stack([40.0 + 6 * np.arange(10), np.full(10, 60.0)], axis=1)
    region = Region(32, 32, nose - 16)
    reader = frames_of(tmp_path, size=FrameSize(32, 32), region=region)
    wall = np.tile([[50.0, 60.0]], (10, 1))
    poses = list(poses_of_frames(track(np.stack([nose, wall], axis=1)), reader))
    for frame, pose in enumerate(poses):
        np.testing.assert_allclose(pose.xy_IP2[0, 0], [16, 16])
        np.testing.assert_allclose(pose.xy_IP2[0, 1], [16 + 10 - 6 * frame, 16])
    picture = draw_skeletons(poses[1], [], height=32, width=32, min_likelihood=0.5, line_width=0.03)
    assert tuple(picture[16, 16]) == RED and tuple(picture[16, 20]) == CYAN


def write_spots(path: Path, xy: list[tuple[int, int]], turn_deg: int) -> Path:
    """A video of 160x120 with a bright spot at `xy` in each frame, to be turned before it is shown."""
    images = [np.zeros((120, 160), np.float32) for _ in xy]
    for image, (x, y) in zip(images, xy, strict=True):
        image[y, x] = 1
    spots = [cv2.GaussianBlur(image, (0, 0), 3) for image in images]
    plain = write_video(path.with_stem("plain"), [np.rint(255 * spot / spot.max()).astype(np.uint8) for spot in spots])
    with av.open(str(plain)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        if turn_deg:
            stream.set_display_rotation(turn_deg)
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return path


@pytest.mark.parametrize("turn_deg", [0, 90, 180, 270])
@pytest.mark.parametrize("follows", [False, True])
def test_skeletons_lie_on_what_the_frames_show(tmp_path: Path, turn_deg: int, follows: bool) -> None:
    spots = [(40 + 6 * i, 60 + 2 * i) for i in range(10)]
    source = write_spots(tmp_path / "a.mkv", spots, turn_deg)
    x, y = np.array(spots, float).T  # as shown, after turning counter-clockwise
    shown = {0: (x, y), 90: (y, 159 - x), 180: (159 - x, 119 - y), 270: (119 - y, x)}[turn_deg]
    keypoints = track(np.stack(shown, axis=1)[:, None])
    region = Region(60, 60, np.stack(shown, axis=1) - (28, 31)) if follows else None
    extract_frames(source, tmp_path / "a.zip", fps=5.0, size=FrameSize(90, 75), jpeg_quality=95, region=region)
    with FrameReader(tmp_path / "a.zip") as reader:
        poses = list(poses_of_frames(keypoints, reader))
        assert len(poses) == 5 and (reader.crop_steps_T2.any() == follows)
        for item, pose in enumerate(poses):
            picture = draw_skeletons(pose, [], height=90, width=75, min_likelihood=0.5, line_width=0.02)
            light = np.where(reader.read_gray(item) > 40, reader.read_gray(item), 0)
            np.testing.assert_allclose(centre(picture), centre(light[..., None]), atol=0.25)


def test_keypoints_are_those_of_the_source_frame(tmp_path: Path) -> None:
    moving = track(np.stack([np.arange(10.0) * 10, np.full(10, 60.0)], axis=1)[:, None])
    slower = frames_of(tmp_path, size=FrameSize(120, 160), fps=4.0)
    assert slower.source_frames.tolist() == [0, 2, 5, 7]
    assert [pose.xy_IP2[0, 0, 0] for pose in poses_of_frames(moving, slower)] == [0, 20, 50, 70]
    faster = frames_of(tmp_path, size=FrameSize(120, 160), fps=20.0)
    assert [pose.xy_IP2[0, 0, 0] for pose in poses_of_frames(moving, faster)] == [10 * (i // 2) for i in range(20)]
    short = track(np.zeros((6, 1, 2)))
    with pytest.raises(DataError, match="the keypoints end at frame 6, the video does not"):
        list(poses_of_frames(short, slower))


def test_what_is_stored_is_what_was_drawn(tmp_path: Path) -> None:
    rule = PoseRule("files", [["a", "b"]], 0.5, 0.02)
    pictures = [draw([[[10, 20], [10 + i, 30]]], [(0, 1)]) for i in range(5)]
    with writing_pose(tmp_path / "a.zip", rule=rule, fps=10.0, height=41, width=61) as writer:
        for number, picture in enumerate(pictures):
            writer.append(picture, num_joints=number)
    with PoseReader(tmp_path / "a.zip") as reader:
        np.testing.assert_array_equal(reader.read([4, 0, 2]), np.stack([pictures[i] for i in (4, 0, 2)]))
        assert (reader.num_joints.tolist(), reader.rule, reader.fps) == ([0, 1, 2, 3, 4], rule, 10.0)
    (tmp_path / "cut.zip").write_bytes((tmp_path / "a.zip").read_bytes()[:-9])
    with pytest.raises(DataError, match="cut off"):
        PoseReader(tmp_path / "cut.zip")


def test_the_same_keypoints_give_the_pictures_of_this_code_version(tmp_path: Path) -> None:
    frames_of(tmp_path, size=FrameSize(48, 64))
    rows = [f"{i},40,30,0.9,120,30,0.8,80,90,0.7,80,60,0.1" for i in range(10)]
    bodyparts = "".join(f",{part}" * 3 for part in "abcd")
    header = ["scorer" + ",net" * 12, "bodyparts" + bodyparts, "coords" + ",x,y,likelihood" * 4]
    (tmp_path / "a.csv").write_text("\n".join([*header, *rows, ""]))
    keypoints = PoseFiles(str(tmp_path), "a.csv", ("a.csv",), (file_sha256(tmp_path / "a.csv"),))
    rule = PoseRule("files", [["a", "b"], ["b", "c"], ["c", "d"]], 0.3, 0.05)
    done = compute_pose(
        tmp_path / "a.zip", tmp_path / "p.zip", rule=rule, keypoints=keypoints, weights=None, cache_dir=tmp_path
    )
    with PoseReader(tmp_path / "p.zip") as reader:
        assert (done, reader.num_joints.tolist()) == (10, [3] * 10)
        picture = reader.read([0])[0].astype(np.float64)
    rows_, columns = np.indices(picture.shape[:2])
    found = [
        [light.sum(), (rows_ * light).sum() / light.sum(), (columns * light).sum() / light.sum()]
        for light in np.moveaxis(picture, -1, 0)
    ]
    np.testing.assert_allclose(found, GOLDEN[CODE_VERSION], rtol=1e-3)
