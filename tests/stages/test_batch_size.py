"""`train.batch_size: auto`: chosen once for all folds in a process of its own, and remembered whatever happens."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from kineflow.data.dataset import Batch
from kineflow.data.decoded_cache import DecodedCache
from kineflow.data.preprocessing import Preprocessing
from kineflow.errors import ParamsError
from kineflow.models.classifier import Prediction
from kineflow.params import Params, parse_params
from kineflow.stages import paths
from kineflow.stages.batch_size import with_found_batch_size
from kineflow.stages.cross_validation import CrossValidation
from kineflow.stages.fold_jobs import with_batch_size
from kineflow.stages.search import check_search, with_space
from kineflow.stages.stage import StageReport
from kineflow.store import home
from kineflow.training.folds import Resources
from kineflow.training.job import Job, ObjectiveConfig
from kineflow.training.objectives import Loss, Objective
from kineflow.training.run_storage import RunStorage
from tests.conftest import Built
from tests.graph import change_params, contents, copy_workspace, report_of, run_stage
from tests.jobs import make_job

RESOURCES = Resources(threads=1, workers=1, max_failures=0, cache_bytes=0)


@dataclass(frozen=True)
class Short(ObjectiveConfig):
    """An objective that has no memory for more than `room` clips: it says so, or the system ends its process."""

    room: int = 4
    says_so: bool = True

    def make(self, job: Job, preprocessing: Preprocessing, device: torch.device, cache: DecodedCache) -> Objective:
        return _Short(super().make(job, preprocessing, device, cache), self.room, self.says_so)


class _Short:
    def __init__(self, objective: Objective, room: int, says_so: bool) -> None:
        self.objective, self.room, self.says_so = objective, room, says_so
        self.labels = objective.labels

    def __call__(self, prediction: Prediction, batch: Batch, *, epoch: int) -> Loss:
        if len(batch.positions) > self.room:
            if self.says_so:
                raise torch.OutOfMemoryError("no room")
            os.kill(os.getpid(), signal.SIGKILL)
        return self.objective(prediction, batch, epoch=epoch)


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: Path) -> Params:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KINEFLOW_HOME", raising=False)
    values = yaml.safe_load((repository / "params" / "tiny.yaml").read_text())
    values["train"] |= {"batch_size": "auto", "lr_batch_size": 4}
    return parse_params(values, where="test")


def folds(root: Path, **short: Any) -> list[Job]:
    """Two folds of which an epoch has 80 clips, so that 16 would be the most of a batch."""
    job = make_job(root, epochs=1)
    job = replace(job, train=[*job.train] * 10, objective=Short(0.0, **short))
    return [job, replace(job, fold=1, recipe=replace(job.recipe, seed=2))]


def choices() -> list[Path]:
    return list((home() / "store" / "batch_size").glob("*/*/found.json"))


@pytest.mark.parametrize("says_so", [True, False], ids=["the device says so", "the system ends the process"])
def test_memory_that_has_no_room_bounds_it(params: Params, tmp_path: Path, says_so: bool) -> None:
    jobs, report = folds(tmp_path, room=4, says_so=says_so), StageReport("train@rgb")
    torch.manual_seed(5)
    random_state = torch.get_rng_state().clone()
    numpy_state = np.random.get_state()[1].copy()  # type: ignore[index]
    threads = torch.get_num_threads()
    found = with_found_batch_size(jobs, params.train, RESOURCES, report)
    assert torch.equal(torch.get_rng_state(), random_state) and torch.get_num_threads() == threads
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # type: ignore[index]

    (size,) = {job.recipe.batch_size for job in found}
    assert size in (2, 4) and found == [with_batch_size(job, size, params.train) for job in jobs]
    assert found[0].recipe.lr == jobs[0].recipe.lr * size / 4
    (note,) = report.notes
    assert f"in batches of {size}, chosen for all folds: a clip takes " in note and "there is no room for 8" in note


def test_a_choice_is_made_once_also_for_a_machine_that_has_lost_its_disk(params: Params, tmp_path: Path) -> None:
    kept = replace(RESOURCES, run_storage=RunStorage(str(tmp_path / "runs"), patience_sec=1.0))
    jobs, report = folds(tmp_path, room=4), StageReport("train@rgb")
    first = with_found_batch_size(jobs, params.train, kept, report)
    (path,) = choices()
    values = json.loads(path.read_text())
    assert values["batch_size"] == first[0].recipe.batch_size
    roomy = [replace(job, objective=Short(0.0, room=16)) for job in jobs]  # would come to another size by now
    other_seed = [replace(job, recipe=replace(job.recipe, seed=77)) for job in roomy]
    for again in (roomy, other_seed):
        found = with_found_batch_size(again, params.train, RESOURCES, report)
        assert {job.recipe.batch_size for job in found} == {values["batch_size"]}
        assert "as chosen before" in report.notes[-1] and report.notes[-1].endswith(values["why"])
    shutil.rmtree(home())
    found = with_found_batch_size(roomy, params.train, kept, report)
    assert {job.recipe.batch_size for job in found} == {values["batch_size"]} and "as chosen before" in report.notes[-1]
    assert json.loads(path.read_text()) == values


def test_what_is_compared_is_trained_by_one_protocol(params: Params, repository: Path) -> None:
    with pytest.raises(ParamsError, match="would give each model a size of its own"):
        CrossValidation(params, None, "rgb", {}).jobs({})  # type: ignore[arg-type]
    space: dict[str, Any] = {"streams.rgb.lr": {"grid": [0.1, 0.2]}}
    spec = {"stream": "rgb", "metric": None, "algorithm": "grid", "num_trials": None, "num_generations": None}
    for wrong in (space, space | {"train.batch_size": {"grid": [4, "auto"]}}):
        changed = with_space(params, spec | {"prune": None, "space": wrong}, where="test")
        assert changed.search is not None
        with pytest.raises(ParamsError, match="write a number, or let the search try some"):
            check_search(changed, changed.search)
    tried = with_space(params, spec | {"prune": None, "space": {"train.batch_size": {"grid": [4, 8]}}}, where="test")
    assert tried.search is not None
    check_search(tried, tried.search)


def test_the_rate_must_be_for_some_size(params: Params) -> None:
    values = params.model_dump(mode="json", by_alias=True)
    values["train"]["lr_batch_size"] = None
    with pytest.raises(ParamsError, match="batch_size: auto needs lr_batch_size"):
        parse_params(values, where="test")


@pytest.fixture
def project(built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = copy_workspace(built.root, tmp_path / "workspace")
    monkeypatch.chdir(root)
    monkeypatch.delenv("KINEFLOW_HOME", raising=False)
    change_params(root, train__batch_size="auto", train__lr_batch_size=4, streams__flow__epochs=6)
    return root


def weights(root: Path) -> dict[str, str]:
    return {name: sha for name, sha in contents(root, "models/flow").items() if name.endswith(".pt")}


def test_a_stage_that_was_killed_goes_on_with_its_size_and_to_the_same_weights(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_stage(monkeypatch, "train", "flow") == 0
    whole, said = weights(project), report_of(project, "train", "flow")
    summary = json.loads((paths.MODELS / "flow" / "summary.json").read_text())
    size = summary["batch_size"]
    assert size == summary["recipe"]["batch_size"] and any(f"in batches of {size}, chosen" in n for n in said["notes"])
    bundle = json.loads((paths.MODELS / "flow" / "release" / "bundle.json").read_text())
    assert {member["batch_size"] for member in bundle["members"]} == {size}

    assert run_stage(monkeypatch, "train", "flow") == 0
    assert report_of(project, "train", "flow")["skipped"] == 3  # two folds and the release model
    change_params(project, train__batch_size=size)
    assert run_stage(monkeypatch, "train", "flow") == 0
    assert report_of(project, "train", "flow")["skipped"] == 3  # the number found is the same training
    change_params(project, train__batch_size="auto")

    before = set((home() / "store" / "train").glob("*/*/result.json"))
    mine = {path for path in before if json.loads(path.read_text())["curves"][5:]}
    assert len(mine) == 3
    for path in mine:
        shutil.rmtree(path.parent)
    command = [str(Path(sys.executable).with_name("kineflow")), "stage", "train", "--stream", "flow"]
    child = subprocess.Popen(command, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while not list((home() / "checkpoints").glob("*.pt")) and child.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        os.killpg(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert run_stage(monkeypatch, "train", "flow") == 0
    assert any(f"in batches of {size}, as chosen before" in n for n in report_of(project, "train", "flow")["notes"])
    assert weights(project) == whole
