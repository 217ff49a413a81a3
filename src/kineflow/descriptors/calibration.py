"""From margins to probabilities, fitted on margins of clips that the machines were not trained on.

Exclusive classes share one slope, the inverse temperature of a softmax (Guo 2017); independent ones have a slope and an
offset each (Platt 1999). Targets are smoothed as Platt does, so that classes that are told apart without a mistake do
not get infinite slopes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kineflow.data.probabilities import Labels, sigmoid, softmax, to_probs

STEEPEST = 100.0

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """Logits are slope_K * margins + offset_K, float32."""

    slope_K: NDArray[np.float32]
    offset_K: NDArray[np.float32]

    def probs(self, margins_NK: NDArray[np.floating], labels: Labels) -> Floats:
        """Probabilities of the classes, (N, K)."""
        return to_probs(margins_NK * self.slope_K + self.offset_K, labels)


def uncalibrated(num_classes: int) -> Calibration:
    """Margins as logits, where there is nothing to calibrate on."""
    return Calibration(np.ones(num_classes, np.float32), np.zeros(num_classes, np.float32))


def fit_calibration(margins_NK: NDArray[np.floating], targets_NK: NDArray[np.floating], labels: Labels) -> Calibration:
    """The calibration of least log loss.

    Args:
        targets_NK: 1, 0, or nan where nobody knows.
    """
    margins, targets = np.asarray(margins_NK, np.float64), np.asarray(targets_NK, np.float64)
    num_classes = margins.shape[1]
    if labels == "exclusive":
        known_N = np.isfinite(targets).all(axis=1)
        slope = _softmax_slope(margins[known_N], targets[known_N]) if known_N.any() else 1.0
        return Calibration(np.full(num_classes, slope, np.float32), np.zeros(num_classes, np.float32))
    pairs = [_platt(margins[np.isfinite(of_k), k], of_k[np.isfinite(of_k)]) for k, of_k in enumerate(targets.T)]
    slope_K, offset_K = np.array(pairs, np.float32).T
    return Calibration(slope_K, offset_K)


def _softmax_slope(margins_NK: Floats, targets_NK: Floats) -> float:
    from scipy.optimize import minimize_scalar

    num_rows, num_classes = targets_NK.shape
    rest = 1.0 / (num_rows + 2)
    smoothed_NK = targets_NK * (1 - rest) + rest / num_classes

    def loss(log_slope: float) -> float:
        probs_NK = softmax(np.exp(log_slope) * margins_NK)
        return float(-(smoothed_NK * np.log(np.maximum(probs_NK, 1e-300))).sum(axis=1).mean())

    found = minimize_scalar(loss, bounds=(-np.log(STEEPEST), np.log(STEEPEST)), method="bounded")
    return float(np.exp(found.x))


def _platt(margins_N: Floats, target_N: Floats) -> tuple[float, float]:
    """Slope, never negative, and offset."""
    from scipy.optimize import minimize

    num_shown, num_not = int((target_N > 0.5).sum()), int((target_N <= 0.5).sum())
    if not num_shown + num_not:
        return 1.0, 0.0
    smoothed_N = np.where(target_N > 0.5, (num_shown + 1) / (num_shown + 2), 1 / (num_not + 2))

    def loss(parameters: Floats) -> tuple[float, Floats]:
        logits_N = parameters[0] * margins_N + parameters[1]
        errors_N = sigmoid(logits_N) - smoothed_N
        value = np.logaddexp(0.0, logits_N) - smoothed_N * logits_N
        return float(value.mean()), np.array([(errors_N * margins_N).mean(), errors_N.mean()])

    found = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[(0.0, STEEPEST), (None, None)])
    return float(found.x[0]), float(found.x[1])
