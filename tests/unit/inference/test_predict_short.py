"""Clips of several lengths are labelled as each alone, where training padded them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kineflow.inference.predict import TimedClip, VideoFile, score_clips
from kineflow.training.bundle import Member, read_bundle, write_bundle
from kineflow.training.model_config import ModelConfig
from tests.unit.inference.test_predict_windows import CLASSES, FRAMES, NUM_FRAMES, make_bundle
from tests.unit.video.test_roi import texture, write_video

CLIPS = [TimedClip(f"{a}-{b}", "v", a / 10, b / 10) for a, b in [(0, 3), (0, 8), (2, 4), (3, 11), (10, 11)]]


@pytest.fixture
def video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KINEFLOW_HOME", raising=False)
    return write_video(tmp_path / "a.mkv", [np.roll(texture(), 9 * i, axis=1) for i in range(NUM_FRAMES)])


def make_padded(root: Path, *, short_clips: str) -> None:
    """The same network for whichever clips; FRAMES are of ten a second."""
    of_windows = make_bundle(root.with_name("windows"))
    model = ModelConfig("resnet10_tiny.lstm", "clip", 3, 3, 0.0, None, {"hidden_dim": 8, "num_layers": 1})
    made = of_windows.members[0].preprocessing
    preprocessing = replace(made, task="clip", num_frames=8, short_clips=short_clips)  # type: ignore[arg-type]
    torch.save(model.build(seed=1).state_dict(), root.with_suffix(".pt"))
    member = Member("rgb", model, preprocessing, "fp32", "w.pt")
    write_bundle(replace(of_windows, root=root, task="clip", members=(member,)), {"w.pt": root.with_suffix(".pt")})
    assert read_bundle(root).members[0].preprocessing.short_clips == short_clips


def scores(root: Path, video: Path, clips: list[TimedClip]) -> np.ndarray:
    return score_clips(root, clips, [VideoFile("v", video)])[list(CLASSES)].to_numpy()


def test_clips_of_many_lengths_score_as_each_alone(video: Path, tmp_path: Path) -> None:
    assert FRAMES["fps"] == 10.0
    make_padded(tmp_path / "padded", short_clips="pad")
    together = scores(tmp_path / "padded", video, CLIPS)
    alone = np.concatenate([scores(tmp_path / "padded", video, [clip]) for clip in CLIPS])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    make_padded(tmp_path / "looped", short_clips="loop")
    looped = scores(tmp_path / "looped", video, CLIPS)
    whole = [1, 3]
    np.testing.assert_allclose(together[whole], looped[whole], atol=1e-6)
    assert not np.isclose(together[[0, 2]], looped[[0, 2]], atol=1e-6).all(axis=1).any()
