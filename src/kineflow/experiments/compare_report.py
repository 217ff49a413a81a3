"""The report of a comparison: one HTML file that needs nothing else."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kineflow.evaluation.metrics import LOWER_IS_BETTER
from kineflow.evaluation.paired import LEVEL, NUM_DRAWS
from kineflow.experiments import plots
from kineflow.experiments.comparison import Result
from kineflow.experiments.pages import render, shown_macs, shown_ms, write_page

FEW_GROUPS = 10  # below that many a bootstrap over groups is too sure of itself


@dataclass(frozen=True)
class CompareReport:
    """What the report shows.

    Args:
        metric: of the figures.
        results: the first is what the others are compared with.
    """

    data_name: str
    metric: str
    seeds: tuple[int, ...]
    num_folds: int
    num_groups: int
    results: tuple[Result, ...]

    @property
    def streams(self) -> list[str]:
        """What is looked at, in the order of the results."""
        return list(dict.fromkeys(result.contender.stream for result in self.results))

    @property
    def measured_on(self) -> list[str]:
        """What the times of a clip were measured on, for people."""
        costs = [result.cost for result in self.results]
        return list(dict.fromkeys(f"{cost.device}, {_of_threads(cost.threads)}, {cost.precision}" for cost in costs))

    @property
    def best(self) -> Result:
        """The result with the best score."""
        sign = -1.0 if self.metric in LOWER_IS_BETTER else 1.0
        return max(self.results, key=lambda result: sign * result.scores[self.metric].value)


def write_compare_report(path: Path, source: CompareReport) -> None:
    """Render the report to `path`, whole or not at all."""
    write_page(path, render("compare.html.j2", _context(source)))


def _context(source: CompareReport) -> dict[str, Any]:
    return {
        "source": source,
        "few_groups": FEW_GROUPS,
        "metrics": list(source.results[0].scores),
        "level": f"{LEVEL:.0%}",
        "num_draws": f"{NUM_DRAWS:,}",
        "score_plot": _scores(source),
        "difference_plot": _differences(source),
        "cost_plots": _costs(source),
        "verdicts": [(result.contender.name, verdict(source, result)) for result in source.results[1:]],
    }


def _of_threads(num_threads: int) -> str:
    return "1 thread" if num_threads == 1 else f"{num_threads} threads"


def verdict(source: CompareReport, result: Result) -> str:
    """What the interval of a difference allows to say."""
    first = source.results[0].contender.name
    difference = (result.differences or {})[source.metric]
    if not (math.isfinite(difference.low) and math.isfinite(difference.high)):
        return f"cannot be told from {first}: there is one group only"
    if difference.low <= 0 <= difference.high:
        return f"cannot be told from {first} on these groups"
    return f"is {'better' if (difference.value > 0) != (source.metric in LOWER_IS_BETTER) else 'worse'} than {first}"


def _scores(source: CompareReport) -> str:
    rows = []
    for result in source.results:
        interval, seeds = result.scores[source.metric].interval, result.by_seed[source.metric]
        dots = seeds if len(seeds) > 1 else ()
        marked = result is source.best
        rows.append(plots.IntervalRow(result.contender.name, interval.value, interval.low, interval.high, dots, marked))
    return plots.interval_plot(rows, title=f"{source.metric} with {LEVEL:.0%} intervals")


def _differences(source: CompareReport) -> str | None:
    rows = []
    for result in source.results[1:]:
        found = (result.differences or {})[source.metric]
        rows.append(plots.IntervalRow(result.contender.name, found.value, found.low, found.high))
    title = f"differences in {source.metric} from {source.results[0].contender.name}"
    return plots.interval_plot(rows, title=title, zero=True) if rows else None


def _costs(source: CompareReport) -> list[tuple[str, str]]:
    """Scores over multiply-accumulates, and over the time of a clip, both in their logarithm."""
    values = [result.scores[source.metric].value for result in source.results]
    macs = [float(result.cost.macs) for result in source.results]
    times = [result.cost.ms_per_clip for result in source.results]
    named = (("multiply-accumulates of a clip", macs, shown_macs), ("measured ms per clip", times, shown_ms))
    found = []
    for name, costs, shown in named:
        low, high = min(costs), max(costs)
        span = math.log(high / low) if low > 0 and high > low else 0.0
        places = [math.log(cost / low) / span if span else 0.5 for cost in costs]
        ticks = [(0.0, shown(low)), (1.0, shown(high))] if span else [(0.5, shown(low))]
        labels = [result.contender.name for result in source.results]
        found.append((name, plots.dot_cloud(places, values, ticks, f"{source.metric} by {name}", labels=labels)))
    return found
