"""Scores against values worked out by hand, against slow references, and on a published model's probabilities."""

import math

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as skm

from kineflow.evaluation.metrics import (
    class_table,
    confusion_matrix,
    exclusive_scores,
    independent_scores,
    over_folds,
)

NAN = math.nan


def one_hot(predicted, num_classes):
    return np.eye(num_classes)[predicted]


def test_clip_scores_by_hand():
    # truth 0 0 0 1 1 2, predicted 0 0 1 1 1 0
    labels = np.array([0, 0, 0, 1, 1, 2])
    probs = np.array(
        [[0.8, 0.1, 0.1], [0.5, 0.25, 0.25], [0.2, 0.6, 0.2], [0.1, 0.8, 0.1], [0.0, 1.0, 0.0], [0.4, 0.35, 0.25]]
    )
    found = exclusive_scores(probs, labels, task="clip")
    assert found["video_top1_acc"] == pytest.approx(4 / 6)
    assert found["video_mean_class_acc"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    # F1: class 0: tp 2 fp 1 fn 1 -> 4/6; class 1: tp 2 fp 1 fn 0 -> 4/5; class 2: 0
    assert found["video_macro_f1"] == pytest.approx((4 / 6 + 4 / 5 + 0) / 3)
    expected = -(math.log(0.8) + math.log(0.5) + math.log(0.2) + math.log(0.8) + 0 + math.log(0.25)) / 6
    assert found["video_log_loss"] == pytest.approx(expected)
    assert confusion_matrix(probs, labels).tolist() == [[2, 1, 0], [0, 2, 0], [1, 0, 0]]
    table = class_table(probs, labels, ["a", "b", "c"])
    assert [row.name for row in table] == ["a", "b", "c"]
    assert [row.support for row in table] == [3, 2, 1]
    assert (table[0].precision, table[0].recall, table[0].f1) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert math.isnan(table[2].precision)  # never predicted: nothing to divide by
    assert table[2].recall == 0.0 and table[2].f1 == 0.0


def test_classes_that_do_not_occur():
    # Class 2 occurs nowhere and says nothing; class 1 is predicted but never true and counts with F1 = 0.
    found = exclusive_scores(one_hot([0, 1, 0], 4), np.array([0, 0, 3]), task="clip")
    assert found["video_mean_class_acc"] == pytest.approx((1 / 2 + 0) / 2)
    assert found["video_macro_f1"] == pytest.approx((2 * 1 / (2 + 1 + 1) + 0 + 0) / 3)
    table = class_table(one_hot([0, 1, 0], 4), np.array([0, 0, 3]), ["a", "b", "c", "d"])
    assert math.isnan(table[2].f1) and math.isnan(table[1].recall) and table[1].precision == 0.0


def test_a_certain_error_costs_a_finite_log_loss():
    found = exclusive_scores(np.array([[1.0, 0.0]]), np.array([1]), task="clip")
    assert found["video_log_loss"] == pytest.approx(-math.log(np.finfo(np.float64).eps))


def test_frame_scores_by_hand():
    labels = np.array([[1, 0], [0, 1], [1, 1], [0, 0], [NAN, 1], [1, NAN]], dtype=np.float64)
    probs = np.array([[0.9, 0.1], [0.6, 0.5], [0.4, 0.7], [0.2, 0.3], [0.99, 0.4], [0.55, 0.9]])
    # Behaviour 0 over rows 0 1 2 3 5: truth 1 0 1 0 1, predicted 1 1 0 0 1 -> tp 2 fp 1 fn 1 -> F1 2/3
    # Behaviour 1 over rows 0 to 4: truth 0 1 1 0 1, predicted 0 1 1 0 0 (0.5 counts) -> tp 2 fp 0 fn 1 -> F1 4/5
    found = independent_scores(probs, labels, task="frame")
    assert found["frame_macro_f1"] == pytest.approx((2 / 3 + 4 / 5) / 2)
    # Ranked by probability, behaviour 0: 1 0 1 1 0 -> AP (1 + 2/3 + 3/4) / 3; behaviour 1: 1 1 1 0 0 -> 1
    assert found["frame_mAP"] == pytest.approx(((1 + 2 / 3 + 3 / 4) / 3 + 1) / 2)
    # Exactly one behaviour and no null: rows 0 (argmax 0, right) and 1 (argmax 0, wrong)
    assert found["frame_top1_acc"] == pytest.approx(1 / 2)
    table = class_table(probs, labels, ["groom", "rear"])
    assert [row.support for row in table] == [3, 3]
    assert (table[1].precision, table[1].recall) == pytest.approx((1.0, 2 / 3))


def test_behaviours_without_labels_or_positives_are_left_out():
    labels = np.array([[1, 0, NAN], [0, 0, NAN]], dtype=np.float64)
    probs = np.array([[0.9, 0.1, 0.9], [0.2, 0.2, 0.9]])
    found = independent_scores(probs, labels, task="frame")
    assert found["frame_macro_f1"] == 1.0 and found["frame_mAP"] == 1.0
    assert math.isnan(found["frame_top1_acc"])  # no frame is labelled throughout
    nothing = independent_scores(probs, np.full((2, 3), NAN), task="frame")
    assert all(math.isnan(value) for value in nothing.values())


def test_over_folds_by_hand_and_without_the_unknown():
    found = over_folds([{"m": 0.5}, {"m": NAN}, {"m": 0.9}])["m"]
    assert found.mean == pytest.approx(0.7) and found.std == pytest.approx(0.2)
    assert found.as_json() == {"mean": 0.7, "std": 0.2, "folds": [0.5, None, 0.9]}


@pytest.mark.parametrize("seed", range(5))
def test_clip_scores_against_a_slow_reference(seed):
    rng = np.random.default_rng(seed)
    labels, probs = rng.integers(0, 5, 40), rng.dirichlet(np.ones(5), 40)
    predicted = [max(range(5), key=lambda k, row=row: row[k]) for row in probs]
    recalls, f1s = [], []
    for k in range(5):
        hits = sum(t == k and p == k for t, p in zip(labels, predicted, strict=True))
        true, given = sum(t == k for t in labels), sum(p == k for p in predicted)
        recalls += [hits / true] if true else []
        f1s += [2 * hits / (true + given)] if true + given else []
    found = exclusive_scores(probs, labels, task="clip")
    assert found["video_mean_class_acc"] == pytest.approx(sum(recalls) / len(recalls))
    assert found["video_macro_f1"] == pytest.approx(sum(f1s) / len(f1s))
    assert found["video_log_loss"] == pytest.approx(skm.log_loss(labels, probs, labels=range(5)))


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="no rows"):
        exclusive_scores(np.zeros((0, 2)), np.zeros(0, dtype=np.int64), task="clip")
    with pytest.raises(ValueError, match="sum to 1; row 1"):
        exclusive_scores(np.array([[0.5, 0.5], [0.5, 0.1]]), np.array([0, 1]), task="clip")
    with pytest.raises(ValueError, match="between 0 and 1"):
        independent_scores(np.array([[1.5]]), np.array([[1.0]]), task="frame")
    with pytest.raises(ValueError, match="shape"):
        independent_scores(np.array([[0.5]]), np.array([[1.0], [0.0]]), task="frame")


