"""Weights of the loss by equation 4.1 of the mouse thesis, by hand-computed values."""

import numpy as np
import pytest
import torch

from kineflow.data.dataset import Batch
from kineflow.models.classifier import Prediction
from kineflow.training.objectives import (
    Classification,
    balanced_weights,
    masked_binary_cross_entropy,
    masked_cross_entropy,
)

NA = float("nan")


def test_frames_weigh_by_equation_4_1() -> None:
    # first behaviour: 10 labelled frames, 2 positive: 10 / (2 * 8) and 10 / (2 * 2). Second: 4 labelled, none positive.
    first = [1, 1, 0, 0, 0, 0, 0, 0, 0, 0]
    second = [0, 0, 0, 0, NA, NA, NA, NA, NA, NA]
    frames_NK = np.array([first, second], np.float32).T
    weights_2K = balanced_weights([frames_NK[:3], frames_NK[3:]], labels="independent", num_classes=2)
    assert weights_2K.tolist() == [[0.625, 0.5], [2.5, 1.0]]


def test_the_mouse_thesis_grooming_weights() -> None:
    # table 3.1: 12077 positive frames are 10.76% of 17 videos of 6600 frames
    frames_NK = np.zeros((17 * 6600, 1), np.float32)
    frames_NK[:12077] = 1
    assert 12077 / len(frames_NK) == pytest.approx(0.1076, abs=5e-5)
    weights = balanced_weights([frames_NK], labels="independent", num_classes=1)
    assert weights[:, 0].tolist() == pytest.approx([112200 / (2 * 100123), 112200 / (2 * 12077)])


def test_clips_weigh_by_how_rare_their_class_is() -> None:
    # eight clips, four classes: 8 / (4 * 4), 8 / (4 * 2), 8 / (4 * 2); the last never occurs
    assert balanced_weights([0, 0, 0, 0, 1, 1, 2, 2], labels="exclusive", num_classes=4).tolist() == [
        0.5,
        1.0,
        1.0,
        1.0,
    ]


def test_the_weighted_loss_of_frames() -> None:
    logits = torch.zeros(1, 4, 1)  # a loss of ln 2 each
    targets = torch.tensor([[[1.0], [0.0], [0.0], [NA]]])
    weights = torch.tensor([[0.75], [1.5]])
    loss = masked_binary_cross_entropy(logits, targets, weights)
    assert float(loss) == pytest.approx(np.log(2) * (1.5 + 0.75 + 0.75) / 3)


def test_the_weighted_loss_of_clips() -> None:
    ones_BC = np.ones((2, 1), np.float32)
    batch = Batch(np.zeros((2, 1, 1, 1, 1), np.uint8), ones_BC, ones_BC, np.array([0, 1]), np.arange(2), np.ones(2))
    prediction = Prediction(torch.zeros(2, 2), torch.zeros(2, 1))
    loss = Classification("exclusive", 0.0, np.array([0.5, 3.0]))(prediction, batch, epoch=0).of_labels
    assert float(loss) == pytest.approx(np.log(2) * (0.5 + 3.0) / 2)


def test_exclusive_frames_weigh_by_equation_4_1_for_each_class() -> None:
    # ten frames, one unlabelled; background 6, groom 2, rear 1: 9 / (3 * 6), 9 / (3 * 2), 9 / (3 * 1)
    classes = [0, 0, 0, 0, 0, 0, 1, 1, 2]
    frames_NK = np.concatenate([np.eye(3)[classes], np.full((1, 3), NA)]).astype(np.float32)
    weights_K = balanced_weights([frames_NK[:4], frames_NK[4:]], labels="exclusive", num_classes=3)
    assert weights_K.tolist() == [0.5, 1.5, 3.0]
    assert (weights_K * [6, 2, 1]).tolist() == [3.0, 3.0, 3.0]  # every class weighs alike


def test_with_one_behaviour_both_kinds_of_labels_weigh_as_the_mouse_thesis_does() -> None:
    # 2 of 10 frames: 10 / (2 * 8) and 10 / (2 * 2)
    positive_N = np.arange(10) < 2
    binary_N1 = positive_N[:, None].astype(np.float32)
    exclusive_N2 = np.stack([~positive_N, positive_N], axis=1).astype(np.float32)
    binary = balanced_weights([binary_N1], labels="independent", num_classes=1)
    exclusive = balanced_weights([exclusive_N2], labels="exclusive", num_classes=2)
    assert binary[:, 0].tolist() == exclusive.tolist() == [0.625, 2.5]


def test_clips_with_several_labels_weigh_both_sides_of_each_class() -> None:
    # four clips: x in three of them, y in one: 4 / (2 * 1), 4 / (2 * 3); 4 / (2 * 3), 4 / (2 * 1)
    targets = [np.array(row, np.float32) for row in ([1, 0], [1, 1], [1, 0], [0, 0])]
    weights_2K = balanced_weights(targets, labels="independent", num_classes=2)
    assert weights_2K == pytest.approx(np.array([[2.0, 2 / 3], [2 / 3, 2.0]]))


def test_the_weighted_loss_of_exclusive_frames() -> None:
    logits = torch.tensor([[[0.0, 0.0], [0.0, float(np.log(3))], [9.0, -9.0]]])
    targets = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [NA, NA]]])
    # the second frame gives its class 3/4; the third is unlabelled
    assert float(masked_cross_entropy(logits, targets)) == pytest.approx((np.log(2) + np.log(4 / 3)) / 2)
    weighted = masked_cross_entropy(logits, targets, torch.tensor([0.5, 2.0]))
    assert float(weighted) == pytest.approx((0.5 * np.log(2) + 2 * np.log(4 / 3)) / 2)
    assert float(masked_cross_entropy(logits, torch.full_like(targets, NA))) == 0.0
