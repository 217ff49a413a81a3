"""The report of a search: one HTML file that needs nothing else, with the same bytes for the same input."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kineflow.evaluation.metrics import LOWER_IS_BETTER
from kineflow.experiments import plots
from kineflow.experiments.importance import MIN_TRIALS, importances
from kineflow.experiments.pages import render, shown_duration, shown_value, write_page
from kineflow.experiments.space import Choice, Interval, Range, Space
from kineflow.experiments.trials import Trial

NUM_ROWS = 30  # of the table; trials.csv holds all
NUM_BOXES = 20  # trials in the box plot of folds, as in the fish thesis's figures 5.3 and 5.4
MAX_VALUES = 8  # distinct values of a key up to which each gets a box of its own


@dataclass(frozen=True)
class SearchReport:
    """What the report shows.

    Args:
        title: what space it is.
        command: that searches it again, and with `--apply` applies the winner.
        trials: the best first.
    """

    title: str
    command: str
    data_name: str
    stream: str
    algorithm: str
    space: Space
    metric: str
    num_folds: int
    trials: tuple[Trial, ...]

    @property
    def done(self) -> list[Trial]:
        """The trials that saw every fold, the best first."""
        return [trial for trial in self.trials if trial.state == "done"]


def write_search_report(path: Path, source: SearchReport) -> None:
    """Render the report to `path`, whole or not at all."""
    write_page(path, render("search.html.j2", _context(source)))


def _context(source: SearchReport) -> dict[str, Any]:
    best = source.trials[0]
    shares = importances(source.space, source.trials)
    return {
        "source": source,
        "best": best,
        "facts": _facts(source),
        "keys": [(key, key.rpartition(".")[2]) for key in source.space],
        "rows": source.trials[:NUM_ROWS],
        "num_hidden": max(0, len(source.trials) - NUM_ROWS),
        "failed": [trial for trial in source.trials if trial.state == "failed"],
        "parallel_plot": _parallel(source),
        "importance_plot": plots.bar_plot(shares, title="share of the variance that each key explains")
        if shares
        else None,
        "min_trials": MIN_TRIALS,
        "fold_plot": _fold_boxes(source),
        "key_plots": [(key, _of_key(source, key, tried)) for key, tried in source.space.items()],
        "class_plots": _of_classes(source),
        "num_boxes": NUM_BOXES,
        "std_of": _std,
    }


def _facts(source: SearchReport) -> list[tuple[str, str]]:
    count = {state: sum(t.state == state for t in source.trials) for state in ("done", "pruned", "failed")}
    seconds = sum(trial.seconds for trial in source.trials)
    return [
        ("trials", f"{len(source.trials):,}"),
        ("saw every fold", f"{count['done']:,}"),
        ("pruned", f"{count['pruned']:,}"),
        ("folds trained", f"{sum(len(trial.folds) for trial in source.trials):,}"),
        ("of training", shown_duration(seconds)),
        ("failed", f"{count['failed']:,}"),
    ]


def _std(trial: Trial) -> float:
    """Population standard deviation over the folds, as in metrics.json."""
    known = [value for value in trial.values if math.isfinite(value)]
    return math.sqrt(sum((value - trial.mean) ** 2 for value in known) / len(known)) if known else math.nan


def _place(tried: Range, value: Any) -> float:
    """Where a value lies in its range, from 0 to 1."""
    if isinstance(tried, Choice):
        return tried.values.index(value) / (len(tried.values) - 1) if len(tried.values) > 1 else 0.5
    if getattr(tried, "is_log", False):
        return math.log(value / tried.low) / math.log(tried.high / tried.low)
    return float((value - tried.low) / (tried.high - tried.low))


def _ticks(tried: Range) -> list[tuple[float, str]]:
    if isinstance(tried, Choice):
        return [(_place(tried, value), shown_value(value)) for value in tried.values]
    middle = math.sqrt(tried.low * tried.high) if getattr(tried, "is_log", False) else (tried.low + tried.high) / 2
    return [(_place(tried, value), f"{value:.3g}") for value in (tried.low, middle, tried.high)]


def _parallel(source: SearchReport) -> str | None:
    trials = [trial for trial in source.trials if trial.state != "failed" and math.isfinite(trial.mean)]
    done = [trial.mean for trial in trials if trial.state == "done"]
    if len(trials) < 2:
        return None
    low, high = min(t.mean for t in trials), max(t.mean for t in trials)
    axes = [
        plots.Axis(key.rpartition(".")[2], tuple(_place(tried, t.changes[key]) for t in trials), tuple(_ticks(tried)))
        for key, tried in source.space.items()
    ]
    if high > low:
        ticks = tuple((share, f"{low + share * (high - low):.3f}") for share in (0.0, 0.5, 1.0))
        axes.append(plots.Axis(source.metric, tuple((t.mean - low) / (high - low) for t in trials), ticks))
    else:  # all alike, so that there is no other value to name
        axes.append(plots.Axis(source.metric, (0.5,) * len(trials), ((0.5, f"{low:.3f}"),)))
    worst, best = min(done), max(done)
    shades = [(t.mean - worst) / ((best - worst) or 1.0) if t.state == "done" else math.nan for t in trials]
    if source.metric in LOWER_IS_BETTER:
        shades = [1.0 - shade for shade in shades]
    return plots.parallel_plot(axes, shades, best=0, title=f"every trial, over its values and {source.metric}")


def _fold_boxes(source: SearchReport) -> str:
    boxes = [
        plots.Box(trial.key, tuple(trial.values), marked=trial is source.trials[0]) for trial in source.done[:NUM_BOXES]
    ]
    return plots.box_plot(boxes, title=f"{source.metric} over the folds, by trial")


def _of_key(source: SearchReport, key: str, tried: Range) -> str:
    """The scores of the finished trials by the value of one key: boxes of few values, else a dot for each trial."""
    title = f"{source.metric} by {key}"
    values = sorted({trial.changes[key] for trial in source.done}, key=lambda value: _place(tried, value))
    if len(values) > MAX_VALUES or isinstance(tried, Interval):
        places = [_place(tried, trial.changes[key]) for trial in source.done]
        return plots.dot_cloud(places, [trial.mean for trial in source.done], _ticks(tried), title)
    boxes = [
        plots.Box(shown_value(value), tuple(trial.mean for trial in source.done if trial.changes[key] == value))
        for value in values
    ]
    return plots.box_plot(boxes, title=title, width_px=450)


def _of_classes(source: SearchReport) -> list[tuple[str, str]]:
    """Precision, recall and F1 of each class, over the finished trials."""
    names = [row.name for row in source.done[0].folds[0].classes]
    found = []
    for measure in ("precision", "recall", "f1"):
        absent = "never predicted" if measure == "precision" else "no clip of it"
        boxes = [
            plots.Box(name, tuple(_mean_of_class(trial, k, measure) for trial in source.done), absent=absent)
            for k, name in enumerate(names)
        ]
        shown = "F1" if measure == "f1" else measure
        found.append((shown, plots.box_plot(boxes, title=f"{shown} of each class, over the trials")))
    return found


def _mean_of_class(trial: Trial, k: int, measure: str) -> float:
    """Over the folds that have a value."""
    known = [value for fold in trial.folds if math.isfinite(value := getattr(fold.classes[k], measure))]
    return sum(known) / len(known) if known else math.nan
