"""`train.batch_size: auto`: chosen once for all folds in a process of its own, and remembered whatever happens."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
import yaml

from kineflow.data.dataset import Batch
from kineflow.data.decoded_cache import DecodedCache
from kineflow.data.preprocessing import Preprocessing
from kineflow.errors import DataError, KineflowError, ParamsError
from kineflow.models.classifier import Prediction
from kineflow.params import Params, parse_params
from kineflow.stages import paths, stage
from kineflow.stages.folds.batch_size import RememberedSteps, with_found_batch_size
from kineflow.stages.folds.jobs import with_batch_size
from kineflow.stages.folds.trial_process import TrialProcess
from kineflow.stages.stage import StageReport
from kineflow.store import home
from kineflow.studies.cross_validation import CrossValidation
from kineflow.studies.search import check_search, with_space
from kineflow.training.batch_size import Steps, steps_key
from kineflow.training.folds import Resources
from kineflow.training.job import Job, ObjectiveConfig
from kineflow.training.objectives import Loss, Objective
from kineflow.training.run_storage import RunStorage
from tests.conftest import Built
from tests.graph import change_params, contents, copy_workspace, report_of, run_stage
from tests.jobs import make_job

REPOSITORY = Path(__file__).parents[2]
RESOURCES = Resources(threads=1, workers=1, max_failures=0, cache_bytes=0)


def refuse() -> None:
    """What a GPU does that has no memory."""
    raise torch.OutOfMemoryError("no room")


def be_ended() -> None:
    """What a system does that has no memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def sleep() -> None:
    """Tell that the steps have begun, and be long about them."""
    Path("begun").touch()
    time.sleep(600)


def misuse() -> None:
    """A bug."""
    raise RuntimeError("a bug of ours")


@dataclass(frozen=True)
class Short(ObjectiveConfig):
    """The same objective, under the same key, but for what happens with more than `room` clips."""

    room: int = 4
    then: Callable[[], object] = refuse

    @property
    def key(self) -> dict[str, Any]:
        return ObjectiveConfig(self.label_smoothing).key

    def make(self, job: Job, preprocessing: Preprocessing, device: torch.device, cache: DecodedCache) -> Objective:
        return _Short(super().make(job, preprocessing, device, cache), self.room, self.then)


class _Short:
    def __init__(self, objective: Objective, room: int, then: Callable[[], object]) -> None:
        self.objective, self.room, self.then = objective, room, then
        self.labels = objective.labels

    def __call__(self, prediction: Prediction, batch: Batch, *, epoch: int) -> Loss:
        if len(batch.positions) > self.room:
            self.then()
        return self.objective(prediction, batch, epoch=epoch)


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: Path) -> Params:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KINEFLOW_HOME", raising=False)
    values = yaml.safe_load((repository / "params" / "tiny.yaml").read_text())
    values["train"] |= {"batch_size": "auto", "lr_batch_size": 4}
    return parse_params(values, where="test")


def folds(root: Path, *, num_clips: int = 80, **short: Any) -> list[Job]:
    """Two folds; with 80 clips in an epoch 16 would be the most of a batch."""
    job = make_job(root, epochs=1)
    job = replace(job, train=([*job.train] * 10)[:num_clips], objective=Short(0.0, **short))
    return [job, replace(job, fold=1, recipe=replace(job.recipe, seed=2))]


def choose(
    jobs: list[Job], params: Params, *, num_trainings: int = 2, resources: Resources = RESOURCES
) -> tuple[list[Job], str]:
    """The jobs with the size that was found, and what is said of it."""
    report = StageReport("train@rgb")
    found = with_found_batch_size(jobs, params.train, resources, report, num_trainings=num_trainings)
    (note,) = report.notes
    return found, note


def choose_as_a_stage(root: Path) -> None:
    """In a process of its own: try steps that never end."""
    stage.die_with_parent()
    values = yaml.safe_load((REPOSITORY / "params" / "tiny.yaml").read_text())
    values["train"] |= {"batch_size": "auto", "lr_batch_size": 4}
    choose(folds(root, room=0, then=sleep), parse_params(values, where="test"))


