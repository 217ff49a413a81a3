"""A search over params on data that are up to date: the stages before training, then `kineflow search`.

    .venv/bin/python -m flows.tune [--space NAME] [--apply] [--wait]

Ends with the exit codes of `flows.retrain`. A search that was killed goes on where it is run again.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from flows import child
from flows.command import failed, run_as_command, value_of
from flows.dvc_graph import read_graph
from flows.dvc_stage import ERRORS
from flows.history import write_end_of_killed
from flows.retrain import run_stages
from flows.workspace import Claim, claimed
from kineflow.errors import KineflowError
from kineflow.params import load_params

BEFORE_TRAINING = frozenset({"validate_dataset", "embed"})
NUM_ROWS = 10  # of the artifact's table
ERROR = "kineflow: error: "


@task(name="search", task_run_name="search", persist_result=False, cache_policy=NO_CACHE)  # type: ignore[untyped-decorator]
def run_search(space: str | None = None, apply: bool = False, claim: Claim | None = None) -> Any:
    """Run `kineflow search`; the folder of its report."""
    program = str(Path(sys.executable).with_name("kineflow"))
    out = Path("reports/search") / (Path(space).stem if space else "params")
    command = [program, "search", "--out", str(out), *(["--space", space] if space else [])]
    code, lines = child.run([*command, *(["--apply"] if apply else [])], say=get_run_logger().info, claim=claim)
    if code == 0:
        return out
    said = [line.removeprefix(ERROR) for line in lines if line.startswith(ERROR)]
    return failed(ERRORS.get(code, KineflowError)(said[-1] if said else f"kineflow search ended with code {code}"))


@flow(name="tune", persist_result=False, validate_parameters=False)  # type: ignore[untyped-decorator]
def tune(space: str | None = None, apply: bool = False, wait: bool = True) -> Any:
    """Bring the data up to date and search params for one stream; the winner is kept as a patch.

    Args:
        space: a shipped space or a YAML file; by default the section `search` of params.yaml.
        apply: write the winner's values into params.yaml.
        wait: for another run in this workspace; else refuse.
    """
    log = get_run_logger()
    try:
        with claimed(wait=wait, say=log.info, flow_run=str(flow_run.id)) as claim:
            if claim.killed_flow_run is not None:
                write_end_of_killed(claim.killed_flow_run)
            load_params(Path("params.yaml"))
            graph = read_graph(Path())
            before = graph.with_ancestors(BEFORE_TRAINING & set(graph.order))
            run_stages(graph, claim, pull=False, wanted=before)
            folder: Path = value_of(run_search(space, apply, claim, return_state=True))
            _publish(folder)
    except KineflowError as err:
        return failed(err)
    return folder


def _publish(folder: Path) -> None:
    """The best trials and the report as artifacts of the flow run."""
    found = json.loads((folder / "trials.json").read_text())
    metric, keys = found["metric"], list(found["best"]["changes"])
    lines = [f"| trial | {metric} | {' | '.join(keys)} |", "|---" * (2 + len(keys)) + "|"]
    for row in found["trials"][:NUM_ROWS]:
        score = "-" if row[metric] is None else f"{row[metric]:.3f}"
        lines.append(f"| {row['trial']} | {score} | {' | '.join(str(row[key]) for key in keys)} |")
    create_markdown_artifact("\n".join(lines), key="search")
    report = (folder / "report.html").resolve()
    create_link_artifact(report.as_uri(), key="search-report", link_text="report.html")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the flow once and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m flows.tune", description=tune.description)
    parser.add_argument("--space", help="a shipped space, or a YAML file; default: that of params.yaml")
    parser.add_argument("--apply", action="store_true", help="write the winner's values into params.yaml")
    parser.add_argument("--wait", action="store_true", help="wait for another run in this workspace; else refuse")
    given = parser.parse_args(arguments)
    return run_as_command("tune", lambda: tune(given.space, given.apply, given.wait, return_state=True))


if __name__ == "__main__":
    sys.exit(main())
