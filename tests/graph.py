"""Workspaces in tests: built by DVC, copied, changed, and their stages run in this process."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from kineflow.params import STREAM_NAMES
from kineflow.stages import STAGES, stage

BIN = Path(sys.executable).parent
GIT = ("git", "-c", "user.name=test", "-c", "user.email=test@example.org")


def run_command(
    *command: str | Path, cwd: Path, check: bool = True, timeout_sec: float = 600, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Run a command of this environment (dvc, kineflow) or of the system, with one thread for each library."""
    environ = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"} | environment
    environ.pop("KINEFLOW_HOME", None)
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environ, capture_output=True, text=True, timeout=timeout_sec
    )
    if check and done.returncode:
        pytest.fail(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done


def dvc(root: Path, *arguments: str, **environment: str) -> str:
    """What `dvc ...` prints in the workspace `root`."""
    done = run_command("dvc", *arguments, cwd=root, **environment)
    return done.stdout + done.stderr


def stages_run(output: str) -> list[str]:
    """The stages whose command `dvc repro` ran, in order; those restored from the run cache are not among them."""
    return re.findall(r"^Running stage '([^']+)'", output, flags=re.MULTILINE)


def copy_workspace(source: Path, target: Path) -> Path:
    """A copy with the same modification times and hard links, DVC's cache and our store included; no registry."""
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)
    shutil.rmtree(target / ".kineflow" / "mlflow", ignore_errors=True)  # MLflow notes where its files are
    return target


def change_params(root: Path, **changes: Any) -> None:
    """Set values of params.yaml; a key is written with two underscores for each dot."""
    path = root / "params.yaml"
    values = yaml.safe_load(path.read_text())
    for key, value in changes.items():
        *parents, last = key.split("__")
        section = values
        for parent in parents:
            section = section[parent]
        section[last] = value
    path.write_text(yaml.safe_dump(values, sort_keys=False))


def run_stages(monkeypatch: pytest.MonkeyPatch, names: Sequence[str] = STAGES) -> None:
    """Run stages of the workspace in the current folder in this process, each as its command does."""
    for name in names:
        for stream in STREAM_NAMES if name == "train" else (None,):
            assert run_stage(monkeypatch, name, stream) == 0, report_of(Path(), name, stream)["error"]


def run_stage(monkeypatch: pytest.MonkeyPatch, name: str, stream: str | None = None) -> int:
    """Run one stage as its command does, but for dying with the parent, and give its exit code."""
    monkeypatch.setattr(stage, "die_with_parent", lambda: None)
    return stage.main(name, stream)


def report_of(root: Path, name: str, stream: str | None = None) -> dict[str, Any]:
    """The report that a stage left."""
    name = f"{name}.{stream}" if stream else name
    report: dict[str, Any] = json.loads((root / "reports" / "stages" / f"{name}.json").read_text())
    return report


def contents(root: Path, *outs: str) -> dict[str, str]:
    """SHA-256 of every file of the outs, by its path in the workspace."""
    files = [path for out in outs for path in ((root / out).rglob("*") if (root / out).is_dir() else [root / out])]
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.is_file()
    }