def sizes(jobs: list[Job]) -> set[int]:
    return {job.recipe.batch_size for job in jobs}


def remembered() -> dict[Path, dict[str, Any]]:
    """What is remembered of steps, by its file."""
    return {path: json.loads(path.read_text()) for path in (home() / "store" / "batch_size").glob("*/*/steps.json")}


@pytest.mark.parametrize("then", [refuse, be_ended], ids=["the device says so", "the system ends the process"])
def test_memory_that_has_no_room_bounds_it(params: Params, tmp_path: Path, then: Callable[[], object]) -> None:
    jobs = folds(tmp_path, room=4, then=then)
    torch.manual_seed(5)
    random_state = torch.get_rng_state().clone()
    numpy_state = np.random.get_state()[1].copy()  # type: ignore[index]
    threads = torch.get_num_threads()
    found, note = choose(jobs, params)
    assert torch.equal(torch.get_rng_state(), random_state) and torch.get_num_threads() == threads
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # type: ignore[index]

    (size,) = sizes(found)
    assert size in (2, 4) and found == [with_batch_size(job, size, params.train) for job in jobs]
    assert found[0].recipe.lr == jobs[0].recipe.lr * size / 4
    assert f"in batches of {size}, tried for all folds: a clip takes " in note and "there is no room for 8" in note
    assert {values["batch_size"]: values["steps"] is not None for values in remembered().values()} == {
        2: True,
        4: True,
        8: False,
    }


def test_a_process_that_the_system_ended_is_followed_by_another(params: Params, tmp_path: Path) -> None:
    with closing(TrialProcess(folds(tmp_path, room=4, then=be_ended)[0])) as trial:
        assert trial.try_steps(8) is None
        assert trial.try_steps(4) is not None


