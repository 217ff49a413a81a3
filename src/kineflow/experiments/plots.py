"""Pictures of searches and comparisons as SVG: box plots, parallel coordinates, bars, dots with intervals.

Colours are CSS classes of the pages, as in `kineflow.evaluation.plots`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from kineflow.evaluation.svg import number, svg, text

CHARACTER_PX = 7.4  # mean width of a letter at the plots' size
TICK_CHARACTER_PX = 6.3  # of a label of an axis
WIDTH_PX = 950.0
MAX_LABEL_CHARS = 34
ALIKE_SPAN = 0.06  # of an axis whose values are all the same: ticks of two decimals


@dataclass(frozen=True)
class Box:
    """One line of a box plot.

    Args:
        css_class: `c-...` of its colour.
        marked: drawn in bold, such as the winner.
        absent: what is said where there is no value.
    """

    name: str
    values: tuple[float, ...]
    css_class: str = "c-search"
    marked: bool = False
    absent: str = ""


@dataclass(frozen=True)
class Axis:
    """One axis of the parallel coordinates.

    Args:
        places: of each line, from 0 at the bottom to 1 at the top; nan where a line does not cross it.
        ticks: (place, label).
    """

    name: str
    places: tuple[float, ...]
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class IntervalRow:
    """A value with the interval that it lies in; nan where there is none."""

    name: str
    value: float
    low: float
    high: float
    dots: tuple[float, ...] = ()
    marked: bool = False


def box_plot(boxes: Sequence[Box], *, title: str, width_px: float = WIDTH_PX) -> str:
    """Quartiles as a box, median as a bar, the values as dots; whiskers reach the furthest value within 1.5 boxes."""
    known = [tuple(v for v in box.values if math.isfinite(v)) for box in boxes]
    every = [v for values in known for v in values]
    left, x, parts, bottom = _ruled([box.name for box in boxes], every, step=30, width_px=width_px)
    for i, (box, values) in enumerate(zip(boxes, known, strict=True)):
        y = 8 + 30 * (i + 0.5)
        parts.append(_label(box.name, left, y, bold=box.marked))
        if not values:
            parts.append(f'<text class="muted" x="{number(left + 6)}" y="{number(y + 4)}">{text(box.absent)}</text>')
            continue
        low, median, high = (float(v) for v in np.quantile(values, [0.25, 0.5, 0.75]))
        reach = 1.5 * (high - low)
        ends = min(v for v in values if v >= low - reach), max(v for v in values if v <= high + reach)
        tip = f"<title>{text(box.name)}: median {median:.3f}, quartiles {low:.3f} to {high:.3f}</title>"
        parts.append(f'<g class="{box.css_class}">{tip}')
        parts.append(f'<line class="whisker" x1="{x(ends[0])}" x2="{x(ends[1])}" y1="{number(y)}" y2="{number(y)}"/>')
        width = number(max(1.5, float(x(high)) - float(x(low))))
        parts.append(f'<rect class="box" x="{x(low)}" y="{number(y - 8)}" width="{width}" height="16" rx="3"/>')
        parts += [f'<circle class="dot" cx="{x(v)}" cy="{number(y)}" r="3.5"/>' for v in values]
        place = f'x="{number(float(x(median)) - 1.5)}" y="{number(y - 10)}" width="3" height="20" rx="1.5"'
        parts.append(f'<rect class="mean" {place}/></g>')
    return svg(width_px, bottom + 26, parts, title)


def interval_plot(rows: Sequence[IntervalRow], *, title: str, zero: bool = False) -> str:
    """A value as a bar in its interval, one line each, with the values that it is the mean of as dots.

    Args:
        zero: draw a line at 0, for differences.
    """
    values = [v for row in rows for v in (row.value, row.low, row.high, *row.dots) if math.isfinite(v)]
    values += [0.0] if zero else []
    left, x, parts, bottom = _ruled([row.name for row in rows], values, step=30, width_px=WIDTH_PX)
    if zero:
        parts.append(f'<line class="zero" x1="{x(0.0)}" x2="{x(0.0)}" y1="8" y2="{number(bottom)}"/>')
    for i, row in enumerate(rows):
        y = 8 + 30 * (i + 0.5)
        parts.append(_label(row.name, left, y, bold=row.marked))
        parts.append('<g class="c-search">')
        if math.isfinite(row.low) and math.isfinite(row.high):
            tip = f"<title>{text(row.name)}: {row.value:.3f}, {row.low:.3f} to {row.high:.3f}</title>"
            width = number(max(1.0, float(x(row.high)) - float(x(row.low))))
            place = f'x="{x(row.low)}" y="{number(y - 5)}" width="{width}" height="10" rx="5"'
            parts.append(f'<rect class="box" {place}>{tip}</rect>')
        parts += [f'<circle class="dot" cx="{x(v)}" cy="{number(y)}" r="3.5"/>' for v in row.dots if math.isfinite(v)]
        if math.isfinite(row.value):
            place = f'x="{number(float(x(row.value)) - 1.5)}" y="{number(y - 10)}" width="3" height="20" rx="1.5"'
            parts.append(f'<rect class="mean" {place}/>')
        parts.append("</g>")
    return svg(WIDTH_PX, bottom + 26, parts, title)


def parallel_plot(axes: Sequence[Axis], shades: Sequence[float], *, best: int, title: str) -> str:
    """One line for each trial over all axes; the better it scored, the stronger its colour.

    Args:
        shades: of each line, 0 for the worst score to 1 for the best; nan for trials that were not finished.
        best: the line that is drawn last and in bold.
    """
    left, right, top, bottom = 70.0, WIDTH_PX - 70, 40.0, 300.0
    xs = np.linspace(left, right, len(axes)) if len(axes) > 1 else np.array([left])
    parts = []
    order = sorted(range(len(shades)), key=lambda i: (i == best, shades[i] if math.isfinite(shades[i]) else -1.0))
    for i in order:
        crossed = [(px, axis.places[i]) for px, axis in zip(xs, axes, strict=True) if math.isfinite(axis.places[i])]
        points = " ".join(f"{number(px)},{number(bottom - place * (bottom - top))}" for px, place in crossed)
        if i == best:
            style = 'class="parallel best"'
        elif math.isfinite(shades[i]):
            style = f'class="parallel" stroke-opacity="{number(0.25 + 0.45 * shades[i])}"'
        else:
            style = 'class="parallel pruned"'
        parts.append(f'<polyline {style} points="{points}"/>')
    for px, axis in zip(xs, axes, strict=True):
        parts.append(f'<line class="axis" x1="{number(px)}" x2="{number(px)}" y1="{top}" y2="{bottom}"/>')
        parts.append(f'<text class="ink" x="{number(px)}" y="{top - 18}" text-anchor="middle">{text(axis.name)}</text>')
        for place, label in axis.ticks:
            y = bottom - place * (bottom - top)
            at_right = px == xs[-1]
            anchor, dx = ("start", 7) if at_right else ("end", -7)
            width = TICK_CHARACTER_PX * len(label) + 6  # of a plate, so that no line crosses the label
            plate_x = px + dx - 3 if at_right else px + dx - width + 3
            plate = f'x="{number(plate_x)}" y="{number(y - 8)}" width="{number(width)}" height="16" rx="4"'
            parts.append(f'<rect class="plate" {plate}/>')
            where = f'x="{number(px + dx)}" y="{number(y + 4)}" text-anchor="{anchor}"'
            parts.append(f'<text class="muted" {where}>{text(label)}</text>')
            parts.append(f'<circle class="tick" cx="{number(px)}" cy="{number(y)}" r="2"/>')
    return svg(WIDTH_PX, bottom + 16, parts, title)


def bar_plot(shares: Sequence[tuple[str, float]], *, title: str) -> str:
    """Shares of a whole as bars, one line each."""
    left = _label_px([name for name, _ in shares])
    right, step = WIDTH_PX - 60, 28
    largest = max((share for _, share in shares), default=0.0) or 1.0
    parts = []
    for i, (name, share) in enumerate(shares):
        y = 8 + step * (i + 0.5)
        width = (right - left) * share / largest
        parts.append(_label(name, left, y))
        parts.append(
            f'<rect class="c-search bar-of" x="{number(left)}" y="{number(y - 7)}" width="{number(max(1.0, width))}" '
            'height="14" rx="3"/>'
        )
        parts.append(f'<text class="muted" x="{number(left + width + 8)}" y="{number(y + 4)}">{share:.0%}</text>')
    return svg(WIDTH_PX, 16 + step * len(shares), parts, title)


def dot_cloud(
    places: Sequence[float],
    values: Sequence[float],
    ticks: Sequence[tuple[float, str]],
    title: str,
    *,
    labels: Sequence[str] = (),
) -> str:
    """A small picture of scores over one number, each a dot.

    Args:
        places: along the number, from 0 to 1.
        values: the scores.
        ticks: (place, label) along the number.
        labels: written beside the dots.
    """
    known = [v for v in values if math.isfinite(v)]
    low, high, step = _axis(known)
    left, right, top, bottom = 46.0, 440.0, 8.0, 168.0

    def x(place: float) -> str:
        return number(left + 8 + place * (right - left - 16))

    def y(value: float) -> float:
        return bottom - (value - low) / (high - low) * (bottom - top)

    parts = []
    for i in range(round((high - low) / step) + 1):
        value = low + i * step
        at = number(y(value))
        parts.append(f'<line class="rule" x1="{left}" x2="{right}" y1="{at}" y2="{at}"/>')
        where = f'x="{left - 7}" y="{number(y(value) + 4)}" text-anchor="end"'
        parts.append(f'<text class="muted" {where}>{_decimal(value, step)}</text>')
    for place, label in ticks:
        anchor = "start" if place < 0.05 else "end" if place > 0.95 else "middle"
        parts.append(
            f'<text class="muted" x="{x(place)}" y="{bottom + 17}" text-anchor="{anchor}">{text(label)}</text>'
        )
    for place, value, label in zip(places, values, labels or [""] * len(values), strict=True):
        if math.isfinite(value):
            parts.append(f'<circle class="c-search dot" cx="{x(place)}" cy="{number(y(value))}" r="4.5"/>')
            anchor, dx = ("end", -9) if place > 0.5 else ("start", 9)
            where = f'x="{number(float(x(place)) + dx)}" y="{number(y(value) + 4)}" text-anchor="{anchor}"'
            parts.append(f'<text class="muted halo" {where}>{text(label)}</text>' if label else "")
    return svg(450, bottom + 24, parts, title)


def _ruled(
    names: Sequence[str], values: Sequence[float], *, step: int, width_px: float
) -> tuple[float, Callable[[float], str], list[str], float]:
    """Where labels end, the place of a value, the ruled ground, and where it ends; of a plot with a line for each."""
    low, high, tick = _axis(values)
    left, right, top = _label_px(names), width_px - 24, 8
    bottom = top + step * len(names)

    def x(value: float) -> str:
        return number(left + (value - low) / (high - low) * (right - left))

    parts = []
    for i in range(round((high - low) / tick) + 1):
        value = low + i * tick
        parts.append(f'<line class="rule" x1="{x(value)}" x2="{x(value)}" y1="{top}" y2="{bottom}"/>')
        shown = _decimal(value, tick)
        parts.append(f'<text class="muted" x="{x(value)}" y="{bottom + 16}" text-anchor="middle">{shown}</text>')
    return left, x, parts, bottom


def _axis(values: Sequence[float]) -> tuple[float, float, float]:
    """Ends of an axis that shows all values, and the distance of its ticks: 1, 2 or 5 of a power of ten."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    span = max(high - low, 1e-3) if high > low else ALIKE_SPAN
    raw = span / 6
    power = 10.0 ** math.floor(math.log10(raw))
    tick = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)
    first, last = math.floor(low / tick - 0.05), math.ceil(high / tick + 0.05)
    if low >= 0:
        first = max(first, 0)
    if high <= 1:
        last = min(last, round(1 / tick))  # scores end at 1
    return first * tick, max(last, first + 1) * tick, tick


def _decimal(value: float, tick: float) -> str:
    """A tick's value with as many decimals as its neighbours differ in."""
    digits = max(0, -math.floor(math.log10(tick) + 1e-9))
    shown = f"{value:.{digits}f}"
    return shown.removeprefix("-") if float(shown) == 0 else shown


def _label_px(names: Sequence[str]) -> float:
    longest = max((min(len(name), MAX_LABEL_CHARS) for name in names), default=4)
    return 24 + CHARACTER_PX * longest


def _label(name: str, left: float, y: float, *, bold: bool = False) -> str:
    shown = name if len(name) <= MAX_LABEL_CHARS else name[: MAX_LABEL_CHARS - 1] + "…"
    weight = ' font-weight="650"' if bold else ""
    place = f'x="{number(left - 14)}" y="{number(y + 4)}" text-anchor="end"'
    return f'<text class="ink"{weight} {place}>{text(shown)}</text>'
