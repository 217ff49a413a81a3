"""Videos in, registered model out: every stage of dvc.yaml in order, then promotion, then the push to S3.

    .venv/bin/python -m flows.retrain [--no-push] [--pull] [--wait]

Ends with 0, or 2 wrong params, 3 a gate failed, 4 storage or a service out of reach, 1 a bug.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run
from prefect.states import State

from flows.command import failed, run_as_command, value_of
from flows.dvc_graph import Graph, changed_stages, read_graph
from flows.dvc_stage import StageRun, run_dvc_stage
from flows.history import write_end_of_killed
from flows.promote import promote
from flows.remote import pull_from_s3, push_to_s3
from flows.results import markdown_table, print_table
from flows.workspace import Claim, claimed
from kineflow import services
from kineflow.errors import KineflowError
from kineflow.params import load_params
from kineflow.registry.registration_file import read_registration
from kineflow.stages import paths


@dataclass(frozen=True)
class Result:
    """What a run came to.

    Args:
        registration: as registration.json.
        reason: why the challenger became the champion or did not.
        champion: the version that is champion now, None where there is none.
    """

    registration: dict[str, Any]
    reason: str
    champion: str | None
    stages: tuple[StageRun, ...]


@task(name="stage", task_run_name="{stage}", persist_result=False, cache_policy=NO_CACHE)  # type: ignore[untyped-decorator]
def run_stage(
    stage: str, claim: Claim | None = None, force: bool = False, pull: bool = False, needed: bool = True
) -> Any:
    """Bring one DVC stage up to date; its lines go to the run's log as they appear."""
    log = get_run_logger()
    if not needed:
        log.info("unchanged")
        return StageRun(stage, "unchanged", 0.0)
    try:
        return run_dvc_stage(stage, say=log.info, claim=claim, force=force, pull=pull)
    except KineflowError as err:
        return failed(err)


@task(name="push", persist_result=False, cache_policy=NO_CACHE)  # type: ignore[untyped-decorator]
def push(claim: Claim | None = None) -> Any:
    """Push results and run cache to the S3 remote."""
    try:
        return push_to_s3(say=get_run_logger().info, claim=claim)
    except KineflowError as err:
        return failed(err)


@flow(name="retrain", persist_result=False, validate_parameters=False)  # type: ignore[untyped-decorator]
def retrain(push_results: bool = True, pull_results: bool = False, wait: bool = True) -> Any:
    """Build everything that changed, register it, decide about it, and push it.

    Args:
        push_results: to the S3 remote, run cache included.
        pull_results: fetch what others built first, and build only what nobody did.
        wait: for another run in this workspace; else refuse.
    """
    log = get_run_logger()
    try:
        with claimed(wait=wait, say=log.info, flow_run=str(flow_run.id)) as claim:
            if claim.killed_flow_run is not None:
                write_end_of_killed(claim.killed_flow_run)
            load_params(Path("params.yaml"))
            if push_results or pull_results:
                services.up()
            if pull_results:
                pull_from_s3(say=log.info, claim=claim)
            result = _build(claim, pull=pull_results)
            if push_results:
                value_of(push(claim, return_state=True))
    except KineflowError as err:
        return failed(err)
    return result


def _build(claim: Claim, *, pull: bool) -> Result:
    root = Path()
    graph = read_graph(root)
    runs = run_stages(graph, claim, pull=pull)
    if any(run.did != "unchanged" for run in runs if run.stage not in graph.always):
        _refuse_leftovers(graph, changed_stages(root))
    if "register" in graph.order:
        runs += _fill_lost_registry(claim)
    result = _promote(tuple(runs))
    _tag(claim)
    _publish(result)
    return result


def run_stages(graph: Graph, claim: Claim, *, pull: bool, wanted: frozenset[str] | None = None) -> list[StageRun]:
    """Every stage once, in order. The stages that always run go first; then DVC is asked once what else has to.

    Args:
        wanted: only these, which must hold what each of them depends on; None for all.
    """
    runs: list[StageRun] = []
    needed: frozenset[str] | None = None
    for stage in graph.order if wanted is None else [stage for stage in graph.order if stage in wanted]:
        if needed is None and stage not in graph.always:
            needed = graph.with_descendants(frozenset(changed_stages(Path())) - graph.always)
        has_to = stage in graph.always or (needed is not None and stage in needed)
        runs.append(value_of(run_stage(stage, claim, pull=pull, needed=has_to, return_state=True)))
    return runs


def _refuse_leftovers(graph: Graph, changed: dict[str, str]) -> None:
    """`--single-item` does not look upstream, so make sure that nothing was passed over."""
    left = {stage: why for stage, why in changed.items() if not (stage in graph.always and why == "always changed")}
    if left:
        listed = "; ".join(f"{stage} ({why})" for stage, why in left.items())
        raise KineflowError(f"after the run DVC would still run {listed}; was something edited meanwhile? Run again")


def _fill_lost_registry(claim: Claim) -> list[StageRun]:
    """Register again if the registry no longer holds what registration.json says."""
    from kineflow.registry.register import Registration, contains

    values = read_registration(paths.REGISTRATION)
    registration = Registration(values["name"], values["version"], values["digest"], values["run_id"])
    if contains(registration):
        return []
    get_run_logger().warning(
        "the registry no longer holds %s version %s; registering again", values["name"], values["version"]
    )
    return [value_of(run_stage("register", claim, force=True, return_state=True))]


def _tag(claim: Claim) -> None:
    """Lead from the registered version back to this run."""
    from kineflow.registry.register import Registration
    from kineflow.registry.trace import tag_run

    if paths.REGISTRATION.is_file() and claim.flow_run is not None:
        values = read_registration(paths.REGISTRATION)
        registration = Registration(values["name"], values["version"], values["digest"], values["run_id"])
        tag_run(registration, root=Path(), flow_run=claim.flow_run)


def _promote(runs: tuple[StageRun, ...]) -> Result:
    registration = read_registration(paths.REGISTRATION) if paths.REGISTRATION.is_file() else {}
    if not registration:
        return Result({}, "nothing is registered in this graph", None, runs)
    outcome = value_of(promote(return_state=True))
    return Result(registration, outcome.decision.reason, outcome.champion, runs)


def _publish(result: Result) -> None:
    """Metrics and report as artifacts of the flow run."""
    if paths.METRICS.is_file():
        create_markdown_artifact(markdown_table(json.loads(paths.METRICS.read_text())), key="metrics")
    if paths.REPORT_HTML.is_file():
        create_link_artifact(paths.REPORT_HTML.resolve().as_uri(), key="report", link_text="report.html")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the flow once, print its results, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m flows.retrain", description=retrain.description)
    parser.add_argument("--no-push", action="store_true", help="leave the S3 remote alone")
    parser.add_argument("--pull", action="store_true", help="fetch what others built first")
    parser.add_argument("--wait", action="store_true", help="wait for another run in this workspace; else refuse")
    given = parser.parse_args(arguments)
    began = time.time()

    def run() -> State[Any]:
        state = retrain(not given.no_push, given.pull, given.wait, return_state=True)
        print_table(None if not state.is_completed() else state.result(), began)
        return state

    return run_as_command("retrain", run)


if __name__ == "__main__":
    sys.exit(main())
