"""The table at the end of `kineflow compare`."""

from rich.console import Console
from rich.table import Table

from kineflow.evaluation.paired import Interval
from kineflow.evaluation.report import shown_score
from kineflow.experiments.pages import shown_duration
from kineflow.stages.compare import Outcome


def print_comparison(outcome: Outcome) -> None:
    """Print one line for each contender: score, difference from the first, cost; every metric is in the files."""
    table = Table(box=None, header_style="bold")
    table.add_column(outcome.metric, no_wrap=True)
    for name in ("score", "difference", "params", "MACs", "ms a clip", "a fold"):
        table.add_column(name, justify="right", no_wrap=True)
    for result in outcome.results:
        cost = result.cost
        table.add_row(
            result.contender.name,
            shown_score(result.scores[outcome.metric].value),
            _shown(result.differences[outcome.metric]) if result.differences else "-",
            f"{cost.num_params / 1e6:.2f} M",
            f"{cost.macs / 1e9:.2g} G",
            f"{cost.ms_per_clip:.3g}",
            shown_duration(result.train_sec),
        )
    console = Console()
    console.print(table)
    console.print(f"{outcome.folder / 'compare.html'}: the report", soft_wrap=True, highlight=False)


def _shown(found: Interval) -> str:
    return f"{found.value:+.3f} [{shown_score(found.low, 2)}, {shown_score(found.high, 2)}]"
