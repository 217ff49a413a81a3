"""Baselines learn from the training rows of a fold alone, and are scored on its held-out rows."""

import numpy as np
import pandas as pd
import pytest

from kineflow.errors import DataError
from kineflow.evaluation import baseline_features, baselines
from kineflow.evaluation.baselines import Split
from kineflow.evaluation.predictions import Examples
from kineflow.video.feature_store import write_features

DIMENSIONS = 6 * 4 * 6 * 9


def clip_examples(truth, classes=("a", "b")):
    rows = pd.DataFrame({"fold": 0, "clip_id": [f"c{i}" for i in range(len(truth))], "video_id": "v", "frame": -1})
    return Examples("clip", classes, rows, np.array(truth, dtype=np.float64), rows, np.arange(len(rows)))


def frame_examples(truth):
    rows = pd.DataFrame({"fold": 0, "clip_id": "c", "video_id": "v", "frame": np.arange(len(truth))})
    return Examples("frame", ("a", "b"), rows, np.array(truth, dtype=np.float64), rows, np.arange(len(rows)))


def halves(num_rows):
    rows = np.arange(num_rows)
    return [
        Split(0, rows[: num_rows // 2], rows[num_rows // 2 :]),
        Split(1, rows[num_rows // 2 :], rows[: num_rows // 2]),
    ]


def test_splits_follow_the_folds_table():
    folds = pd.DataFrame(
        [("c0", "val", 0), ("c1", "train", 0), ("c0", "train", 1), ("c1", "val", 1), ("c2", "test", -1)],
        columns=["clip_id", "role", "fold"],
    )
    splits = baselines.make_splits(clip_examples([0, 1, 0]), folds)
    assert [(s.fold, s.train.tolist(), s.score.tolist()) for s in splits] == [
        (0, [1], [0]),
        (1, [0], [1]),
        (-1, [0, 1], [2]),
    ]


def test_majority_takes_the_training_rows_alone():
    found = baselines.majority(clip_examples([0, 0, 1, 1, 1, 0]), halves(6))
    # Fold 0 learns a (2 of 3) and is scored on b b a; fold 1 learns b and is scored on a a b.
    assert [scores["video_top1_acc"] for scores in found.folds] == pytest.approx([1 / 3, 1 / 3])
    assert found.test is None


def test_majority_of_frames_leaves_unlabelled_ones_out():
    found = baselines.majority(frame_examples([[1, 0], [1, np.nan], [0, 1], [1, 0], [1, 0], [0, 0]]), halves(6))
    # Learnt: a in 2 of 3, b in 1 of 2, which is the threshold; scored on a a none: F1 of a 4/5, of b 0.
    assert found.folds[0]["frame_macro_f1"] == pytest.approx((4 / 5 + 0) / 2)


def test_metadata_learns_what_duration_tells():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 60)
    features = np.stack([truth + rng.normal(0, 0.05, 60), rng.normal(0, 1, 60)], axis=1).astype(np.float32)
    found = baselines.metadata(clip_examples(truth), halves(60), lambda rows: features[rows])
    assert all(scores["video_top1_acc"] == 1.0 for scores in found.folds)


def test_a_class_that_a_fold_was_not_taught_is_never_predicted():
    truth = [0, 0, 0, 1, 2, 2]
    features = np.eye(6, dtype=np.float32)
    found = baselines.metadata(clip_examples(truth, ("a", "b", "c")), halves(6), lambda rows: features[rows])
    assert found.folds[0]["video_top1_acc"] == 0.0


def directions(labels, *, columns):
    """Descriptors of clips that move right (0) or left (1), each in one column of the grid."""
    grid = np.full((len(labels), 6, 4, 6, 9), 1e-3, dtype=np.float32)
    for i, (label, column) in enumerate(zip(labels, columns, strict=True)):
        grid[i, :, :, column, 4 * label] = 1.0
    flat = grid.reshape(len(labels), DIMENSIONS)
    return flat / np.linalg.norm(flat, axis=1, keepdims=True)


def test_mirror_images_are_used_where_they_help_and_only_there():
    labels, groups = np.tile([0, 1], 12), np.repeat(["g0", "g1", "g2"], 8).astype(object)
    # Right or left are the classes: a mirror image is an example of the other one.
    assert not baselines._mirror_helps(directions(labels, columns=[2, 2, 3, 3] * 6), labels, groups)
    # Inwards or outwards are the classes, and only g2 shows the right half of the arena.
    on_right = groups == "g2"
    inwards = directions(np.where(on_right, 1 - labels, labels), columns=np.where(on_right, 4, 1))
    assert baselines._mirror_helps(inwards, labels, groups)
    assert not baselines._mirror_helps(inwards[:8], labels[:8], groups[:8])  # one group: nothing to choose by


def test_hof_of_frames_finds_the_behaviour():
    truth = np.tile([[1, 0], [0, 1], [0, 0], [np.nan, 1]], (20, 1))
    features = np.zeros((80, DIMENSIONS), np.float32)
    features[:, 0], features[:, 1] = np.tile([1, 0, 0, 0], 20), np.tile([0, 1, 0, 1], 20)
    found = baselines.hof_grid(
        frame_examples(truth), halves(80), lambda rows: features[rows], np.zeros(80, dtype=object)
    )
    assert [scores["frame_macro_f1"] for scores in found.folds] == [1.0, 1.0]


@pytest.mark.parametrize(("precision", "rounding"), [("fp32", 0), ("fp16", 2**-11), ("bf16", 2**-8)])
def test_one_linear_layer_on_embeddings_finds_what_a_single_frame_tells(tmp_path, precision, rounding):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, (400, 2)).astype(np.float64)
    embeddings_ND = rng.normal(size=(400, 16)).astype(np.float32)
    embeddings_ND[:, 3] += 4 * truth[:, 0]  # of a alone; b is not seen
    write_features(tmp_path / "v.npy", [embeddings_ND], num_frames=400, precision=precision)
    examples = frame_examples(truth)
    features_of = baseline_features.embedding_features(examples, lambda video_id: tmp_path / f"{video_id}.npy")
    np.testing.assert_allclose(features_of(np.array([7, 2])), embeddings_ND[[7, 2]], rtol=rounding)
    for scores in baselines.embedding(examples, halves(400), features_of).folds:
        assert 0.67 < scores["frame_mAP"] < 0.83  # of a 0.99, of b the share of positives


def test_training_frames_are_sampled_with_the_rare_behaviour(monkeypatch):
    monkeypatch.setattr(baselines, "MAX_TRAIN_FRAMES", 40)
    truth = np.zeros((1000, 2))
    truth[500:507, 1] = 1
    truth[:100, :] = np.nan
    found = baselines._sampled(np.arange(1000), truth)
    assert len(found) <= 40 and set(range(500, 507)) <= set(found.tolist()) and found.min() >= 100
    assert np.array_equal(found, np.unique(found))


def test_a_fold_without_training_clips_is_an_error():
    with pytest.raises(DataError, match="fold 0 has no clips to train on"):
        baselines.majority(clip_examples([0, 1]), [Split(0, np.arange(0), np.arange(2))])
