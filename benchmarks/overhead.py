"""What orchestration costs: a run of the tiny preset by `flows.retrain` against the seconds that its stages worked.

A stage's own seconds hold the start of the tools that it uses, so those are measured alone and counted as overhead
too: Great Expectations in each gate, MLflow in `register`, and Ray in every stage that would start it on enough work
(the tiny run has too little). So the sum is that of a large run, and an upper bound of that of this one.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from benchmarks.timing import Comparison, elapsed_sec

REPOSITORY = Path(__file__).resolve().parents[1]
WORKSPACE_FILES = ("dvc.yaml", "params", ".dvc/config", ".dvcignore", ".gitignore", "src", "flows", "pyproject.toml")
BAR_SEC = 90.0  # of the sample run
NUM_STARTS = 2
# How each tool starts, as the stages and flows use it, in a workspace of its own.
STARTS = {
    "python": "pass",
    "Prefect": """
import flows
from prefect import flow
from flows.api import prefect_api
with prefect_api():
    flow(lambda: None, name="empty")()
""",
    "Ray": "from kineflow.parallel.session import ray_session\nwith ray_session(): pass",
    "Great Expectations": "import great_expectations as gx\ngx.get_context(mode='ephemeral')",
    "MLflow": "from kineflow.registry import tracking\ntracking.client()",
}
# Stages whose own seconds hold a tool's start.
USERS = {
    "Ray": ("ingest", "extract_frames", "compute_flow", "train@rgb", "train@flow", "distill"),
    "Great Expectations": ("validate_raw", "validate_dataset"),
    "MLflow": ("register",),
}


def main() -> list[Comparison]:
    """Print what a run, and each tool's start, costs; some minutes."""
    with tempfile.TemporaryDirectory() as name:
        workspace = make_workspace(Path(name) / "workspace")
        processor_sec = children_processor_sec()
        run_sec = elapsed_sec(lambda: run_in(workspace, [sys.executable, "-m", "flows.retrain", "--no-push"]))
        processor_sec = children_processor_sec() - processor_sec
        work_sec = stage_seconds(workspace)
        starts = {tool: start_seconds(workspace, ["-c", program]) for tool, program in STARTS.items()}
        starts["DVC, an unchanged stage"] = start_seconds(workspace, ["-m", "dvc", "repro", "--single-item", "ingest"])
    total_sec = overhead_sec(run_sec, work_sec, {tool: min(seconds) for tool, seconds in starts.items()})
    bare = starts.pop("python")
    found = [
        Comparison("tiny run by flows.retrain / its stages' own work", (run_sec,), (sum(work_sec.values()),)),
        Comparison("processor seconds of that run, work and all / its time", (processor_sec,), (run_sec,)),
        *(Comparison(f"start of {tool} / of python", seconds, bare) for tool, seconds in starts.items()),
        Comparison(f"orchestration in all / the bar of {BAR_SEC:.0f} s", (total_sec,), (BAR_SEC,)),
    ]
    for comparison in found:
        print(comparison, flush=True)
    return found


def overhead_sec(run_sec: float, work_sec: Mapping[str, float], start_sec: Mapping[str, float]) -> float:
    """What of a run is not work: the time outside its stages, and the starts of tools inside them.

    Args:
        run_sec: of the whole run.
        work_sec: by stage, as its report says.
        start_sec: by tool, and of `python` alone, which is not the tools' own.
    """
    outside = run_sec - sum(work_sec.values())
    inside = sum(
        max(0.0, start_sec[tool] - start_sec["python"]) * len(set(stages) & set(work_sec))
        for tool, stages in USERS.items()
    )
    return outside + inside


def children_processor_sec() -> float:
    """Processor seconds of every process that was started here, directly or not, and has ended.

    Far below the time of a run on one core's worth of work, they say that the machine was busy with something else.
    """
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def stage_seconds(workspace: Path) -> dict[str, float]:
    """The seconds that each stage reports as its own, by the stage's name."""
    reports = [json.loads(path.read_text()) for path in sorted((workspace / "reports" / "stages").glob("*.json"))]
    return {report["stage"]: float(report["seconds"]) for report in reports}


def make_workspace(root: Path) -> Path:
    """A workspace with the preset `tiny`, as a fresh clone would be one."""
    for name in WORKSPACE_FILES:
        source, target = REPOSITORY / name, root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copyfile(source, target)
    shutil.copyfile(root / "params" / "tiny.yaml", root / "params.yaml")
    (root / "data").mkdir()
    (root / "data" / "assignments.csv").write_text("dataset,group,role\n")
    (root / "data" / "folds.csv").write_text("group,fold,role\n")
    git = ["git", "-c", "user.name=bench", "-c", "user.email=bench@example.org"]
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "workspace"]):
        run_in(root, [*git, *arguments])
    return root


def start_seconds(workspace: Path, arguments: list[str]) -> tuple[float, ...]:
    """Wall-clock seconds of python with these arguments, a few times."""
    return tuple(elapsed_sec(lambda: run_in(workspace, [sys.executable, *arguments])) for _ in range(NUM_STARTS))


def run_in(workspace: Path, command: list[str]) -> None:
    """Run a command in the workspace; its output is shown only if it fails.

    Raises:
        RuntimeError: it failed.
    """
    own = {"KINEFLOW_HOME", "PREFECT_API_URL", "PREFECT_HOME", "MLFLOW_TRACKING_URI", "RAY_ADDRESS"}
    environment = {name: value for name, value in os.environ.items() if name not in own}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
    done = subprocess.run(command, cwd=workspace, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)[:80]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    main()