@pytest.mark.parametrize(("then", "how"), [(os.abort, "SIGABRT"), (misuse, "exit code 1")], ids=["native", "python"])
def test_a_crash_is_one_sentence_and_not_remembered(
    params: Params, tmp_path: Path, then: Callable[[], object], how: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(KineflowError) as error:
        choose(folds(tmp_path, room=1, then=then), params)
    assert str(error.value) == (
        f"fold 0: trying batches of 2 for train.batch_size: auto crashed ({how}); see what it said above, or write a "
        "number there"
    )
    assert ("a bug of ours" in capfd.readouterr().err) == (then is misuse)
    assert not remembered()


def test_an_error_with_a_name_keeps_it(params: Params, tmp_path: Path) -> None:
    jobs = folds(tmp_path)
    (tmp_path / "embeddings" / "v0.npy").unlink()
    jobs = [replace(job, store=replace(job.store, keys={})) for job in jobs]
    with pytest.raises(DataError, match="has no video v0"):
        choose(jobs, params)


def test_a_machine_that_has_no_room_for_any_is_asked_again(params: Params, tmp_path: Path) -> None:
    found, note = choose(folds(tmp_path, room=1, then=be_ended), params)
    assert sizes(found) == {2} and note.endswith("there is no room for 2, and fewer cannot be")
    assert not remembered()
    _, note = choose(folds(tmp_path, room=2), params)
    assert "in batches of 2, tried for all folds: a clip takes " in note


def test_steps_are_tried_once_also_for_a_machine_that_has_lost_its_disk(params: Params, tmp_path: Path) -> None:
    kept = replace(RESOURCES, run_storage=RunStorage(str(tmp_path / "runs"), patience_sec=1.0))
    first, said = choose(folds(tmp_path, room=4), params, resources=kept)
    files = remembered()
    roomy = folds(tmp_path, room=16)  # would come to another size by now
    other_seed = [replace(job, recipe=replace(job.recipe, seed=77)) for job in roomy]
    dealt_otherwise = folds(tmp_path, room=16, num_clips=78)
    for again in (roomy, other_seed, dealt_otherwise):
        found, note = choose(again, params)
        assert sizes(found) == sizes(first) and note == said.replace("tried for all folds", "as tried before")
    shutil.rmtree(home())
    found, note = choose(roomy, params, resources=kept)
    assert sizes(found) == sizes(first) and "as tried before" in note
    assert remembered() == files


def test_what_a_power_cut_left_is_tried_again(params: Params, tmp_path: Path) -> None:
    jobs = folds(tmp_path, room=4)
    choose(jobs, params)
    files = remembered()
    cut = next(path for path, values in files.items() if values["batch_size"] == 4)
    cut.write_text(cut.read_text()[:30])
    _, note = choose(jobs, params)
    assert "tried for all folds" in note and remembered().keys() >= files.keys()


@pytest.mark.parametrize(
    ("num_trainings", "total_gb", "largest", "size"),
    [
        (2, 64, 80, 16),  # 4.8 GB each: 16 take 4.2
        (2, 64, 79, 8),  # 16 would leave an epoch too few steps
        (3, 64, 80, 8),  # 3.2 GB: the release model trains beside the folds
        (10, 64, 80, 4),  # eight at a time on eight cores: 1.2 GB
        (2, 4, 80, 4),  # a smaller machine: 1.6 GB
        (1, 64, 80, 16),  # 9.6 GB, but no more than was tried is asked for
    ],
)
def test_what_is_remembered_is_held_against_the_memory_of_these_trainings(
    params: Params,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    num_trainings: int,
    total_gb: int,
    largest: int,
    size: int,
) -> None:
    jobs = folds(tmp_path, num_clips=largest)

    def took(batch_size: int) -> Steps:  # 0.2 GB, and 0.25 for each clip; 12 GB were free
        return Steps(1 / batch_size, 12 * 10**9, 2 * 10**8, 2 * 10**8 + 25 * 10**7 * batch_size)

    steps = RememberedSteps(steps_key(jobs[0]), took, None)
    for batch_size in (2, 4, 8, 16) * 2:
        steps(batch_size)
    monkeypatch.setattr("kineflow.stages.folds.batch_size.num_cores", lambda: 8)
    monkeypatch.setattr("kineflow.stages.folds.batch_size.total_bytes", lambda: total_gb * 10**9)
    found, note = choose(jobs, params, num_trainings=num_trainings)
    assert sizes(found) == {size} and "as tried before" in note


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells who is whose child")
@pytest.mark.parametrize("when", ["as it starts", "in its steps"])
def test_a_stage_that_is_killed_takes_its_trial_along(params: Params, tmp_path: Path, when: str) -> None:
    program = "import sys, pathlib; from tests.stages.test_batch_size import choose_as_a_stage as choose\n"
    program += "if __name__ == '__main__': choose(pathlib.Path(sys.argv[1]))"
    parts = (REPOSITORY, REPOSITORY / "src")
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, parts))},
        start_new_session=True,
    )
    try:
        deadline, trial = time.monotonic() + 240, None
        while trial is None or (when == "in its steps" and not Path("begun").exists()):
            assert time.monotonic() < deadline and child.poll() is None
            trials = psutil.Process(child.pid).children()
            trial = next((other for other in trials if "spawn_main" in " ".join(other.cmdline())), None)
            time.sleep(0.01)
    finally:
        child.kill()
        child.wait()
    assert trial is not None
    gone, _ = psutil.wait_procs([trial], timeout=120)  # it may have to be started before it can end
    assert gone and Path("begun").exists() == (when == "in its steps")


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
    together: list[int] = []

    def noting(*args: Any, num_trainings: int) -> list[Job]:
        together.append(num_trainings)
        return with_found_batch_size(*args, num_trainings=num_trainings)

    monkeypatch.setattr("kineflow.stages.folds.networks.with_found_batch_size", noting)
    assert run_stage(monkeypatch, "train", "flow") == 0
    assert together == [3]  # two folds, and the release model beside them
    whole, said = weights(project), report_of(project, "train", "flow")
    summary = json.loads((paths.MODELS / "flow" / "summary.json").read_text())
    size = summary["recipe"]["batch_size"]
    assert any(f"in batches of {size}, tried for all folds" in note for note in said["notes"])

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
    assert any(f"in batches of {size}, as tried before" in n for n in report_of(project, "train", "flow")["notes"])
    assert weights(project) == whole
