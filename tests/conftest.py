"""What every test may use: the real clips beside the repository, and a workspace of its own."""

import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.graph import GIT, dvc

REPOSITORY = Path(__file__).resolve().parents[1]
# A shell that starts the tests in the background has them, and all that they start, ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
SHARED_DATA = REPOSITORY.parent / "shared" / "data"
WORKSPACE_FILES = ("dvc.yaml", "params.yaml", "params", ".dvc/config", ".dvcignore", ".gitignore", "src", "flows")

for name, value in {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}.items():
    os.environ.setdefault(name, value)


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real clips and odd files, kept beside the repository."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the folder ../shared/data with real clips is not beside the repository")
    return SHARED_DATA


def make_workspace(root: Path, preset: str) -> Path:
    """A workspace as a fresh clone is one: the graph, a preset as params.yaml, DVC and git, no data."""
    root.mkdir(parents=True, exist_ok=True)
    for name in WORKSPACE_FILES:
        source, target = REPOSITORY / name, root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.is_file():
            shutil.copyfile(source, target)
    shutil.copyfile(REPOSITORY / "params" / f"{preset}.yaml", root / "params.yaml")
    (root / "data").mkdir()
    (root / "data" / "assignments.csv").write_text("dataset,group,role\n")
    (root / "data" / "folds.csv").write_text("group,fold,role\n")
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "workspace"]):
        subprocess.run([*GIT, *arguments], cwd=root, check=True)
    return root


@dataclass(frozen=True)
class Built:
    """A workspace whose whole graph `dvc repro` made, for tests to copy."""

    root: Path
    output: str
    seconds: float


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The preset `tiny`, built once in a session by `dvc repro` alone and committed; copy it before changing it."""
    root = make_workspace(tmp_path_factory.mktemp("built") / "workspace", "tiny")
    started = time.monotonic()
    output = dvc(root, "repro")
    seconds = time.monotonic() - started
    for arguments in (["add", "-A"], ["commit", "-qm", "build"]):
        subprocess.run([*GIT, *arguments], cwd=root, check=True)
    return Built(root, output, seconds)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with the preset `tiny`, and the current folder in it."""
    root = make_workspace(tmp_path / "workspace", "tiny")
    monkeypatch.chdir(root)
    monkeypatch.delenv("KINEFLOW_HOME", raising=False)
    return root
