"""What is drawn is what was given, read from the pictures: places of parts against the labels of their axes."""

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from kineflow.evaluation.paired import GroupScores
from kineflow.experiments.compare_report import CompareReport, write_compare_report
from kineflow.experiments.comparison import Contender, Result
from kineflow.experiments.cost import Cost
from kineflow.experiments.plots import (
    Axis,
    Box,
    IntervalRow,
    bar_plot,
    box_plot,
    dot_cloud,
    interval_plot,
    parallel_plot,
)
from kineflow.experiments.search_report import SearchReport, write_search_report
from kineflow.experiments.space import make_space
from kineflow.experiments.trials import ranked
from tests.unit.experiments.samples import trial

ROUNDING = 0.02  # of a length, in pixels: two decimals, and of a width two of them


class Picture:
    """An SVG, and the scale of its ruled axis.

    Args:
        along: the axis, x or y.
    """

    def __init__(self, drawn: str, along: str = "x") -> None:
        self._root = ElementTree.fromstring(drawn)
        at = np.array([float(line.attrib[f"{along}1"]) for line in self.parts("rule")])
        anchor = {"x": "middle", "y": "end"}[along]
        texts = [part.text or "" for part in self.parts("muted") if part.get("text-anchor") == anchor]
        ticks = np.array([float(text) for text in texts[: len(at)]])
        self._slope, self._start = np.polyfit(at, ticks, 1) if len(at) else (1.0, 0.0)
        np.testing.assert_allclose(self._slope * at + self._start, ticks, atol=ROUNDING * abs(self._slope))
        self.atol = ROUNDING * abs(float(self._slope))  # of a value
        self.ends = (float(ticks[0]), float(ticks[-1])) if len(at) else (0.0, 1.0)

    def parts(self, css_class: str, below: ElementTree.Element | None = None) -> list[ElementTree.Element]:
        """The parts of a CSS class, in the order in which they are drawn."""
        return [
            part
            for part in (self._root if below is None else below).iter()
            if css_class in part.get("class", "").split()
        ]

    def value(self, place: str | float) -> float:
        """What the axis has at a place."""
        return float(self._slope * float(place) + self._start)

    def rows(self) -> dict[str, tuple[float, ElementTree.Element]]:
        """Of a plot with a line for each name: the height of its middle, and the group of its parts."""
        groups = [part for part in self._root.iter() if part.tag == "g"]
        middles = {label.text: float(label.attrib["y"]) - 4 for label in self.parts("ink")}
        found = {}
        for name, group in zip(middles, groups, strict=True):
            assert name is not None
            found[name] = (middles[name], group)
        return found


def middle(rect: ElementTree.Element, along: str) -> float:
    return float(rect.attrib[along]) + float(rect.attrib[{"x": "width", "y": "height"}[along]]) / 2


def span(picture: Picture, rect: ElementTree.Element) -> tuple[float, float]:
    left = float(rect.attrib["x"])
    return picture.value(left), picture.value(left + float(rect.attrib["width"]))


def drawn_in(page: Path, title: str) -> str:
    """The picture of this title in a report."""
    (found,) = [one for one in re.findall(r"<svg.*?</svg>", page.read_text(), re.DOTALL) if f'"{title}"' in one]
    return str(found)


def test_a_box_has_its_quartiles_its_median_and_whiskers_within_one_and_a_half_boxes() -> None:
    by_hand = (0.4, 0.05, 0.9, 0.2, 0.3, 0.68, 0.1, 0.25, 0.35)  # whiskers may reach -0.1 to 0.7
    drawn = np.random.default_rng(0).uniform(0.2, 0.9, 12)
    boxes = [Box("hand", by_hand), Box("drawn", (float("nan"), *drawn), marked=True, css_class="c-rgb")]
    picture = Picture(box_plot(boxes, title="t"))
    expected = {
        "hand": (by_hand, (0.2, 0.3, 0.4), (0.05, 0.68)),
        "drawn": (drawn, np.percentile(drawn, [25, 50, 75]), (drawn.min(), drawn.max())),
    }
    assert list(picture.rows()) == ["hand", "drawn"]
    for name, (y, group) in picture.rows().items():
        values, (low, median, high), ends = expected[name]
        (box,), (bar,), (whisker,) = (picture.parts(part, group) for part in ("box", "mean", "whisker"))
        dots = picture.parts("dot", group)
        assert span(picture, box) == pytest.approx((low, high), abs=picture.atol)
        assert picture.value(middle(bar, "x")) == pytest.approx(median, abs=picture.atol)
        reached = [picture.value(whisker.attrib[end]) for end in ("x1", "x2")]
        assert reached == pytest.approx(ends, abs=picture.atol)
        assert [picture.value(dot.attrib["cx"]) for dot in dots] == pytest.approx(list(values), abs=picture.atol)
        heights = [middle(box, "y"), middle(bar, "y"), *(float(whisker.attrib[end]) for end in ("y1", "y2"))]
        assert {*heights, *(float(dot.attrib["cy"]) for dot in dots)} == {y}
    assert [part.text for part in picture.parts("ink") if part.get("font-weight")] == ["drawn"]
    assert len(picture.parts("c-rgb")) == 1


