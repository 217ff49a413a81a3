"""Linear machines: margins by hand, unknown labels, classes without support."""

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.svm import LinearSVC

from kineflow.descriptors import svm
from kineflow.descriptors.svm import LinearMachines, Rows, fit_machines

RNG = np.random.default_rng(0)
UNKNOWN = np.nan


def loss(w, rows, sign, costs):
    """With a bias that is shrunk too, and its gradient."""
    short = np.maximum(0, 1 - sign * (rows @ w))
    return w @ w / 2 + costs @ short**2, w - 2 * rows.T @ (costs * short * sign)


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize(("num_rows", "num_features"), [(30, 3), (25, 60)])
@pytest.mark.parametrize("keeps_products", [True, False])
def test_against_a_general_minimiser_of_the_same_loss(monkeypatch, num_rows, num_features, balanced, keeps_products):
    monkeypatch.setattr(svm, "MAX_GRAM_ROWS", num_rows if keeps_products else 0)
    features = RNG.normal(size=(num_rows, num_features)).astype(np.float32)
    shown = features[:, 0] + 0.5 * RNG.normal(size=num_rows) > 0.4
    machines = fit_machines(Rows(features), shown[:, None].astype(float), c=10.0, balanced=balanced)
    rows, sign = np.column_stack([features, np.ones(num_rows)]), np.where(shown, 1.0, -1.0)
    costs = 10.0 * (num_rows / (2 * np.where(shown, shown.sum(), (~shown).sum())) if balanced else np.ones(num_rows))
    first = np.zeros(num_features + 1)
    wanted = minimize(loss, first, (rows, sign, costs), jac=True, tol=1e-12, options={"gtol": 1e-9}).x
    assert np.append(machines.weights_KD[0], machines.bias_K) == pytest.approx(wanted, abs=1e-5)
    assert machines.margins(features)[:, 0] == pytest.approx(rows @ wanted, abs=1e-4)


def test_against_liblinear_on_many_rows_of_length_one():
    """As Fisher vectors are, with a rare class; liblinear walks until its gradient is that small."""
    features = RNG.normal(size=(700, 80)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    shown = features[:, 0] + 0.05 * RNG.normal(size=700) > 0.2
    found = fit_machines(Rows(features), shown[:, None].astype(float), c=10.0, balanced=True)
    machine = LinearSVC(C=10.0, class_weight="balanced", dual=False, tol=1e-10, max_iter=10_000).fit(features, shown)
    assert 10 < shown.sum() < 70
    assert found.weights_KD[0] == pytest.approx(machine.coef_[0], abs=1e-4)
    assert found.bias_K[0] == pytest.approx(machine.intercept_[0], abs=1e-4)


def test_wherever_it_starts_it_ends_at_the_same_place():
    features = RNG.normal(size=(60, 20)).astype(np.float32)
    targets = (features[:, :2] + RNG.normal(size=(60, 2)) > 0).astype(float)
    found = fit_machines(Rows(features), targets, c=10.0, balanced=True)
    far = LinearMachines(RNG.normal(0, 9, (2, 20)).astype(np.float32), np.float32([9, -9]))
    for start in (far, found):
        again = fit_machines(Rows(features), targets, c=10.0, balanced=True, start=start)
        assert again.weights_KD == pytest.approx(found.weights_KD, abs=1e-5)
        assert again.bias_K == pytest.approx(found.bias_K, abs=1e-5)


def test_unknown_labels_are_left_out_of_their_class_only():
    features = RNG.normal(size=(20, 4)).astype(np.float32)
    targets = (features[:, :2] > 0).astype(float)
    targets[15:, 1] = UNKNOWN
    found = fit_machines(Rows(features), targets, c=1.0, balanced=False)
    without = fit_machines(Rows(features[:15]), targets[:15], c=1.0, balanced=False)
    whole = fit_machines(Rows(features), targets[:, :1], c=1.0, balanced=False)
    assert found.weights_KD[1] == pytest.approx(without.weights_KD[1], abs=1e-5)
    assert found.weights_KD[0] == pytest.approx(whole.weights_KD[0], abs=1e-5)


def test_a_class_that_all_or_none_show_has_one_margin():
    features = RNG.normal(size=(6, 2)).astype(np.float32)
    targets = np.stack([np.ones(6), np.zeros(6), np.full(6, UNKNOWN)], axis=1)
    assert fit_machines(Rows(features), targets, c=1.0, balanced=False).margins(features).tolist() == [[1, -1, -1]] * 6


def test_balanced_machines_find_the_rare_side():
    features = RNG.normal(size=(200, 1)).astype(np.float32)
    shown = features[:, 0] + RNG.normal(size=200) > 2
    plain, balanced = (
        fit_machines(Rows(features), shown[:, None].astype(float), c=0.1, balanced=balanced)
        for balanced in (False, True)
    )
    found = [(machines.margins(features)[shown, 0] > 0).mean() for machines in (plain, balanced)]
    assert found[1] > found[0]
