"""Linear support vector machines, one for each class against the rest.

The squared hinge loss is a parabola for as long as the same rows fall short of their margin. So its lowest point is
solved for, the rows that fall short there are found anew, and so on until they stay the same: Newton's method on the
loss that liblinear walks down, to the exact minimum, in some ten steps (Keerthi and DeCoste 2005; Chapelle 2007).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_STEPS = 100  # seldom more than ten are taken
ENOUGH = 1e-10  # of the loss: what another step would gain at most, when it is the last
MAX_GRAM_ROWS = 6_000  # up to so many rows their products are kept, in 288 MB at most

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class LinearMachines:
    """K machines on D features: weights_KD and bias_K, float32."""

    weights_KD: Floats
    bias_K: Floats

    def margins(self, features_ND: Floats) -> Floats:
        """How far each row is on the side of each class, (N, K)."""
        margins: Floats = features_ND @ self.weights_KD.T + self.bias_K
        return margins


class Rows:
    """What machines are fitted to: features with a 1 for the bias at their end, E = D + 1, and their products.

    Args:
        features_ND: of a row each.
    """

    def __init__(self, features_ND: Floats) -> None:
        self.values_NE = np.ones((len(features_ND), features_ND.shape[1] + 1))
        self.values_NE[:, :-1] = features_ND
        self._gram_NN = self.values_NE @ self.values_NE.T if len(features_ND) <= MAX_GRAM_ROWS else None

    def solve(self, rows: NDArray[np.int64], sides: Doubles, costs_R: Doubles) -> Doubles:
        """The w of least |w|^2 / 2 + sum of costs (side - w row)^2, by whichever system of equations is solved sooner.

        Args:
            sides: of the rows, (R,), or (R, K) for K solutions.

        Returns:
            (E,), or (E, K).
        """
        from scipy.linalg import cho_factor, cho_solve

        values_RE = self.values_NE[rows]
        most = values_RE.shape[1] * (1 if self._gram_NN is None else 2)  # the products are most of the work
        if len(rows) <= most:
            system = values_RE @ values_RE.T if self._gram_NN is None else self._gram_NN[np.ix_(rows, rows)]
            system[np.diag_indices_from(system)] += 0.5 / costs_R
            factor = cho_factor(system, lower=True, overwrite_a=True, check_finite=False)
            return np.asarray(values_RE.T @ cho_solve(factor, sides, check_finite=False))
        values_RE *= np.sqrt(2 * costs_R)[:, None]
        system = values_RE.T @ values_RE
        system[np.diag_indices_from(system)] += 1.0
        factor = cho_factor(system, lower=True, overwrite_a=True, check_finite=False)
        wanted = (sides.T * np.sqrt(2 * costs_R)).T
        return np.asarray(cho_solve(factor, values_RE.T @ wanted, check_finite=False))


def fit_machines(
    rows: Rows,
    targets_NK: NDArray[np.floating],
    *,
    c: float,
    balanced: bool,
    start: LinearMachines | None = None,
) -> LinearMachines:
    """Fit a machine for each class.

    Args:
        targets_NK: 1 where a row shows the class, 0 where not, nan where nobody knows or is to know: left out for that
            class.
        c: weight of the squared hinge loss against that of half the squared length, bias included.
        balanced: both sides of a class weigh alike, whatever their numbers.
        start: machines that are near, say of nearly the same rows: to the same end sooner.

    Returns:
        A class that all rows show, or none, has the margin 1 or -1 everywhere.
    """
    known_NK = np.isfinite(targets_NK)
    shown_NK = known_NK & (np.nan_to_num(targets_NK) > 0.5)
    weights_KD = np.zeros((targets_NK.shape[1], rows.values_NE.shape[1] - 1), np.float32)
    bias_K = np.where(shown_NK.any(axis=0), 1.0, -1.0).astype(np.float32)
    told_apart = np.flatnonzero(shown_NK.any(axis=0) & (known_NK & ~shown_NK).any(axis=0))
    if not len(told_apart):
        return LinearMachines(weights_KD, bias_K)
    sides_NK = np.where(shown_NK, 1.0, -1.0) * known_NK
    first_KE = _ridge(rows, sides_NK[:, told_apart], c) if start is None else _joined(start)[told_apart]
    margins_NK = sides_NK[:, told_apart] * (rows.values_NE @ first_KE.T)
    for k, first_E, margins_N in zip(told_apart, first_KE, margins_NK.T, strict=True):
        costs_N = _costs(sides_NK[:, k], c, balanced=balanced)
        found_E = _fit(rows, sides_NK[:, k], costs_N, first_E, margins_N)
        weights_KD[k], bias_K[k] = found_E[:-1], found_E[-1]
    return LinearMachines(weights_KD, bias_K)


def _ridge(rows: Rows, sides_NK: Doubles, c: float) -> Doubles:
    """Least squares over all rows, (K, E): near enough to begin with, and solved once for all classes."""
    every_row = np.arange(len(sides_NK))
    found_KE: Doubles = rows.solve(every_row, sides_NK, np.full(len(sides_NK), c)).T
    return found_KE


def _joined(machines: LinearMachines) -> Doubles:
    return np.column_stack([machines.weights_KD, machines.bias_K]).astype(np.float64)


def _costs(sides_N: Doubles, c: float, *, balanced: bool) -> Doubles:
    """What each row's squared shortfall costs; nothing where its side is not known (0)."""
    if not balanced:
        return c * np.abs(sides_N)
    num_known = np.count_nonzero(sides_N)
    costs_N = np.zeros(len(sides_N))
    for side in (-1.0, 1.0):
        costs_N[sides_N == side] = c * num_known / (2 * np.count_nonzero(sides_N == side))
    return costs_N


def _fit(rows: Rows, sides_N: Doubles, costs_N: Doubles, machine_E: Doubles, margins_N: Doubles) -> Doubles:
    """The machine of least loss, (E,), beginning with one whose margins are known."""
    short_N = (margins_N < 1) & (costs_N > 0)
    for _ in range(MAX_STEPS):
        short = np.flatnonzero(short_N)
        wanted_E = rows.solve(short, sides_N[short], costs_N[short])
        wanted_margins_N = sides_N * (rows.values_NE @ wanted_E)
        gain, share = _step(machine_E, margins_N, wanted_E, wanted_margins_N, costs_N)
        loss = machine_E @ machine_E / 2 + costs_N @ np.square(np.maximum(0, 1 - margins_N))
        if gain <= ENOUGH * loss:
            return wanted_E
        machine_E = machine_E + share * (wanted_E - machine_E)
        margins_N = margins_N + share * (wanted_margins_N - margins_N)
        before_N, short_N = short_N, (margins_N < 1) & (costs_N > 0)
        if share == 1.0 and (short_N == before_N).all():
            return machine_E  # the parabola's own lowest point
    return machine_E


def _step(
    machine_E: Doubles, margins_N: Doubles, wanted_E: Doubles, wanted_margins_N: Doubles, costs_N: Doubles
) -> tuple[float, float]:
    """How fast the loss falls at the beginning of the way to `wanted_E`, and the share of it where it is lowest."""
    from scipy.optimize import brentq

    way_E, way_N = wanted_E - machine_E, wanted_margins_N - margins_N
    along, length2 = machine_E @ way_E, way_E @ way_E

    def slope(share: float) -> float:
        short_N = np.maximum(0, 1 - (margins_N + share * way_N))
        return float(along + share * length2 - 2 * (costs_N * short_N) @ way_N)

    fall = -slope(0.0)
    return fall, 1.0 if fall <= 0 or slope(1.0) <= 0 else float(brentq(slope, 0.0, 1.0))
