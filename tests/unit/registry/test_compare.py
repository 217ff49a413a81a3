"""Which clips are fair to compare on, and how probabilities meet the truth."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kineflow import tables
from kineflow.errors import DataError
from kineflow.evaluation.predictions import make_examples
from kineflow.registry.compare import TestData, aligned, fair_clips, score_on_test
from kineflow.training.bundle import Bundle


@pytest.fixture
def data(tmp_path: Path) -> TestData:
    ids = ["a", "b", "c", "d", "e"]
    groups = ["g1", "g2", "g3", "g4", "g4"]
    clips = pd.DataFrame(
        [(f"{v}#0-8", v, 0, 8, "xy"[i % 2], g, "trimmed") for i, (v, g) in enumerate(zip(ids, groups, strict=True))],
        columns=[name for name, _ in tables.CLIPS.columns],
    )
    roles = ["train", "test", "test", "test", "test"]
    folds = pd.DataFrame({"clip_id": clips["clip_id"], "role": roles, "fold": [0, -1, -1, -1, -1]})
    videos = pd.DataFrame({"video_id": ids, "sha256": [f"sha-{v}" for v in ids]})
    return TestData("clip", "exclusive", videos, clips, folds, pd.DataFrame(), 10.0, tmp_path)


def bundle(*, groups: tuple[str, ...] = (), videos: tuple[str, ...] = ()) -> Bundle:
    return Bundle(Path(), "clip", ("x", "y"), (), videos, groups, "exclusive")


def test_clips_that_either_was_trained_on_are_left_out(data: TestData) -> None:
    assert data.has_test
    assert list(fair_clips(data, [bundle()])["video_id"]) == ["b", "c", "d", "e"]
    assert list(fair_clips(data, [bundle(groups=("g4",)), bundle()])["video_id"]) == ["b", "c"]
    assert list(fair_clips(data, [bundle(), bundle(videos=("sha-b",))])["video_id"]) == ["c", "d", "e"]
    assert fair_clips(data, [bundle(groups=("g2", "g4")), bundle(videos=("sha-c",))]).empty


def test_the_same_content_under_another_name_is_left_out(data: TestData) -> None:
    renamed = data.videos.assign(sha256=["sha-a", "sha-a", "sha-c", "sha-d", "sha-e"])
    trained = bundle(videos=("sha-a",))
    assert list(fair_clips(TestData(**{**vars(data), "videos": renamed}), [trained])["video_id"]) == ["c", "d", "e"]


def test_probabilities_are_joined_by_clip(data: TestData) -> None:
    examples = make_examples(
        "clip",
        data.clips,
        data.folds,
        role="test",
        classes=("x", "y"),
        labels="exclusive",
        labels_of=lambda v: None,
    )
    assert examples is not None
    order = ["d", "b", "e", "c"]
    table = pd.DataFrame({"clip_id": [f"{v}#0-8" for v in order], "video_id": order, "x": [0.4, 0.2, 0.5, 0.3]})
    table["y"] = 1 - table["x"]
    np.testing.assert_allclose(aligned(table, examples)[:, 0], [0.2, 0.3, 0.4, 0.5])
    with pytest.raises(DataError, match="'c#0-8'"):
        aligned(table[table["video_id"] != "c"], examples)


def test_a_frame_of_two_windows_gets_their_mean(data: TestData) -> None:
    clips = data.clips[:2].assign(video_id="v", start_frame=[0, 1], stop_frame=[2, 3], clip_id=["w0", "w1"], label=None)
    folds = pd.DataFrame({"clip_id": ["w0", "w1"], "role": "test", "fold": -1})
    examples = make_examples(
        "frame",
        clips,
        folds,
        role="test",
        classes=("x", "y"),
        labels="independent",
        labels_of=lambda v: np.zeros((3, 2)),
    )
    assert examples is not None
    rows = [("w1", 2, 0.1, 0.2), ("w1", 1, 0.9, 0.4), ("w0", 1, 0.5, 0.2), ("w0", 0, 0.3, 0.3)]
    table = pd.DataFrame(rows, columns=["clip_id", "frame", "x", "y"])
    assert aligned(table, examples) == pytest.approx(np.array([[0.3, 0.3], [0.7, 0.3], [0.1, 0.2]]))


def test_models_of_other_labels_or_classes_are_not_compared(data: TestData, monkeypatch: pytest.MonkeyPatch) -> None:
    several = data.clips.assign(label=None, x=1, z=0)
    asked = TestData(**{**vars(data), "labels": "independent", "clips": several})
    monkeypatch.setattr("kineflow.registry.compare.read_bundle", lambda folder: bundle())
    scored = score_on_test(asked, [Path("old")], "video_mAP", min_clips=1)
    assert scored[0].incomparable == "it gives exclusive labels, not independent ones"
    independent = Bundle(Path(), "clip", ("x", "y"), (), (), (), "independent")
    monkeypatch.setattr("kineflow.registry.compare.read_bundle", lambda folder: independent)
    scored = score_on_test(asked, [Path("old")], "video_mAP", min_clips=1)
    assert scored[0].incomparable == "it knows other classes"
