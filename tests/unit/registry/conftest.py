import os
import shutil
from pathlib import Path

import pytest

from kineflow.registry import tracking
from kineflow.registry.lineage import Lineage


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite registry without models: MLflow takes seconds to make its tables, so it is made once and copied."""
    home = tmp_path_factory.mktemp("registry")
    before = {name: os.environ.pop(name, None) for name in ("KINEFLOW_HOME", "MLFLOW_TRACKING_URI")}
    os.environ["KINEFLOW_HOME"] = str(home)
    try:
        tracking.client()
    finally:
        del os.environ["KINEFLOW_HOME"]
        os.environ.update({name: value for name, value in before.items() if value is not None})
    return home / "mlflow" / "mlflow.db"


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_registry: Path) -> Path:
    """The current folder is a workspace with an empty registry."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("KINEFLOW_HOME", raising=False)
    target = tmp_path / ".kineflow" / "mlflow" / "mlflow.db"
    target.parent.mkdir(parents=True)
    shutil.copyfile(empty_registry, target)
    return tmp_path


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "made" / "bundle"
    (folder / "rgb").mkdir(parents=True)
    (folder / "bundle.json").write_text('{"classes": ["a", "b"]}\n')
    (folder / "rgb" / "weights.pt").write_bytes(bytes(range(256)))
    return folder


@pytest.fixture
def lineage() -> Lineage:
    return Lineage(
        code_commit="0" * 40,
        code_dirty=False,
        lock_digest="1" * 64,
        sources_sha256="2" * 64,
        params={"seed": 0, "train.batch_size": 12},
        params_digest="3" * 64,
        folds_digest="4" * 64,
        versions={"torch": "2.13.0"},
        release_stream="rgb",
        training_groups=("g1", "g2"),
        training_videos=("5" * 64,),
    )


def metrics(score: float, *, baseline: float = 0.5) -> dict[str, object]:
    def spread(value: float) -> dict[str, object]:
        return {"video_top1_acc": {"mean": value, "std": 0.0, "folds": [value, value]}}

    return {
        "task": "clip",
        "classes": ["a", "b"],
        "cv": {"rgb": spread(score)},
        "test": {"rgb": {"video_top1_acc": score}},
        "baselines": {"majority": spread(baseline)},
    }


@pytest.fixture
def metrics_of():
    return metrics
