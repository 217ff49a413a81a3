"""`kineflow view`: stored videos by their id, and any file by params.yaml."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from kineflow.errors import DataError, DecodeError, ParamsError
from kineflow.params import Params, load_params
from kineflow.setup.view import view
from kineflow.video.extract import FrameSize, extract_frames
from kineflow.video.flow import compute_flow, flow_key
from kineflow.video.flow_store import FlowRule
from kineflow.video.result_index import VideoResult, write_index
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


def test_flow_of_other_frames_is_refused(params: Params, tmp_path: Path) -> None:
    """Whatever they share: number and size of the frames, or nothing."""
    for folder in STORES:
        folder.mkdir(parents=True)
    rule, stored, flows = FlowRule("dis_fast", 8.0), STORES[0] / "a.mp4.zip", STORES[1] / "a.mp4.zip"
    extract_frames(tmp_path / "a.mp4", stored, fps=5, size=FrameSize(48, 64), jpeg_quality=95)
    num_flows = compute_flow(stored, flows, rule=rule, jpeg_quality=None)
    write_index(STORES[0], [VideoResult("a.mp4", "first", num_flows + 1)])
    write_index(STORES[1], [VideoResult("a.mp4", flow_key("first", rule, None), num_flows)])
    assert view("a.mp4", Path("view.png"), params, stores=STORES, flow=True, at_sec=0.5).num_frames == 1
    write_index(STORES[0], [VideoResult("a.mp4", "second", num_flows + 1)])
    with pytest.raises(DataError, match=r"not the flow of the frames in data/frames; run `dvc repro compute_flow`"):
        view("a.mp4", Path("view.png"), params, stores=STORES, flow=True, at_sec=0.5)


def test_what_cannot_be_read_or_written_is_named(params: Params, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(DecodeError, match=r"text.mp4: the container cannot be read"):
        view("text.mp4", Path("view.mp4"), params, stores=STORES, flow=False, at_sec=None)
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(ParamsError, match=r"--out folder\.mp4: that is a folder"):
        view("a.mp4", Path("folder.mp4"), params, stores=STORES, flow=False, at_sec=None)
