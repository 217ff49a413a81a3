"""Pictures are well-formed, say the right numbers, and escape names."""

import math
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pandas as pd
import pytest

from kineflow.evaluation import plots


def parsed(svg):
    return ElementTree.fromstring(svg)


def test_confusion_has_every_cell_and_escapes_names():
    svg = plots.confusion_plot(np.array([[3, 1], [0, 4]]), ["a<b", "c"])
    titles = [element.text for element in parsed(svg).iter("title")]
    assert titles == [
        "a<b taken for a<b: 3 (75%)",
        "a<b taken for c: 1 (25%)",
        "c taken for a<b: 0 (0%)",
        "c taken for c: 4 (100%)",
    ]
    assert "a&lt;b" in svg and "rotate" not in svg


def test_many_long_names_are_turned_and_cells_shrink():
    names = [f"a long name {i}" for i in range(60)]
    svg = plots.confusion_plot(np.eye(60, dtype=np.int64), names)
    assert "rotate(-50)" in svg and parsed(svg) is not None


def test_dots_lie_where_their_values_are():
    row = plots.DotRow("rgb", "c-rgb", (0.5, 1.0, math.nan), 0.75, 0.5, released=True)
    root = parsed(plots.dot_plot([row], metric="m"))
    dots = [float(dot.get("cx")) for dot in root.iter("circle")]
    assert len(dots) == 2  # nan has no place
    ticks = {e.text: float(e.get("x")) for e in root.iter("text") if re.fullmatch(r"\d\.\d", e.text or "")}
    assert dots == pytest.approx([ticks["0.5"], ticks["1.0"]], abs=0.02)


def test_curves_draw_folds_and_means_but_no_release():
    rows = [(fold, epoch, 1.0, 2.0 if fold >= 0 else math.nan) for fold in (-1, 0, 1) for epoch in (1, 2, 3)]
    curves = pd.DataFrame(rows, columns=["fold", "epoch", "train_loss_labels", "val_loss"])
    lines = list(parsed(plots.curve_plot(curves, css_class="c-rgb", name="rgb", y_max=4.0)).iter("polyline"))
    assert len(lines) == 4  # two folds, mean of training, mean of validation
    ys = {point.split(",")[1] for point in lines[-1].get("points").split()}
    assert ys == {"92"}  # half of the axis from 170 up to 14
    assert plots.loss_axis_max({"rgb": curves}) >= 2.0


def test_an_epoch_is_enough_for_a_curve():
    curves = pd.DataFrame([(0, 1, 1.0, 1.0)], columns=["fold", "epoch", "train_loss_labels", "val_loss"])
    assert "nan" not in plots.curve_plot(curves, css_class="c-rgb", name="rgb", y_max=2.0)
    assert plots.loss_axis_max({}) > 0


def test_runs_of_an_ethogram():
    mask = np.array([True, True, False, True])
    assert plots._runs(mask) == [(0, 2), (3, 4)]
    assert plots._runs(np.zeros(3, dtype=bool)) == []
    truth = np.array([[1.0], [np.nan], [0.0], [0.0]])
    root = parsed(plots.ethogram_plot(truth, np.array([[0.9], [0.1], [0.1], [np.nan]]), ["a"], frames_per_sec=2.0))
    kinds = [rect.get("class") for rect in root.iter("rect")]
    assert kinds == ["lane", "hatched", "truth", "said"]
    assert [text.text for text in root.iter("text")][-1] == "2.0 s"


def test_long_videos_are_reduced_to_columns():
    values = np.repeat([[0.0], [1.0]], 5000, axis=0)
    values[:3000] = np.nan
    found = plots._columns(values)
    assert len(found) == plots.MAX_COLUMNS
    assert np.isnan(found[0, 0]) and found[plots.MAX_COLUMNS // 2 - 1, 0] == 0.0 and found[-1, 0] == 1.0
