"""Linear machines: margins by hand, unknown labels, classes without support."""

import numpy as np
import pytest
from scipy.optimize import minimize

from kineflow.descriptors.svm import fit_machines

RNG = np.random.default_rng(0)
UNKNOWN = np.nan


def test_against_a_general_minimiser_of_the_same_loss():
    features = RNG.normal(size=(30, 3)).astype(np.float32)
    shown = (features[:, 0] + 0.5 * RNG.normal(size=30) > 0).astype(float)
    machines = fit_machines(features, shown[:, None], c=1.0, balanced=False)
    sign = 2 * shown - 1

    def loss(w):  # liblinear shrinks the bias too
        return 0.5 * w @ w + np.square(np.maximum(0, 1 - sign * (features @ w[:3] + w[3]))).sum()

    wanted = minimize(loss, np.zeros(4)).x
    assert machines.weights_KD[0] == pytest.approx(wanted[:3], abs=2e-3)
    assert machines.bias_K[0] == pytest.approx(wanted[3], abs=2e-3)
    assert machines.margins(features)[:, 0] == pytest.approx(features @ wanted[:3] + wanted[3], abs=1e-2)


def test_unknown_labels_are_left_out_of_their_class_only():
    features = RNG.normal(size=(20, 4)).astype(np.float32)
    targets = (features[:, :2] > 0).astype(float)
    targets[15:, 1] = UNKNOWN
    found = fit_machines(features, targets, c=1.0, balanced=False)
    without = fit_machines(features[:15], targets[:15], c=1.0, balanced=False)
    whole = fit_machines(features, targets[:, :1], c=1.0, balanced=False)
    assert (found.weights_KD[1] == without.weights_KD[1]).all()
    assert (found.weights_KD[0] == whole.weights_KD[0]).all()


def test_a_class_that_all_or_none_show_has_one_margin():
    features = RNG.normal(size=(6, 2)).astype(np.float32)
    targets = np.stack([np.ones(6), np.zeros(6), np.full(6, UNKNOWN)], axis=1)
    assert fit_machines(features, targets, c=1.0, balanced=False).margins(features).tolist() == [[1, -1, -1]] * 6


def test_balanced_machines_find_the_rare_side():
    features = RNG.normal(size=(200, 1)).astype(np.float32)
    shown = features[:, 0] + RNG.normal(size=200) > 2
    plain, balanced = (
        fit_machines(features, shown[:, None].astype(float), c=0.1, balanced=balanced) for balanced in (False, True)
    )
    found = [(machines.margins(features)[shown, 0] > 0).mean() for machines in (plain, balanced)]
    assert found[1] > found[0]
