"""The table at the end of `kineflow compare`."""

from rich.console import Console
from rich.table import Table

from kineflow.evaluation.report import shown_score
from kineflow.experiments.pages import shown_duration
from kineflow.stages.compare import Outcome


def print_comparison(outcome: Outcome) -> None:
    """Print one line for each contender: scores, the difference from the first with its interval, cost."""
    first, metrics = outcome.results[0].contender.name, list(outcome.results[0].scores)
    table = Table(box=None, header_style="bold")
    names = [*metrics, f"{outcome.metric} - {first}", "params M", "MACs G", "ms a clip", "training a fold"]
    table.add_column("", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right", overflow="fold")
    for result in outcome.results:
        difference = "-"
        if result.differences:
            found = result.differences[outcome.metric]
            difference = f"{found.value:+.3f} [{shown_score(found.low)}, {shown_score(found.high)}]"
        cost = result.cost
        table.add_row(
            result.contender.name,
            *(shown_score(result.scores[metric].value) for metric in metrics),
            difference,
            f"{cost.num_params / 1e6:.2f}",
            f"{cost.macs / 1e9:.3g}",
            f"{cost.ms_per_clip:.3g}",
            shown_duration(result.train_sec),
        )
    console = Console()
    console.print(table)
    console.print(f"{outcome.folder / 'compare.html'}: the report", soft_wrap=True, highlight=False)
