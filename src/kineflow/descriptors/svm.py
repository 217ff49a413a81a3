"""Linear support vector machines, one for each class against the rest."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_ITERATIONS = 20_000

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class LinearMachines:
    """K machines on D features: weights_KD and bias_K, float32."""

    weights_KD: Floats
    bias_K: Floats

    def margins(self, features_ND: Floats) -> Floats:
        """How far each row is on the side of each class, (N, K)."""
        margins: Floats = features_ND @ self.weights_KD.T + self.bias_K
        return margins


def fit_machines(features_ND: Floats, targets_NK: NDArray[np.floating], *, c: float, balanced: bool) -> LinearMachines:
    """Fit a machine for each class.

    Args:
        targets_NK: 1 where a row shows the class, 0 where not, nan where nobody knows: left out for that class.
        c: weight of the squared hinge loss against that of the squared length.
        balanced: both sides of a class weigh alike, whatever their numbers.

    Returns:
        A class that all rows show, or none, has the margin 1 or -1 everywhere.
    """
    from sklearn.svm import LinearSVC

    weights_KD = np.zeros((targets_NK.shape[1], features_ND.shape[1]), np.float32)
    bias_K = np.full(targets_NK.shape[1], -1.0, np.float32)
    for k, target_N in enumerate(targets_NK.T):
        known_N = np.isfinite(target_N)
        shown_N = target_N[known_N] > 0.5
        if shown_N.all() or not shown_N.any():
            bias_K[k] = 1.0 if shown_N.any() else -1.0
            continue
        machine = LinearSVC(C=c, class_weight="balanced" if balanced else None, random_state=0, max_iter=MAX_ITERATIONS)
        machine.fit(features_ND[known_N], shown_N)
        weights_KD[k], bias_K[k] = machine.coef_[0], machine.intercept_[0]
    return LinearMachines(weights_KD, bias_K)