def test_a_box_of_nothing_says_why() -> None:
    drawn = box_plot([Box("rear", (float("nan"),), absent="never predicted"), Box("rest", (0.5,))], title="t")
    assert drawn.count('class="box"') == 1 and drawn.count(">never predicted<") == 1


def test_an_interval_ends_where_it_was_said_to() -> None:
    rows = [
        IntervalRow("first", 0.25, -0.125, 0.5, dots=(0.2, float("nan"), 0.3)),
        IntervalRow("alone", -0.3, float("nan"), float("nan")),
        IntervalRow("unknown", float("nan"), 0.1, 0.2, marked=True),
    ]
    picture = Picture(interval_plot(rows, title="t", zero=True))
    (zero,) = picture.parts("zero")
    assert picture.value(zero.attrib["x1"]) == pytest.approx(0.0, abs=picture.atol)
    for row, (name, (y, group)) in zip(rows, picture.rows().items(), strict=True):
        assert row.name == name
        spans = [span(picture, box) for box in picture.parts("box", group)]
        means = [picture.value(middle(bar, "x")) for bar in picture.parts("mean", group)]
        dots = [picture.value(dot.attrib["cx"]) for dot in picture.parts("dot", group)]
        assert spans == [
            pytest.approx(ends, abs=picture.atol) for ends in [(row.low, row.high)] if np.isfinite(ends).all()
        ]
        assert means == pytest.approx([v for v in [row.value] if np.isfinite(v)], abs=picture.atol)
        assert dots == pytest.approx([v for v in row.dots if np.isfinite(v)], abs=picture.atol)
        assert {middle(rect, "y") for css in ("box", "mean") for rect in picture.parts(css, group)} == {y}
    assert not Picture(interval_plot(rows, title="t")).parts("zero")


@pytest.mark.parametrize(
    "values", [(0.5,), (1.0, 1.0), (0.0, 1.0), (-0.2, 0.31), (0.9871, 0.9872), (3.1, 1234.5), (-7.0, -0.02)]
)
def test_every_value_lies_on_its_axis(values: tuple[float, ...]) -> None:
    for drawn, along in (
        (interval_plot([IntervalRow("a", v, v, v, dots=(v,)) for v in values], title="t"), "x"),
        (box_plot([Box("a", values)], title="t"), "x"),
        (dot_cloud([0.5] * len(values), values, [], "t"), "y"),
    ):
        picture = Picture(drawn, along)
        dots = [picture.value(dot.attrib[f"c{along}"]) for dot in picture.parts("dot")]
        assert dots == pytest.approx(values, abs=picture.atol)
        assert min(picture.ends) <= min(values) and max(values) <= max(picture.ends)
        if min(values) >= 0 and max(values) <= 1:
            assert min(picture.ends) >= 0 and max(picture.ends) <= 1


def test_bars_are_as_long_as_their_shares() -> None:
    picture = Picture(bar_plot([("lr", 0.6), ("frames", 0.3), ("dropout", 0.0)], title="t"))
    widths = [float(bar.attrib["width"]) for bar in picture.parts("bar-of")]
    assert widths[1] == pytest.approx(widths[0] / 2, abs=ROUNDING) and widths[2] == 1  # so that it is seen
    assert [part.text for part in picture.parts("muted")] == ["60%", "30%", "0%"]


