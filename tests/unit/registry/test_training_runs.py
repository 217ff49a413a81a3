"""The trainings below a version's run in MLflow: curves, system metrics, each once however often they are written."""

import json
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from kineflow.registry import nested_runs, tracking
from kineflow.registry.lineage import Lineage
from kineflow.registry.nested_runs import PARENT_TAG
from kineflow.registry.register import Registration, register_bundle
from kineflow.registry.training_runs import write_training_runs

BEGAN_SEC = 1_790_000_000.0
NAN = float("nan")


def training(fold: int, losses: list[float]) -> dict[str, Any]:
    curves = [
        {"epoch": i, "lr": 0.1, "train_loss": loss, "val_loss": loss if i % 2 else NAN, "val_metric": 1 - loss}
        for i, loss in enumerate(losses)
    ]
    times = (BEGAN_SEC + 5.0, BEGAN_SEC + 10.0, BEGAN_SEC + 12.0)
    machine = [{"time": time, "cpu_utilization_percentage": 50.0 + i} for i, time in enumerate(times)]
    whole = {"fold": fold, "best_epoch": len(losses), "seconds": 12.0, "curves": curves, "machine": machine}
    return whole | {"pretraining": [{"epoch": epoch, "train_loss": 4.0 - epoch} for epoch in range(3)]}


@pytest.fixture
def models(registry: Path) -> list[Path]:
    histories = {"rgb": [training(0, [0.5, 0.25]), training(1, [0.5, 0.75]), training(-1, [0.5, 0.5])]}
    histories["fv"] = [{"fold": 0, "best_epoch": None, "seconds": 2.0, "curves": [], "machine": []}]
    for stream, history in histories.items():
        folder = registry / "models" / stream
        folder.mkdir(parents=True)
        summary = {"stream": stream, "model": "r3d_mini.avg", "recipe": {"lr": 0.1}, "folds": [], "num_params": 7}
        (folder / "summary.json").write_text(json.dumps(summary))
        (folder / "history.json").write_text(json.dumps(history))
    return [registry / "models" / stream for stream in histories]


@pytest.fixture
def registration(registry: Path, bundle: Path, lineage: Lineage) -> Registration:
    return register_bundle(bundle, model_name="mice", metrics={}, lineage=lineage)


def runs_below(client: MlflowClient) -> dict[str | None, dict[str, Any]]:
    found: dict[str | None, dict[str, Any]] = {}
    for run in client.search_runs([experiment.experiment_id for experiment in client.search_experiments()]):
        assert run.info.status == "FINISHED"
        siblings = found.setdefault(run.data.tags.get(PARENT_TAG), {})
        assert run.info.run_name not in siblings
        siblings[run.info.run_name] = run
    return found


def check(registration: Registration) -> None:
    client = tracking.client()
    below = runs_below(client)
    assert [run.info.run_id for run in below[None].values()] == [registration.run_id]
    streams = below[registration.run_id]
    assert set(streams) == {"rgb", "fv"}
    assert streams["rgb"].data.params["recipe.lr"] == "0.1" and streams["rgb"].data.params["num_params"] == "7"
    assert streams["rgb"].data.metrics["mean_best_val_loss"] == 0.5  # of folds, not of the release model
    assert streams["rgb"].data.metrics["train_sec"] == 36.0
    folds = below[streams["rgb"].info.run_id]
    assert set(folds) == {"fold 0", "fold 1", "release"}
    first = folds["fold 0"]
    assert (first.info.start_time, first.info.end_time) == (BEGAN_SEC * 1e3, (BEGAN_SEC + 12.0) * 1e3)
    history = client.get_metric_history(first.info.run_id, "train_loss")
    assert [(point.step, point.value) for point in history] == [(0, 0.5), (1, 0.25)]
    history = client.get_metric_history(first.info.run_id, "val_loss")
    assert [(point.step, point.value) for point in history] == [(1, 0.25)]
    history = client.get_metric_history(first.info.run_id, "pretrain_loss")
    assert [(point.step, point.value) for point in history] == [(0, 4.0), (1, 3.0), (2, 2.0)]  # more than epochs
    busy = client.get_metric_history(first.info.run_id, "system/cpu_utilization_percentage")
    assert [(point.timestamp / 1e3 - BEGAN_SEC, point.value) for point in busy] == [(5, 50), (10, 51), (12, 52)]
    assert set(below[streams["fv"].info.run_id]) == {"fold 0"}


def test_trainings_are_below_their_version_once(registration: Registration, models: list[Path]) -> None:
    write_training_runs(registration, models)
    check(registration)
    write_training_runs(registration, models)
    check(registration)


def test_what_was_cut_off_is_completed(
    registration: Registration, models: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    class CutOffError(Exception):
        pass

    calls = 0
    whole = nested_runs.NestedRuns._log

    def cut_off(self: Any, run_id: str, rows: Any) -> None:
        nonlocal calls
        calls += 1
        whole(self, run_id, rows[:2] if calls == 2 else rows)
        if calls == 2:  # within the second fold
            raise CutOffError

    with monkeypatch.context() as patched, pytest.raises(CutOffError):
        patched.setattr(nested_runs.NestedRuns, "_log", cut_off)
        write_training_runs(registration, models)
    write_training_runs(registration, models)
    check(registration)
