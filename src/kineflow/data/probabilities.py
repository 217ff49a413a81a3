"""From logits to probabilities and back, for labels that exclude each other and for labels that do not."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Labels = Literal["exclusive", "independent"]  # exactly one of the classes, or any of them
Floats = NDArray[np.float64]
NEAR_CERTAIN = 1e-7  # probabilities are kept this far from 0 and 1, so that their logits are finite


def softmax(logits: NDArray[Any]) -> Floats:
    """Probabilities of exclusive classes, over the last axis."""
    values = np.asarray(logits, dtype=np.float64)
    exp = np.exp(values - values.max(axis=-1, keepdims=True))
    return np.asarray(exp / exp.sum(axis=-1, keepdims=True))


def sigmoid(logits: NDArray[Any]) -> Floats:
    """Probabilities of classes that may hold together."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * np.asarray(logits, dtype=np.float64))))


def to_probs(logits: NDArray[Any], labels: Labels) -> Floats:
    """`softmax` or `sigmoid`, float64 and of the same shape."""
    return softmax(logits) if labels == "exclusive" else sigmoid(logits)


def to_logits(probs: NDArray[Any], labels: Labels) -> NDArray[np.float32]:
    """Values that `to_probs` gives `probs` back of."""
    clipped = np.clip(probs, NEAR_CERTAIN, 1 - NEAR_CERTAIN)
    logits = np.log(clipped) if labels == "exclusive" else np.log(clipped) - np.log1p(-clipped)
    return np.asarray(logits, dtype=np.float32)


def mean_by_row(values_WK: Floats, row_W: NDArray[np.int64], *, num_rows: int) -> Floats:
    """The mean of the values of each row: of a frame that several windows hold.

    Args:
        values_WK: W values of frames in windows.
        row_W: in [0, num_rows): which frame each is of. Every frame needs at least one.
    """
    if len(values_WK) == num_rows and (row_W == np.arange(num_rows)).all():
        return values_WK
    sums_NK = np.zeros((num_rows, values_WK.shape[1]))
    np.add.at(sums_NK, row_W, values_WK)
    return np.asarray(sums_NK / np.bincount(row_W, minlength=num_rows)[:, None])