def result(
    name: str, by_seed: tuple[float, ...], draws: np.ndarray, macs: int, ms: float, first: Result | None = None
) -> Result:
    scores = GroupScores(float(np.mean(by_seed)), draws)
    metric = "video_top1_acc"
    differences = {metric: scores.minus(first.scores[metric])} if first else None
    cost = Cost(230_000, macs, (3, 8, 24, 24), ms, "cpu", 1, "fp32")
    of_metric = {metric: by_seed}
    return Result(Contender(name, "rgb", {}), name, {metric: scores}, of_metric, of_metric, differences, cost, 90.0)


def test_a_comparison_draws_its_intervals_differences_and_costs(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    first = result("a", (0.55, 0.65), 0.6 + rng.normal(0, 0.05, 500), 10_000_000, 8.0)
    draws = {"a": first.scores["video_top1_acc"].draws_D}
    draws |= {name: draws["a"] + shift + rng.normal(0, 0.02, 500) for name, shift in (("b", 0.1), ("c", -0.05))}
    others = [
        result("b", (0.7, 0.72), draws["b"], 1_000_000_000, 2.0, first),
        result("c", (0.5, 0.58), draws["c"], 100_000_000, 4.0, first),
    ]
    page = tmp_path / "compare.html"
    write_compare_report(page, CompareReport("data", "video_top1_acc", (0, 1), 4, 5, (first, *others)))

    picture = Picture(drawn_in(page, "video_top1_acc with 95% intervals"))
    assert [part.text for part in picture.parts("ink") if part.get("font-weight")] == ["b"]
    for one, (name, (_, group)) in zip((first, *others), picture.rows().items(), strict=True):
        (box,), dots = picture.parts("box", group), picture.parts("dot", group)
        assert span(picture, box) == pytest.approx(np.percentile(draws[name], [2.5, 97.5]), abs=picture.atol)
        seeds = one.by_seed["video_top1_acc"]
        assert [picture.value(dot.attrib["cx"]) for dot in dots] == pytest.approx(seeds, abs=picture.atol)

    picture = Picture(drawn_in(page, "differences in video_top1_acc from a"))
    assert list(picture.rows()) == ["b", "c"]
    for (name, (_, group)), difference in zip(picture.rows().items(), (0.11, -0.06), strict=True):
        (box,), (bar,) = picture.parts("box", group), picture.parts("mean", group)
        assert picture.value(middle(bar, "x")) == pytest.approx(difference, abs=picture.atol)
        ends = np.percentile(draws[name] - draws["a"], [2.5, 97.5])
        assert span(picture, box) == pytest.approx(ends, abs=picture.atol)

    for cost, ends, places in (
        ("multiply-accumulates of a clip", ["10.0 M", "1.0 G"], [0.0, 1.0, 0.5]),  # in their logarithm
        ("measured ms per clip", ["2.0", "8.0"], [1.0, 0.0, 0.5]),
    ):
        picture = Picture(drawn_in(page, f"video_top1_acc by {cost}"), along="y")
        dots = picture.parts("dot")
        scores = [picture.value(dot.attrib["cy"]) for dot in dots]
        assert scores == pytest.approx([0.6, 0.71, 0.54], abs=picture.atol)
        assert [label.text for label in picture.parts("halo")] == ["a", "b", "c"]
        ticks = [part for part in picture.parts("muted") if part.text in ends]
        left, right = (float(tick.attrib["x"]) for tick in ticks)
        assert [tick.text for tick in ticks] == ends
        assert [float(d.attrib["cx"]) for d in dots] == pytest.approx(
            [left + place * (right - left) for place in places], abs=ROUNDING
        )


def places_of(line: ElementTree.Element, xs: list[float], *, top: float, bottom: float) -> dict[int, float]:
    """Where a line crosses each axis, from 0 at the bottom to 1 at the top."""
    points = [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
    return {xs.index(x): (bottom - y) / (bottom - top) for x, y in points}


def test_a_line_crosses_each_axis_at_its_value() -> None:
    nan = float("nan")
    axes = [Axis("lr", (0.25, 1.0, nan), ((0.0, "low"), (1.0, "high"))), Axis("loss", (0.5, 0.0, 0.75), ((0.5, "m"),))]
    picture = Picture(parallel_plot(axes, [0.4, 1.0, nan], best=1, title="t"))
    rulers = picture.parts("axis")
    xs, (top, bottom) = [float(ruler.attrib["x1"]) for ruler in rulers], (40.0, 300.0)
    assert {(float(ruler.attrib["y1"]), float(ruler.attrib["y2"])) for ruler in rulers} == {(top, bottom)}
    lines = picture.parts("parallel")
    found = [places_of(line, xs, top=top, bottom=bottom) for line in lines]
    assert found == [pytest.approx(wanted) for wanted in ({1: 0.75}, {0: 0.25, 1: 0.5}, {0: 1.0, 1: 0.0})]
    assert [line.attrib["class"] for line in lines] == ["parallel pruned", "parallel", "parallel best"]
    assert [line.get("stroke-opacity") for line in lines] == [None, "0.43", None]  # 0.25 + 0.45 of the share
    ticks = {(float(tick.attrib["cx"]), float(tick.attrib["cy"])) for tick in picture.parts("tick")}
    assert ticks == {(xs[0], bottom), (xs[0], top), (xs[1], (top + bottom) / 2)}
    labels = {part.text: (float(part.attrib["x"]), float(part.attrib["y"]) - 4) for part in picture.parts("muted")}
    assert labels == {"low": (xs[0] - 7, bottom), "high": (xs[0] - 7, top), "m": (xs[1] + 7, (top + bottom) / 2)}
    assert [(part.text, float(part.attrib["x"])) for part in picture.parts("ink")] == [("lr", xs[0]), ("loss", xs[1])]


@pytest.mark.parametrize("metric", ["video_top1_acc", "video_log_loss"])
def test_a_search_draws_its_trials_over_their_values(tmp_path: Path, metric: str) -> None:
    space = make_space(
        {"lr": {"loguniform": [1e-4, 1e-1]}, "frames": {"int_range": [4, 12, 4]}, "clip": {"choice": [None, 1, 2]}}
    )
    of_trial = [
        ({"lr": 1e-4, "frames": 4, "clip": 2}, [0.2, 0.4], [0.0, 0.0, 1.0, 0.0]),
        ({"lr": 1e-3, "frames": 12, "clip": None}, [0.8, 1.0], [1 / 3, 1.0, 0.0, 1.0]),
        ({"lr": 1e-1, "frames": 8, "clip": 1}, [0.4, 0.5], [1.0, 0.5, 0.5, 0.25]),
    ]
    trials = [trial(values, metric=metric, **changes) for changes, values, _ in of_trial]
    page = tmp_path / "report.html"
    source = SearchReport("t", "kineflow search", "data", "rgb", "random", space, metric, 2, tuple(ranked(trials)))
    write_search_report(page, source)

    picture = Picture(drawn_in(page, f"every trial, over its values and {metric}"))
    xs = [float(ruler.attrib["x1"]) for ruler in picture.parts("axis")]
    found = [list(places_of(line, xs, top=40.0, bottom=300.0).values()) for line in picture.parts("parallel")]
    by_score = [of_trial[i][2] for i in ((0, 2, 1) if metric == "video_top1_acc" else (1, 2, 0))]  # the best is last
    assert found == [pytest.approx(places, abs=1e-4) for places in by_score]
    shades = [line.get("stroke-opacity") for line in picture.parts("parallel")]
    middle_shade = 0.25 + 0.45 * (0.25 if metric == "video_top1_acc" else 0.75)
    assert shades == ["0.25", f"{middle_shade:.2f}".rstrip("0"), None]
    labels = {
        (round(float(part.attrib["y"])) - 4, part.text)
        for part in picture.parts("muted")
        if part.get("text-anchor") == "start"
    }
    assert labels == {(300, "0.300"), (170, "0.600"), (40, "0.900")}

    picture = Picture(drawn_in(page, f"{metric} over the folds, by trial"))
    folds = {
        name: [picture.value(dot.attrib["cx"]) for dot in picture.parts("dot", group)]
        for name, (_, group) in picture.rows().items()
    }
    assert folds == {one.key: pytest.approx(one.values, abs=picture.atol) for one in trials}
    picture = Picture(drawn_in(page, f"{metric} by lr"), along="y")
    dots = sorted((float(dot.attrib["cx"]), picture.value(dot.attrib["cy"])) for dot in picture.parts("dot"))
    xs, scores = zip(*dots, strict=True)
    assert scores == pytest.approx([0.3, 0.9, 0.45], abs=picture.atol)
    assert xs[1] == pytest.approx(xs[0] + (xs[2] - xs[0]) / 3, abs=ROUNDING)  # of 1e-4 to 1e-1
