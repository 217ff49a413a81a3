"""A model that was trained on a region of interest looks at the same region of the videos that it labels."""

from pathlib import Path

import numpy as np
import pytest

from kineflow.data.preprocessing import Preprocessing
from kineflow.errors import DataError
from kineflow.inference.predict import VideoFile, prepare
from tests.unit.video.test_roi import texture, write_video

ROI = {"kind": "boxes", "path": "boxes.csv"}
FRAMES = {"fps": 10.0, "height_px": 40, "width_px": 60, "short_side_px": None, "jpeg_quality": 95}


def preprocessing(frames: dict[str, object]) -> Preprocessing:
    return Preprocessing(
        task="clip",
        stream="rgb",
        fps=10.0,
        frames=frames,
        flow=None,
        sampling="segments",
        num_frames=2,
        frame_stride=1,
        height_px=40,
        width_px=60,
        decode_height_px=40,
        decode_width_px=60,
        subtract_background=False,
        flow_scale_px=1.0,
        num_views=1,
    )


def test_prediction_cuts_the_box_of_each_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KINEFLOW_HOME", raising=False)
    scene = texture()
    source = write_video(tmp_path / "a.mkv", [scene] * 3)
    for x in (30, 60):  # a changed box is seen
        Path("boxes.csv").write_text(f"video,x,y,width,height\na.mkv,{x},50,60,40\n")
        reader = prepare(VideoFile("a.mkv", source), preprocessing(FRAMES | {"roi": ROI}))
        shown = reader.read([0])[0].mean(axis=2)
        np.testing.assert_allclose(shown, scene[50:90, x : x + 60], atol=12)
    with pytest.raises(DataError, match=r"no box for b\.mkv"):
        prepare(VideoFile("b.mkv", source), preprocessing(FRAMES | {"roi": ROI}))
    whole = prepare(VideoFile("a.mkv", source), preprocessing(FRAMES))  # a bundle from before regions of interest
    assert np.abs(whole.read([0])[0].mean(axis=2) - scene[50:90, 30:90]).mean() > 10
