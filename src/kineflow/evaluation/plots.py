"""Pictures of the report as SVG text: no script, no network, the same input gives the same bytes.

Colours are CSS classes of the report (`c-rgb`, `c-flow` ..., `ink`, `muted`, `rule`), so that they follow its theme.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kineflow.data.probabilities import Floats
from kineflow.evaluation.metrics import Ints
from kineflow.evaluation.svg import number as _n
from kineflow.evaluation.svg import svg as _svg
from kineflow.evaluation.svg import text as _t

MAX_COLUMNS = 900  # of an ethogram: more than the picture can show
CHARACTER_PX = 6.6  # mean width of a letter at the plots' size


@dataclass(frozen=True)
class DotRow:
    """One line of the dot plot."""

    name: str
    css_class: str
    folds: tuple[float, ...]
    mean: float
    test: float | None
    released: bool


def dot_plot(rows: Sequence[DotRow], *, metric: str) -> str:
    """The score of every fold as a dot, the mean as a bar, the test score as a diamond; one line for each model."""
    values = [v for row in rows for v in (*row.folds, row.test) if v is not None and math.isfinite(v)]
    low = max(0.0, math.floor((min(values, default=0.0) - 0.02) * 10) / 10)
    high = 1.0 if max(values, default=1.0) <= 1.0 else max(values) * 1.05
    left, right, top, step = 110, 930, 8, 32
    bottom = top + step * len(rows)

    def x(value: float) -> str:
        return _n(left + (value - low) / (high - low) * (right - left))

    parts = []
    ticks = max(1, round((high - low) * 10))
    for i in range(ticks + 1):
        value = low + i * (high - low) / ticks
        parts.append(f'<line class="rule" x1="{x(value)}" x2="{x(value)}" y1="{top}" y2="{bottom}"/>')
        parts.append(f'<text class="muted" x="{x(value)}" y="{bottom + 16}" text-anchor="middle">{value:.1f}</text>')
    for i, row in enumerate(rows):
        y = top + step * (i + 0.5)
        weight = ' font-weight="650"' if row.released else ""
        parts.append(
            f'<text class="ink"{weight} x="{left - 14}" y="{_n(y + 4)}" text-anchor="end">{_t(row.name)}</text>'
        )
        for fold, value in enumerate(row.folds):
            if math.isfinite(value):
                tip = f"<title>{_t(row.name)}, fold {fold}: {value:.3f}</title>"
                parts.append(f'<circle class="{row.css_class} dot" cx="{x(value)}" cy="{_n(y)}" r="5">{tip}</circle>')
        if math.isfinite(row.mean):
            tip = f"<title>{_t(row.name)}, mean of the folds: {row.mean:.3f}</title>"
            place = f'x="{_n(float(x(row.mean)) - 1.5)}" y="{_n(y - 10)}" width="3" height="20" rx="1.5"'
            parts.append(f'<rect class="{row.css_class} mean" {place}>{tip}</rect>')
        if row.test is not None and math.isfinite(row.test):
            tip = f"<title>{_t(row.name)}, test: {row.test:.3f}</title>"
            place = (
                f'x="-4.6" y="-4.6" width="9.2" height="9.2" transform="translate({x(row.test)} {_n(y)}) rotate(45)"'
            )
            parts.append(f'<rect class="{row.css_class} test" {place}>{tip}</rect>')
    return _svg(950, bottom + 26, parts, f"{metric} of every fold, by model")


def confusion_plot(matrix_KK: Ints, classes: Sequence[str]) -> str:
    """Counts with the true class down and the predicted across; shaded by the share of the true class."""
    num = len(classes)
    cell = max(12.0, min(58.0, 470.0 / num))
    label = min(190.0, 14 + CHARACTER_PX * max(len(name) for name in classes))
    steep = label > cell + 6  # names across would run into each other
    top = label * 0.78 + 20 if steep else 34.0
    shares_KK = matrix_KK / np.maximum(matrix_KK.sum(axis=1, keepdims=True), 1)
    parts = []
    for i, true in enumerate(classes):
        y = top + i * cell
        parts.append(
            f'<text class="ink" x="{_n(label - 8)}" y="{_n(y + cell / 2 + 4)}" text-anchor="end">{_t(true)}</text>'
        )
        for j, predicted in enumerate(classes):
            count, share = int(matrix_KK[i, j]), float(shares_KK[i, j])
            x = label + j * cell
            kind = "hit" if i == j else "miss"
            tip = f"<title>{_t(true)} taken for {_t(predicted)}: {count} ({share:.0%})</title>"
            box = f'x="{_n(x + 1)}" y="{_n(y + 1)}" width="{_n(cell - 2)}" height="{_n(cell - 2)}" rx="3"'
            opacity = _n(0.04 + 0.88 * share)
            parts.append(f'<g><rect class="empty" {box}/><rect class="{kind}" {box} fill-opacity="{opacity}"/>{tip}')
            if count and cell >= 22:
                shade = "on" if share > 0.55 else "ink"
                place = f'x="{_n(x + cell / 2)}" y="{_n(y + cell / 2 + 4)}" text-anchor="middle"'
                parts.append(f'<text class="{shade}" {place}>{count}</text>')
            parts.append("</g>")
    for j, name in enumerate(classes):
        x = label + (j + 0.5) * cell
        if steep:
            place = f'transform="translate({_n(x + 3)} {_n(top - 8)}) rotate(-50)"'
        else:
            place = f'x="{_n(x)}" y="{_n(top - 8)}" text-anchor="middle"'
        parts.append(f'<text class="ink" {place}>{_t(name)}</text>')
    width = label + num * cell + (label * 0.68 if steep else 10)
    return _svg(width, top + num * cell + 6, parts, "confusion matrix")


def curve_plot(curves: pd.DataFrame, *, css_class: str, name: str, y_max: float) -> str:
    """Training and validation loss of one stream over the epochs: folds thin, their mean bold, training dashed.

    Of the training loss it is the part that labels teach, which is of the same kind as the validation loss; what a
    teacher or self-supervision adds is not, and may be below 0.

    Args:
        curves: fold, epoch, train_loss_labels, val_loss.
        y_max: top of the axis, the same for all streams.
    """
    left, right, top, bottom = 40, 330, 14, 170
    epochs = np.sort(curves["epoch"].unique())
    first, last = int(epochs[0]), max(int(epochs[-1]), int(epochs[0]) + 1)

    def points(rows: pd.DataFrame, column: str) -> str:
        known = rows[np.isfinite(rows[column])]
        xs = left + (known["epoch"] - first) / (last - first) * (right - left)
        ys = bottom - known[column].clip(upper=y_max) / y_max * (bottom - top)
        return " ".join(f"{_n(px)},{_n(py)}" for px, py in zip(xs, ys, strict=True))

    def drawn(rows: pd.DataFrame, column: str, style: str) -> str:
        placed = points(rows, column)
        if " " in placed or not placed:
            return f'<polyline class="{css_class} line{style}" points="{placed}"/>'
        x, y = placed.split(",")  # a line through one point would not be seen
        return f'<circle class="{css_class} line{style}" cx="{x}" cy="{y}" r="2.5"/>'

    parts = []
    for i in range(5):
        y = bottom - i / 4 * (bottom - top)
        parts.append(f'<line class="rule" x1="{left}" x2="{right}" y1="{_n(y)}" y2="{_n(y)}"/>')
        parts.append(f'<text class="muted" x="{left - 6}" y="{_n(y + 4)}" text-anchor="end">{y_max * i / 4:.1f}</text>')
    for fold, rows in curves.groupby("fold"):
        if fold >= 0:
            parts.append(drawn(rows, "val_loss", " thin"))
    mean = curves[curves["fold"] >= 0].groupby("epoch", as_index=False)[["train_loss_labels", "val_loss"]].mean()
    parts.append(drawn(mean, "train_loss_labels", " dashed"))
    parts.append(drawn(mean, "val_loss", ""))
    parts.append(f'<text class="muted" x="{left}" y="{bottom + 18}">{first}</text>')
    parts.append(f'<text class="muted" x="{right}" y="{bottom + 18}" text-anchor="end">epoch {last}</text>')
    return _svg(345, bottom + 26, parts, f"loss of {name} over the epochs")


def ethogram_plot(truth_TK: Floats, probs_TK: Floats, classes: Sequence[str], *, frames_per_sec: float) -> str:
    """Two lanes for each behaviour of one video: what was annotated, and under it what the model says.

    Args:
        truth_TK: 0, 1 or nan (nobody said: hatched).
        probs_TK: nan where the frame was not scored.
    """
    label = min(170.0, 20 + CHARACTER_PX * max(len(name) for name in classes))
    width, lane, gap = 880.0 - label, 10, 12
    truth_CK, probs_CK = _columns(truth_TK), _columns(probs_TK)
    scale = width / len(truth_CK)
    parts = [
        '<defs><pattern id="hatch" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        '<line class="stripe" x1="0" x2="0" y1="0" y2="5"/></pattern></defs>'
    ]
    for k, name in enumerate(classes):
        y = 6 + k * (2 * lane + gap)
        parts.append(f'<text class="ink" x="{_n(label - 10)}" y="{y + lane + 5}" text-anchor="end">{_t(name)}</text>')
        parts.append(f'<rect class="lane" x="{_n(label)}" y="{y}" width="{_n(width)}" height="{2 * lane + 2}" rx="2"/>')
        for css, top, mask_C in (
            ("hatched", y, ~np.isfinite(truth_CK[:, k])),
            ("truth", y, truth_CK[:, k] >= 0.5),
            ("said", y + lane + 2, probs_CK[:, k] >= 0.5),
        ):
            for start, stop in _runs(mask_C):
                box = f'x="{_n(label + start * scale)}" y="{top}" width="{_n((stop - start) * scale)}" height="{lane}"'
                parts.append(f'<rect class="{css}" {box}/>')
    bottom = 6 + len(classes) * (2 * lane + gap)
    seconds = len(truth_TK) / frames_per_sec
    for i in range(5):
        x, anchor = label + width * i / 4, ("start", "middle", "middle", "middle", "end")[i]
        text = f"{seconds * i / 4:.1f} s"
        parts.append(f'<text class="muted" x="{_n(x)}" y="{bottom + 8}" text-anchor="{anchor}">{text}</text>')
    return _svg(890, bottom + 14, parts, "annotated and predicted behaviours over time")


def loss_axis_max(curves: Mapping[str, pd.DataFrame]) -> float:
    """A top for the loss axis that one runaway fold does not stretch."""
    values = [rows[["train_loss_labels", "val_loss"]].to_numpy().ravel() for rows in curves.values()]
    known = np.concatenate(values) if values else np.ones(1)
    known = known[np.isfinite(known)]
    if not len(known):
        return 1.0
    return float(math.ceil(np.quantile(known, 0.98) * 1.05 * 5) / 5) or 1.0


def _columns(values_TK: Floats) -> Floats:
    """At most `MAX_COLUMNS` means of consecutive frames; nan where no frame of a column is known."""
    if len(values_TK) <= MAX_COLUMNS:
        return values_TK
    column_T = np.arange(len(values_TK)) * MAX_COLUMNS // len(values_TK)
    known_TK = np.isfinite(values_TK)
    sums_CK, counts_CK = (np.zeros((MAX_COLUMNS, values_TK.shape[1])) for _ in range(2))
    np.add.at(sums_CK, column_T, np.where(known_TK, values_TK, 0.0))
    np.add.at(counts_CK, column_T, known_TK)
    return np.where(counts_CK > 0, sums_CK / np.maximum(counts_CK, 1), np.nan)


def _runs(mask_C: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Stretches of True as (start, stop), stop exclusive."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask_C, [False]]).astype(np.int8)))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]
