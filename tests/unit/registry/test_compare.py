"""Which clips are fair to compare on, and how probabilities meet the truth."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kineflow import tables
from kineflow.errors import DataError
from kineflow.evaluation.predictions import make_examples
from kineflow.registry.compare import TestData, aligned, fair_clips
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
