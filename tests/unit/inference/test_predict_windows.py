"""A long video is labelled as validation judges it: windows as in training, and the mean where they overlap."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from kineflow.data.preprocessing import Preprocessing
from kineflow.inference.predict import TimedClip, VideoFile, label_videos, score_clips
from kineflow.training.bundle import Bundle, Member, read_bundle, write_bundle
from kineflow.training.model_config import ModelConfig
from tests.unit.video.test_roi import texture, write_video

FRAMES = {"fps": 10.0, "height_px": 24, "width_px": 32, "short_side_px": None, "jpeg_quality": 95}
CLASSES = ("background", "groom", "rear")
NUM_FRAMES, WINDOW = 11, 4


@pytest.fixture
def video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KINEFLOW_HOME", raising=False)
    scene = texture()
    return write_video(tmp_path / "a.mkv", [np.roll(scene, 9 * i, axis=1) for i in range(NUM_FRAMES)])


def make_bundle(root: Path, **changes: object) -> Bundle:
    """A network that was never trained; its scores differ from window to window all the same."""
    preprocessing = Preprocessing(
        task="frame",
        stream="rgb",
        fps=10.0,
        frames=FRAMES,
        flow=None,
        sampling="dense",
        num_frames=WINDOW,
        frame_stride=1,
        height_px=24,
        width_px=32,
        decode_height_px=24,
        decode_width_px=32,
        subtract_background=False,
        flow_scale_px=1.0,
        num_views=1,
    )
    model = ModelConfig("resnet10_tiny.lstm", "frame", 3, 3, 0.0, None, {"hidden_dim": 8, "num_layers": 1})
    weights = root.with_suffix(".pt")
    torch.save(model.build(seed=1).state_dict(), weights)
    bundle = Bundle(root, "frame", CLASSES, (Member("rgb", model, preprocessing, "fp32", "w.pt"),), (), (), "exclusive")
    bundle = replace(bundle, **changes)  # type: ignore[arg-type]
    write_bundle(bundle, {"w.pt": weights})
    return bundle


def scored(root: Path, video: Path, spans: list[tuple[int, int]]) -> pd.DataFrame:
    clips = [TimedClip(f"{a}", "v", a / 10, b / 10) for a, b in spans]
    return score_clips(root, clips, [VideoFile("v", video)])


def test_a_frame_of_several_windows_gets_the_mean_of_their_probabilities(video: Path, tmp_path: Path) -> None:
    make_bundle(tmp_path / "b", window_stride_sec=0.2)
    said = label_videos(tmp_path / "b", [video])
    # windows of four every two frames, and a last one that ends with the video
    by_window = scored(tmp_path / "b", video, [(0, 4), (2, 6), (4, 8), (6, 10), (7, 11)])
    by_hand = [by_window.loc[by_window["frame"] == frame, list(CLASSES)].mean() for frame in range(NUM_FRAMES)]
    np.testing.assert_allclose(said[list(CLASSES)].to_numpy(), np.stack(by_hand), atol=1e-12)
    first, second = (by_window[(by_window["clip_id"] == name) & (by_window["frame"] == 3)] for name in "02")
    assert not np.allclose(first[list(CLASSES)], second[list(CLASSES)], atol=1e-4)  # so the mean matters
    assert said["frame"].tolist() == list(range(NUM_FRAMES))
    assert list(said.columns) == ["video_id", "frame", "label", *CLASSES]
    assert said["label"].tolist() == [CLASSES[k] for k in said[list(CLASSES)].to_numpy().argmax(axis=1)]


def test_without_a_stride_windows_tile_the_video(video: Path, tmp_path: Path) -> None:
    make_bundle(tmp_path / "b", labels="independent")
    said = label_videos(tmp_path / "b", [video])
    tiled = scored(tmp_path / "b", video, [(0, 4), (4, 8), (8, 11)])
    np.testing.assert_array_equal(said[list(CLASSES)].to_numpy(), tiled[list(CLASSES)].to_numpy())
    assert "label" not in said and not np.allclose(said[list(CLASSES)].sum(axis=1), 1.0, atol=1e-3)


def test_every_frame_is_answered_though_training_skipped_some(video: Path, tmp_path: Path) -> None:
    make_bundle(tmp_path / "b", window_stride_sec=0.6)
    assert label_videos(tmp_path / "b", [video])["frame"].tolist() == list(range(NUM_FRAMES))


def test_a_bundle_of_the_version_before_is_read(tmp_path: Path) -> None:
    made = make_bundle(tmp_path / "b", labels="independent")
    path = tmp_path / "b" / "bundle.json"
    values = json.loads(path.read_text()) | {"schema_version": 1}
    del values["labels"], values["window_stride_sec"]
    path.write_text(json.dumps(values))
    assert read_bundle(tmp_path / "b") == made
