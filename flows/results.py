"""The small table at the end of a run."""

import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kineflow.stages import paths

if TYPE_CHECKING:
    from flows.retrain import Result


def print_table(result: "Result | None", began: float) -> None:
    """Print scores, registry version, decision and report; after a failure, scores of this run if it got that far."""
    from rich.console import Console
    from rich.table import Table

    from kineflow.evaluation.metrics import metric_names
    from kineflow.evaluation.summary import fusion_sentence, summary_rows

    console = Console()
    fresh = result is not None or (paths.METRICS.is_file() and paths.METRICS.stat().st_mtime >= began)
    if fresh and paths.METRICS.is_file():
        metrics = json.loads(paths.METRICS.read_text())
        headline = metric_names(metrics["task"], metrics["labels"])[0]
        table = Table("", "cross-validated", "test", title=headline, title_justify="left")
        drawn_line = False
        for row in summary_rows(metrics):
            if row.is_baseline and not drawn_line:
                table.add_section()
                drawn_line = True
            table.add_row(*row.cells)
        console.print(table)
        if metrics["fusion"]:
            console.print(fusion_sentence(metrics), soft_wrap=True, highlight=False, markup=False)
    if result is None:
        return
    for label, value in _facts(result, time.time() - began).items():
        console.print(f"{label:<9} {value}", soft_wrap=True, highlight=False, markup=False)


def markdown_table(metrics: Mapping[str, Any]) -> str:
    """The same scores in Markdown."""
    from kineflow.evaluation.metrics import metric_names
    from kineflow.evaluation.summary import summary_rows

    lines = [f"| {metric_names(metrics['task'], metrics['labels'])[0]} | cross-validated | test |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {' | '.join(row.cells)} |" for row in summary_rows(metrics))])


def _facts(result: "Result", seconds: float) -> dict[str, str]:
    facts: dict[str, str] = {}
    found = result.registration
    if found:
        aliases = [found["alias"], *(["champion"] if result.champion == found["version"] else [])]
        facts["model"] = f"{found['name']} version {found['version']} ({', '.join(aliases)})"
        facts["champion"] = f"version {result.champion}" if result.champion else "none yet"
        facts["decision"] = result.reason
    if paths.REPORT_HTML.is_file():
        facts["report"] = str(paths.REPORT_HTML.resolve())
    ran = sum(run.did != "unchanged" for run in result.stages)
    facts["time"] = f"{seconds:.0f} s; {ran} of {len(result.stages)} stages had work to do"
    return facts
