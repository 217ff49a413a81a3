from pathlib import Path

import cv2
import numpy as np
import pytest

from kineflow.annotations.roi_boxes import Box
from kineflow.errors import DataError
from kineflow.video.roi_picture import write_roi_picture
from tests.unit.video.test_roi import texture, write_video


def test_the_picture_shows_the_frame_and_the_box_at_their_place(tmp_path: Path) -> None:
    scene = texture()
    source = write_video(tmp_path / "a.mkv", [np.zeros_like(scene), scene])
    shape = write_roi_picture(source, tmp_path / "a.png", at_sec=0.1, box=Box(30, 40, 50, 60))
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
    assert [path.name for path in tmp_path.iterdir()] == ["a.mkv"]
