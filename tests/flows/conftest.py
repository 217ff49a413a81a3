"""A toy workspace with real DVC and trivial stages, to see how the flow treats any graph."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from kineflow import services
from kineflow.services import s3

REPOSITORY = Path(__file__).resolve().parents[2]
GRAPH = """
stages:
  sync:
    cmd: cp source.txt a.txt
    always_changed: true
    outs: [a.txt]
  gate:
    cmd: python -S stage.py gate
    deps: [a.txt, stage.py]
    outs: [gate.json]
  train:
    foreach: {rgb: {}, flow: {}}
    do:
      cmd: python -S stage.py train@${key} models/${key}
      deps: [gate.json, stage.py]
      outs: ["models/${key}"]
"""
# As a kineflow stage: prints, may wait for the file `go`, leaves its report, ends with its exit code.
STAGE = """
import json, pathlib, sys, time
name, out = sys.argv[1], pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else "gate.json")
if name == "train@rgb" and pathlib.Path("hold").exists():
    print("waiting", flush=True)
    while not pathlib.Path("go").exists():
        time.sleep(0.02)
text = pathlib.Path("a.txt").read_text()
bad = name == "gate" and text.startswith("bad")
report = {"exit_code": 3 if bad else 0, "error": "clip.mp4 has no frames; remove it" if bad else None}
path = pathlib.Path("reports/stages") / (name.replace("@", ".") + ".json")
path.parent.mkdir(parents=True, exist_ok=True)
path.write_text(json.dumps(report))
if bad:
    sys.exit(3)
print("done with", name, flush=True)
if out.suffix:
    out.write_text(text)
else:
    out.mkdir(parents=True)
    (out / "weights").write_text(text)
"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder is a toy workspace; what is started in it is ended after the test."""
    for name in (*s3.OWN_S3_VARIABLES, s3.PORT_VARIABLE, "KINEFLOW_HOME", "PREFECT_API_URL", "PREFECT_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    root = tmp_path / "toy"
    (root / ".dvc").mkdir(parents=True)
    for name in (".dvc/config", ".dvc/.gitignore", ".dvcignore", "params.yaml"):
        shutil.copyfile(REPOSITORY / name, root / name)
    (root / "flows").symlink_to(REPOSITORY / "flows")
    (root / "dvc.yaml").write_text(GRAPH)
    (root / "stage.py").write_text(STAGE)
    (root / "source.txt").write_text("good\n")
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    monkeypatch.chdir(root)
    yield root
    services.down()
    assert processes_in(root) == [], "something was left running"


@pytest.fixture(scope="session")
def prefect_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty Prefect database: its migrations take seconds, so they are made once and copied."""
    home = tmp_path_factory.mktemp("prefect")
    program = "import asyncio; from prefect.server.database import provide_database_interface as db; "
    program += "asyncio.run(db().create_db())"
    environment = os.environ | {"PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    environment.pop("PREFECT_API_URL", None)
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, cwd=home)
    return home / "prefect.db"


@pytest.fixture
def flow_toy(toy: Path, prefect_database: Path) -> Path:
    """A toy workspace whose Prefect database is there already."""
    target = toy / ".kineflow/prefect/prefect.db"
    target.parent.mkdir(parents=True)
    shutil.copyfile(prefect_database, target)
    return toy


def processes_in(root: Path) -> list[str]:
    """Command lines of the living processes that work in `root`, this one aside."""
    found = []
    for process in psutil.process_iter():
        try:
            alive = process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE
            if alive and Path(process.cwd()).is_relative_to(root):
                found.append(" ".join(process.cmdline()))
        except (psutil.Error, OSError):
            continue
    return found
