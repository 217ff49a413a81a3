"""`kill -9` of the process group of `dvc repro` in the middle of `train`: it goes on, and ends where it would have."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
import torch

from kineflow.stages import paths
from tests.conftest import Built
from tests.graph import BIN, change_params, contents, copy_workspace, dvc, report_of, run_stages, stages_run

EPOCHS = 40  # so much work that two cores are worth the start of Ray
SCORES = ("models/rgb/oof.parquet", "models/rgb/test.parquet", "models/rgb/curves.csv", "metrics.json")


def start_dvc(root: Path) -> "subprocess.Popen[bytes]":
    """`dvc repro` up to the scores, in a process group of its own."""
    environ = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    environ.pop("KINEFLOW_HOME", None)
    command = [BIN / "dvc", "repro", "evaluate"]
    with (root.parent / "killed.log").open("wb") as log:
        return subprocess.Popen(command, cwd=root, env=environ, stdout=log, stderr=log, start_new_session=True)


def wait_for_epoch(root: Path, epoch: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, (root.parent / "killed.log").read_text()
        for path in (root / ".kineflow" / "progress").glob("*.json"):
            if json.loads(path.read_text())["epoch"] >= epoch:
                return
        time.sleep(0.02)
    pytest.fail("no epoch was finished in two minutes")


def of_workspace(root: Path) -> list[psutil.Process]:
    """Processes that work in the workspace."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(root) and process.pid != os.getpid():
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def test_a_killed_build_goes_on_and_ends_where_an_undisturbed_one_does(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = copy_workspace(built.root, tmp_path / "killed")
    change_params(root, streams__rgb__epochs=EPOCHS, distill__enabled=False)
    process = start_dvc(root)
    wait_for_epoch(root, 5, process)
    family = psutil.Process(process.pid).children(recursive=True)
    on_ray = any("raylet" in one.name() for one in family)
    assert on_ray or os.cpu_count() == 1
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == [] and of_workspace(root) == []
    checkpoints = list((root / ".kineflow" / "checkpoints").glob("*.pt"))
    epochs_done = [len(torch.load(path, weights_only=True)["curves"]) for path in checkpoints]
    assert epochs_done and 0 < max(epochs_done) < EPOCHS
    assert not (root / "models" / "rgb" / "summary.json").exists()

    output = dvc(root, "repro", "evaluate")
    assert stages_run(output)[:2] == ["sync", "train@rgb"]
    assert list((root / ".kineflow" / "checkpoints").glob("*")) == []
    assert of_workspace(root) == []

    undisturbed = copy_workspace(built.root, tmp_path / "undisturbed")
    change_params(undisturbed, streams__rgb__epochs=EPOCHS, distill__enabled=False)
    monkeypatch.chdir(undisturbed)
    monkeypatch.delenv("KINEFLOW_HOME", raising=False)
    monkeypatch.setattr("kineflow.training.folds.RAY_START_SEC", float("inf"))  # the other road: in this process
    run_stages(monkeypatch, ("train", "distill", "evaluate"))
    assert report_of(undisturbed, "train", "rgb")["skipped"] == 0
    weights = [str(path.relative_to(root)) for path in sorted((root / paths.MODELS / "rgb").rglob("*.pt"))]
    assert len(weights) == 3
    assert contents(root, *SCORES, *weights) == contents(undisturbed, *SCORES, *weights)