def test_frame_scores_on_a_published_models_probabilities(shared_data):
    table = pd.read_csv(shared_data / "mouse_frames" / "results.csv")
    labels = table[["grooming", "rearing_mig", "rearing_paret"]].to_numpy(dtype=np.float64)
    probs = table[["g_prediction", "mr_prediction", "wr_prediction"]].to_numpy(dtype=np.float64)
    assert len(table) == 6600
    found = independent_scores(probs, labels, task="frame")
    assert found["frame_macro_f1"] == pytest.approx(skm.f1_score(labels, probs >= 0.5, average="macro"))
    assert found["frame_mAP"] == pytest.approx(skm.average_precision_score(labels, probs, average="macro"))
    single = labels.sum(axis=1) == 1
    expected = skm.accuracy_score(labels[single].argmax(axis=1), probs[single].argmax(axis=1))
    assert found["frame_top1_acc"] == pytest.approx(expected)
    rows = class_table(probs, labels, ["grooming", "mid rearing", "wall rearing"])
    for k, row in enumerate(rows):
        assert row.f1 == pytest.approx(skm.f1_score(labels[:, k], probs[:, k] >= 0.5))
        assert row.support == labels[:, k].sum()


def test_scores_of_clips_with_several_labels_by_hand():
    probs = np.array([[0.9, 0.4], [0.2, 0.8], [0.6, 0.1], [0.3, 0.7]])
    labels = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0], [0.0, 1.0]])
    found = independent_scores(probs, labels, task="clip")
    assert list(found) == ["video_mAP", "video_macro_f1", "video_exact_match"]
    # x is ranked 0.9 (true), 0.6, 0.3, 0.2 (true): (1 / 1 + 2 / 4) / 2; y: both on top
    assert found["video_mAP"] == pytest.approx((0.75 + 1.0) / 2)
    # x: one of two found, one of two right: 1/2; y is perfect
    assert found["video_macro_f1"] == pytest.approx(0.75)
    assert found["video_exact_match"] == 0.5  # the first and the last
    rows = class_table(probs, labels, ["x", "y"])
    assert [row.average_precision for row in rows] == pytest.approx([0.75, 1.0])
    assert [row.support for row in rows] == [2, 2]


def test_scores_of_exclusive_frames_leave_unlabelled_ones_out():
    probs = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.4, 0.5, 0.1], [0.0, 0.0, 1.0]])
    truth = np.array([0.0, 1.0, 0.0, NAN])
    found = exclusive_scores(probs, truth, task="frame")
    assert list(found) == ["frame_macro_f1", "frame_top1_acc", "frame_mean_class_acc", "frame_log_loss"]
    assert found["frame_top1_acc"] == pytest.approx(2 / 3)
    assert found["frame_macro_f1"] == pytest.approx((2 / 3 + 2 / 3) / 2)  # the third class occurs nowhere
    assert found["frame_mean_class_acc"] == pytest.approx((0.5 + 1.0) / 2)
    assert found["frame_log_loss"] == pytest.approx(-(np.log(0.7) + np.log(0.8) + np.log(0.4)) / 3)
    assert confusion_matrix(probs, truth).tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert all(math.isnan(value) for value in exclusive_scores(probs, np.full(4, NAN), task="frame").values())
