"""A release model of several streams weighs their probabilities as its bundle says."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kineflow.errors import DataError
from kineflow.training.bundle import BUNDLE_JSON, Member, assemble_bundle, read_bundle, write_bundle
from tests.unit.inference.test_predict_windows import CLASSES, NUM_FRAMES, make_bundle, scored
from tests.unit.video.test_roi import texture, write_video

WEIGHTS = {"rgb": 0.2, "student": 0.6}  # a sum of 1 is not needed


@pytest.fixture
def video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KINEFLOW_HOME", raising=False)
    return write_video(tmp_path / "a.mkv", [np.roll(texture(), 9 * i, axis=1) for i in range(NUM_FRAMES)])


def make_parts(folder: Path) -> list[Path]:
    """Two networks of one input, under the names of two streams."""
    rgb = make_bundle(folder / "rgb")
    (member,) = rgb.members
    assert isinstance(member, Member)
    torch.save(member.model.build(seed=2).state_dict(), folder / "other.pt")
    student = replace(rgb, root=folder / "student", members=(replace(member, stream="student"),))
    write_bundle(student, {"w.pt": folder / "other.pt"})
    return [rgb.root, student.root]


def probs(root: Path, video: Path) -> np.ndarray:
    return scored(root, video, [(0, 4), (3, 8)])[list(CLASSES)].to_numpy()


def test_probabilities_are_weighed(video: Path, tmp_path: Path) -> None:
    parts = make_parts(tmp_path)
    made = assemble_bundle(parts, tmp_path / "fused", stream_weights=WEIGHTS)
    assert read_bundle(made.root).stream_weights == WEIGHTS
    rgb, student = (probs(part, video) for part in parts)
    assert np.abs(rgb - student).max() > 0.01
    np.testing.assert_allclose(probs(made.root, video), 0.25 * rgb + 0.75 * student, atol=1e-12)


def test_a_bundle_of_the_version_before_weighs_all_streams_alike(video: Path, tmp_path: Path) -> None:
    parts = make_parts(tmp_path)
    made = assemble_bundle(parts, tmp_path / "fused", stream_weights=WEIGHTS)
    path = made.root / BUNDLE_JSON
    values = json.loads(path.read_text())
    del values["stream_weights"]
    path.write_text(json.dumps(values | {"schema_version": 3}))
    assert read_bundle(made.root) == replace(made, stream_weights=None)
    alike = np.mean([probs(part, video) for part in parts], axis=0)
    np.testing.assert_allclose(probs(made.root, video), alike, atol=1e-12)
    assemble_bundle(parts, tmp_path / "equal")
    np.testing.assert_allclose(probs(tmp_path / "equal", video), alike, atol=1e-12)


def test_weights_of_other_streams_are_refused(video: Path, tmp_path: Path) -> None:
    parts = make_parts(tmp_path)
    with pytest.raises(DataError, match="joins rgb, student, but the weights are of flow, rgb"):
        assemble_bundle(parts, tmp_path / "fused", stream_weights={"rgb": 0.5, "flow": 0.5})
    assert not (tmp_path / "fused").exists()
