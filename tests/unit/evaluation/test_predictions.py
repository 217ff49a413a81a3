"""Rows to score come from the splits, and a model's file must hold exactly those."""

import numpy as np
import pandas as pd
import pytest

from kineflow.data.probabilities import sigmoid, softmax
from kineflow.errors import DataError
from kineflow.evaluation.predictions import make_examples, read_predictions
from kineflow.tables import LOGITS, write_table


def clips_table(rows):
    columns = ["clip_id", "video_id", "start_frame", "stop_frame", "label"]
    return pd.DataFrame(rows, columns=columns).assign(group="g", origin="trimmed")


def folds_table(rows):
    return pd.DataFrame(rows, columns=["clip_id", "role", "fold"])


CLIPS = clips_table([("c1", "1.mp4", 0, 9, "b"), ("c2", "2.mp4", 0, 9, "a"), ("c3", "3.mp4", 0, 9, "a")])
FOLDS = folds_table(
    [("c1", "val", 1), ("c2", "train", 1), ("c2", "val", 0), ("c1", "train", 0), ("c3", "test", -1)],
)


def no_labels(video_id):
    raise AssertionError(video_id)


def clip_examples(role="val", classes=("a", "b"), folds=FOLDS):
    return make_examples("clip", CLIPS, folds, role=role, classes=classes, labels="exclusive", labels_of=no_labels)


def logits(rows, classes=("a", "b")):
    table = pd.DataFrame(rows, columns=["fold", "clip_id", "video_id", "frame", *classes]).assign(model="m")
    return table.astype({"frame": "Int64"})


def written(tmp_path, table):
    write_table(tmp_path / "oof.parquet", LOGITS, table)
    return tmp_path / "oof.parquet"


def test_clip_rows_and_probabilities_are_joined_by_key(tmp_path):
    examples = clip_examples()
    assert examples.rows["clip_id"].tolist() == ["c2", "c1"] and examples.folds == [0, 1]
    assert examples.truth.tolist() == [0.0, 1.0]
    table = logits([(1, "c1", "1.mp4", None, 0.0, np.log(3)), (0, "c2", "2.mp4", None, 0.0, 0.0)])
    found = read_predictions(written(tmp_path, table), "rgb", examples)
    assert found.probs_NK == pytest.approx(np.array([[0.5, 0.5], [0.25, 0.75]]))
    assert [scores["video_top1_acc"] for scores in found.fold_scores()] == [1.0, 1.0]


def test_a_role_without_clips_gives_none():
    assert (
        make_examples(
            "clip", CLIPS, FOLDS[:4], role="test", classes=("a", "b"), labels="exclusive", labels_of=no_labels
        )
        is None
    )
    assert clip_examples("test").rows["clip_id"].tolist() == ["c3"]


GOOD = [(1, "c1", "1.mp4", None, 0.0, 1.0), (0, "c2", "2.mp4", None, 0.0, 0.0)]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (GOOD[:1], "'c2' of fold 0 is missing"),
        ([*GOOD, GOOD[0]], "'c1' of fold 1 is there more than once"),
        ([*GOOD, (1, "c2", "2.mp4", None, 0.0, 0.0)], "'c2' of fold 1 is no row that it may be scored on"),
        ([*GOOD, (0, "c3", "3.mp4", None, 0.0, 0.0)], "'c3' of fold 0 is no row"),
        ([GOOD[0], (0, "c2", "2.mp4", None, 0.0, np.nan)], "'c2' of fold 0 has a logit that is not finite"),
    ],
)
def test_rows_that_leak_repeat_or_lack_are_refused(tmp_path, rows, message):
    with pytest.raises(DataError, match=message):
        read_predictions(written(tmp_path, logits(rows)), "rgb", clip_examples())


def test_other_classes_and_unknown_labels_are_refused(tmp_path):
    with pytest.raises(DataError, match="its classes are b, a, not a, b"):
        read_predictions(written(tmp_path, logits(GOOD, classes=("b", "a"))), "rgb", clip_examples())
    with pytest.raises(DataError, match="has the label 'a'"):
        clip_examples(classes=("b",))
    with pytest.raises(DataError, match="which the clips table lacks"):
        folds = folds_table([("nobody", "val", 0)])
        make_examples("clip", CLIPS, folds, role="val", classes=("a", "b"), labels="exclusive", labels_of=no_labels)


WINDOWS = clips_table([("w1", "v.mp4", 0, 3, None), ("w2", "v.mp4", 2, 4, None)])
VIDEO_LABELS = np.array([[1, 0], [0, 1], [np.nan, 1], [0, 0]])


def make_frame_examples(folds, *, classes, labels_NK, labels="independent"):
    return make_examples(
        "frame", WINDOWS, folds, role="val", classes=classes, labels=labels, labels_of=lambda video_id: labels_NK
    )


def frame_examples():
    folds = folds_table([("w1", "val", 0), ("w2", "val", 0)])
    return make_examples(
        "frame",
        WINDOWS,
        folds,
        role="val",
        classes=("groom", "rear"),
        labels="independent",
        labels_of=lambda video_id: VIDEO_LABELS,
    )


def test_frames_of_overlapping_windows_are_averaged(tmp_path):
    examples = frame_examples()
    assert examples.rows["frame"].tolist() == [0, 1, 2, 3]
    assert np.array_equal(examples.truth, VIDEO_LABELS, equal_nan=True)
    rows = [(0, "w1", "v.mp4", f, 0.0, 0.0) for f in (0, 1)]
    rows += [(0, "w1", "v.mp4", 2, -np.log(3), 0.0), (0, "w2", "v.mp4", 2, np.log(3), 0.0)]
    rows += [(0, "w2", "v.mp4", 3, 0.0, np.log(9))]
    found = read_predictions(written(tmp_path, logits(rows, ("groom", "rear"))), "rgb", examples)
    assert found.probs_NK == pytest.approx(np.array([[0.5, 0.5], [0.5, 0.5], [0.5, 0.5], [0.5, 0.9]]), abs=1e-6)


def test_a_window_beyond_the_video_is_refused():
    folds = folds_table([("w2", "val", 0)])
    with pytest.raises(DataError, match=r"v\.mp4: a clip ends at frame 3, but 2 were extracted"):
        make_examples(
            "frame",
            WINDOWS,
            folds,
            role="val",
            classes=("a", "b"),
            labels="independent",
            labels_of=lambda video_id: VIDEO_LABELS[:2],
        )


def test_softmax_and_sigmoid_are_stable():
    assert softmax(np.array([[1000.0, 1000.0], [-2000.0, 0.0]])).tolist() == [[0.5, 0.5], [0.0, 1.0]]
    assert sigmoid(np.array([[-1000.0, 0.0, 1000.0]])).tolist() == [[0.0, 0.5, 1.0]]
    assert sigmoid(np.array([0.7])) == pytest.approx(1 / (1 + np.exp(-0.7)))
