"""`kineflow view`: stored videos by their id, and any file by params.yaml."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from kineflow.errors import DataError
from kineflow.params import Params, load_params
from kineflow.setup.view import view
from kineflow.video.extract import FrameSize, extract_frames
from tests.unit.setup.test_init import encode

STORES = Path("data/frames"), Path("data/flow")
PRESETS = Path(__file__).resolve().parents[3] / "params"


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    monkeypatch.chdir(tmp_path)
    encode(tmp_path / "a.mp4")  # 20 frames at 10 fps
    return load_params(PRESETS / "tiny.yaml")


def test_a_file_is_extracted_by_the_params_and_nothing_of_it_stays(params: Params, tmp_path: Path) -> None:
    found = view("a.mp4", Path("view.mp4"), params, stores=STORES, flow=True, at_sec=None)
    assert found.num_frames == round(2.0 * params.frames.fps)
    assert (found.height_px, found.width_px) == (params.frames.height_px, params.frames.width_px)
    assert found.origin.startswith("the file")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "view.mp4"]


def test_a_stored_video_is_shown_as_it_is_stored(params: Params, tmp_path: Path) -> None:
    (tmp_path / "data" / "frames").mkdir(parents=True)
    size = FrameSize(240, 320)
    extract_frames(tmp_path / "a.mp4", tmp_path / "data/frames/a.mp4.zip", fps=5, size=size, jpeg_quality=95)
    found = view("a.mp4", Path("view.png"), params, stores=STORES, flow=False, at_sec=0.5)
    assert (found.num_frames, found.origin) == (1, "the stores, as trained on")
    image = cv2.imread("view.png")
    assert image is not None
    assert image.shape[1] == 320
    assert np.std(image[40:]) > 1  # the video is there, not a blank
    with pytest.raises(DataError, match=r"data/flow/a.mp4.zip is not there; run `dvc repro compute_flow`"):
        view("a.mp4", Path("view.png"), params, stores=STORES, flow=True, at_sec=0.5)


def test_what_is_neither_stored_nor_a_file_is_refused(params: Params) -> None:
    with pytest.raises(DataError, match="nosuch: neither a video of data/frames nor a file"):
        view("nosuch", Path("view.mp4"), params, stores=STORES, flow=False, at_sec=None)
