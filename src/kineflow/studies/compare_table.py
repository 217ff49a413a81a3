"""The table at the end of `kineflow compare`."""

import math

from rich.console import Console
from rich.table import Table

from kineflow.evaluation.paired import Interval
from kineflow.evaluation.report import shown_score
from kineflow.experiments.pages import shown_duration, shown_macs, shown_ms
from kineflow.studies.compare import Outcome


def print_comparison(outcome: Outcome) -> None:
    """Print what each contender scores, and what it costs; both fit into 80 columns. Every metric is in the files."""
    scores = _table("score", outcome.metric, "difference")
    costs = _table("cost", "parameters", "MACs", "ms a clip", "training a fold")
    for result in outcome.results:
        name, cost = result.contender.name, result.cost
        difference = _shown(result.differences[outcome.metric], sign="+") if result.differences else "-"
        scores.add_row(name, _shown(result.scores[outcome.metric].interval), difference)
        size, macs, milliseconds = f"{cost.num_params / 1e6:.2f} M", shown_macs(cost.macs), shown_ms(cost.ms_per_clip)
        costs.add_row(name, size, macs, milliseconds, shown_duration(result.train_sec))
    console = Console()
    console.print(scores, "", costs, "", sep="\n")
    console.print(f"{outcome.folder / 'compare.html'}: the report", soft_wrap=True, highlight=False)


def _table(*names: str) -> Table:
    """An empty one, whose first column is of names that may be long."""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(names[0], overflow="fold")
    for name in names[1:]:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _shown(found: Interval, *, sign: str = "") -> str:
    """A value with its interval, such as 0.700 [0.61, 0.80]."""
    value = format(found.value, f"{sign}.3f") if math.isfinite(found.value) else "-"
    return f"{value} [{shown_score(found.low, 2)}, {shown_score(found.high, 2)}]"
