from pathlib import Path

import cv2
import numpy as np
import pytest

from kineflow.annotations.roi_boxes import Box
from kineflow.errors import DataError, DecodeError, ParamsError
from kineflow.video.roi_picture import write_roi_picture
from tests.unit.video.test_roi import texture, write_video


def test_the_picture_shows_the_frame_and_the_box_at_their_place(tmp_path: Path) -> None:
    scene = texture()
    source = write_video(tmp_path / "a.mkv", [np.zeros_like(scene), scene])
    shape = write_roi_picture(source, tmp_path / "a.png", at_sec=0.15, box=Box(30, 40, 50, 60))
    assert shape == scene.shape
    picture = cv2.imread(str(tmp_path / "a.png"))
    left, top = picture.shape[1] - scene.shape[1], picture.shape[0] - scene.shape[0]
    shown = picture[top:, left:]
    np.testing.assert_allclose(shown[5:9, 5:9].mean(), scene[5:9, 5:9].mean(), atol=3)
    red = (shown == (60, 60, 255)).all(axis=2)
    rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
    np.testing.assert_allclose([columns[0], rows[0], columns[-1], rows[-1]], [30, 40, 79, 99], atol=1)


def test_a_time_after_the_end_and_an_unknown_format_are_refused(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mkv", [texture()] * 2)
    with pytest.raises(DataError, match="ends before 9 s"):
        write_roi_picture(source, tmp_path / "a.png", at_sec=9.0)
    with pytest.raises(DataError, match=r"name a \.png or \.jpg"):
        write_roi_picture(source, tmp_path / "a.nothing", at_sec=0.0)
    with pytest.raises(DataError, match=r"/proc/a\.png cannot be written: .*; name a file in another folder"):
        write_roi_picture(source, Path("/proc/a.png"), at_sec=0.0)
    for box in (Box(0, 0, 10_000, 5), Box(texture().shape[1] - 9, 0, 10, 5)):
        with pytest.raises(DataError, match="leaves the video"):
            write_roi_picture(source, tmp_path / "a.png", at_sec=0.0, box=box)
    for box in (Box(-1, 0, 10, 10), Box(0, 0, 0, 10)):
        with pytest.raises(ParamsError, match="--box"):
            write_roi_picture(source, tmp_path / "a.png", at_sec=0.0, box=box)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mkv"]


def test_the_frame_shown_is_the_last_one_not_after_the_time(tmp_path: Path) -> None:
    scene = texture()
    source = write_video(tmp_path / "a.mkv", [np.full_like(scene, 40 * index) for index in range(5)])  # at 10 fps
    for at_sec, value in ((0.0, 0), (0.09, 0), (0.1, 40), (0.19, 40), (0.45, 160)):
        write_roi_picture(source, tmp_path / "a.png", at_sec=at_sec)
        shown = cv2.imread(str(tmp_path / "a.png"))[-scene.shape[0] :, -scene.shape[1] :]
        assert abs(float(np.median(shown)) - value) < 8, at_sec


def test_what_cannot_be_read_or_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(DecodeError, match=r"nofile.mp4: the file is not there"):
        write_roi_picture(tmp_path / "nofile.mp4", tmp_path / "a.png", at_sec=0.0)
    with pytest.raises(DecodeError, match=r"text.mp4: the container cannot be read"):
        write_roi_picture(tmp_path / "text.mp4", tmp_path / "a.png", at_sec=0.0)
    for target in (tmp_path / "folder.png", Path()):
        with pytest.raises(ParamsError, match="that is a folder"):
            write_roi_picture(tmp_path / "text.mp4", target, at_sec=0.0)
