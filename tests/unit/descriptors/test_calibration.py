"""Calibration recovers what made the labels, and stays finite where nothing is mistaken."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from kineflow.data.probabilities import sigmoid, softmax
from kineflow.descriptors.calibration import STEEPEST, fit_calibration, uncalibrated


def test_the_slope_of_a_softmax_is_found_again():
    rng = np.random.default_rng(0)
    margins = rng.normal(size=(20_000, 4))
    classes = (softmax(3.0 * margins).cumsum(axis=1) > rng.random((20_000, 1))).argmax(axis=1)
    found = fit_calibration(margins, np.eye(4)[classes], "exclusive")
    assert found.slope_K == pytest.approx(np.full(4, 3.0), rel=0.03) and not found.offset_K.any()
    assert found.probs(margins[:5], "exclusive") == pytest.approx(softmax(margins[:5] * found.slope_K), abs=1e-6)


def test_platt_against_a_logistic_regression():
    rng = np.random.default_rng(1)
    margins = rng.normal(size=(5_000, 2))
    targets = (rng.random((5_000, 2)) < sigmoid(margins * [4.0, 0.5] + [-1.0, 2.0])).astype(float)
    targets[:100, 0] = np.nan
    found = fit_calibration(margins, targets, "independent")
    for k in range(2):
        known = np.isfinite(targets[:, k])
        free = LogisticRegression(C=np.inf).fit(margins[known, k : k + 1], targets[known, k])
        assert found.slope_K[k] == pytest.approx(free.coef_[0, 0], rel=0.01)
        assert found.offset_K[k] == pytest.approx(free.intercept_[0], abs=0.02)


def test_margins_without_a_mistake_stay_below_certainty():
    margins, targets = np.eye(3)[[0, 1, 2, 0]] * 2 - 1, np.eye(3)[[0, 1, 2, 0]]
    exclusive = fit_calibration(margins, targets, "exclusive")
    # the smoothed target of the right class: 1 - (1 / 6) (1 - 1 / 3)
    assert exclusive.probs(margins, "exclusive").max(axis=1) == pytest.approx(np.full(4, 1 - 1 / 9), abs=1e-3)
    independent = fit_calibration(margins, targets, "independent")
    # Platt's targets: (2 + 1) / (2 + 2) and 1 / (2 + 2) for the first class
    assert independent.probs(margins, "independent")[[0, 1], 0] == pytest.approx([0.75, 0.25], abs=1e-3)


def test_misleading_margins_are_flattened_not_turned_round():
    margins, targets = np.array([[1.0], [1.0], [-1.0], [-1.0]]), np.array([[0.0], [0.0], [1.0], [1.0]])
    found = fit_calibration(margins, targets, "independent")
    assert found.slope_K[0] == pytest.approx(0.0, abs=1e-6)
    assert found.probs(margins, "independent")[:, 0] == pytest.approx(np.full(4, 0.5), abs=1e-6)
    turned = fit_calibration(np.hstack([margins, -margins]), np.hstack([targets, 1 - targets]), "exclusive")
    assert turned.slope_K[0] == pytest.approx(1 / STEEPEST, rel=0.01)


def test_nothing_known_changes_nothing():
    found = fit_calibration(np.ones((2, 2)), np.full((2, 2), np.nan), "independent")
    assert (found.slope_K == uncalibrated(2).slope_K).all() and (found.offset_K == 0).all()
