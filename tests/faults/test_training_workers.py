"""Data-parallel workers, and trainings whose worker or driver is killed."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import ray
import torch

from kineflow.errors import ParamsError, ServiceError
from kineflow.parallel.session import ray_session
from kineflow.parallel.threads import num_cores
from kineflow.progress.fold_news import read_news
from kineflow.training.folds import Resources, train_jobs
from kineflow.training.job import Job
from tests.jobs import counted, epochs_begun, make_job

CURVE_TOLERANCE = 1e-5  # float32 sums in another order


def train(
    job: Job, home: Path, *, workers: int, max_failures: int = 0
) -> tuple[dict, dict[str, torch.Tensor], list[str]]:
    said: list[str] = []
    resources = Resources(threads=1, workers=workers, max_failures=max_failures, cache_bytes=0)
    folders, _ = train_jobs([job], home, resources, label="train", say=said.append)
    folder = folders[job.key]
    weights = torch.load(folder / "weights.pt", weights_only=True)
    return json.loads((folder / "result.json").read_text()), weights, said


@pytest.mark.filterwarnings("ignore")
def test_two_gloo_workers_follow_one_and_survive_a_killed_worker(tmp_path):
    job, log = make_job(tmp_path, epochs=30), tmp_path / "epochs.log"
    alone, _, _ = train(job, tmp_path / "one", workers=1)

    killed: list[int] = []
    last_before = 5  # epoch that is finished when a worker is killed
    progress = tmp_path / "two" / "progress" / f"{job.key}.json"

    def kill_a_worker() -> None:
        while not killed:
            news = read_news(progress)
            begun = news is not None and news.epoch >= last_before
            for process in psutil.Process().children(recursive=True) if begun else []:
                with suppress(psutil.Error):  # of a process that has ended, be it long ago
                    if not killed and "TrainWorker" in " ".join(process.cmdline()):
                        process.kill()
                        killed.append(process.pid)
            time.sleep(0.01)

    killer = threading.Thread(target=kill_a_worker, daemon=True)
    killer.start()
    together, _, _ = train(counted(job, log, pause_sec=0.1), tmp_path / "two", workers=2, max_failures=1)
    killer.join(timeout=1)
    assert killed, "no worker was killed, so nothing was shown"
    begun = epochs_begun(log)
    assert [begun[0, epoch] for epoch in range(last_before + 1)] == [2] * (last_before + 1)  # once by each worker
    assert 2 * 30 < sum(begun.values()) <= 2 * (30 + 2)  # with what was cut off: one may have begun the next epoch
    assert len(together["curves"]) == 30
    for name in ("train_loss", "val_loss"):  # one of twice the batch, on a model without batch norm
        one, two = ([epoch[name] for epoch in result["curves"]] for result in (alone, together))
        np.testing.assert_allclose(two, one, rtol=CURVE_TOLERANCE)


def claimant(job: Job, home: Path) -> psutil.Process:
    """The process below this one that trains `job`."""
    lock = str(home / "checkpoints" / f"{job.key}.lock")
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it has ended meanwhile
            if lock in [file.path for file in process.open_files()]:
                return process
    raise LookupError(f"nobody trains {job.name}")


def train_and_kill(
    jobs: Sequence[Job], home: Path, log: Path, epochs: Sequence[int], *, max_failures: int
) -> tuple[dict[str, Path], list[int]]:
    """Train side by side, and kill the worker of fold 1 in each of `epochs`: the results, and who was killed."""
    killed: list[int] = []

    def kill() -> None:
        for epoch in epochs:
            while not epochs_begun(log)[1, epoch]:
                time.sleep(0.01)
            worker = claimant(jobs[1], home)
            worker.kill()
            killed.append(worker.pid)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    resources = Resources(threads=1, workers=1, max_failures=max_failures, cache_bytes=0)
    try:
        folders, _ = train_jobs(jobs, home, resources, label="train", say=lambda line: None)
    finally:
        killer.join(timeout=10)
        assert len(killed) == len(epochs), "too few workers were killed, so nothing was shown"
    return folders, killed


def test_a_fold_whose_worker_is_killed_goes_on_at_its_last_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, home, epochs = tmp_path / "epochs.log", tmp_path / "home", 12
    plain = [make_job(tmp_path, epochs=epochs, fold=fold) for fold in range(2)]
    resources = Resources(threads=1, workers=1, max_failures=0, cache_bytes=0)
    undisturbed, _ = train_jobs(plain, tmp_path / "undisturbed", resources, label="train", say=lambda line: None)

    monkeypatch.setattr("kineflow.training.folds.RAY_START_SEC", -1.0)  # or so small a training would not start Ray
    jobs = [counted(job, log, pause_sec=0.3) for job in plain]
    with ray_session():
        with pytest.raises(ServiceError, match=r"^fold 1: its worker died too often .*; run again to go on$"):
            train_and_kill(jobs, home, log, [2], max_failures=0)
        folders, killed = train_and_kill(jobs, home, log, [5, 9], max_failures=2)
    assert len(set(killed)) == 2 and os.getpid() not in killed
    begun = epochs_begun(log)
    cut_off = {fold: [e for e in range(epochs) if begun[fold, e] > 1] for fold in range(2)}
    assert set(begun.values()) == {1, 2} and set(begun) == {(fold, e) for fold in range(2) for e in range(epochs)}
    assert len(cut_off[0]) <= 1 and 1 <= len(cut_off[1]) <= 3  # fold 0 is ended with the fold that fails
    assert list((home / "checkpoints").iterdir()) == []
    for job in jobs:
        weights, wanted = (found[job.key] / "weights.pt" for found in (folders, undisturbed))
        assert weights.read_bytes() == wanted.read_bytes()


DRIVER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_training_workers import make_job, train
root = Path({root!r})
train(make_job(root, epochs={epochs}), root / "home", workers=1)
"""


def test_a_killed_driver_goes_on_at_the_epoch_where_it_stopped(tmp_path):
    epochs = 60
    job = make_job(tmp_path, epochs=epochs)
    _, undisturbed, _ = train(job, tmp_path / "undisturbed", workers=1)
    script = DRIVER.format(tests=str(Path(__file__).parent), root=str(tmp_path), epochs=epochs)
    process = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    progress = tmp_path / "home" / "progress" / f"{job.key}.json"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (progress.exists() and json.loads(progress.read_text())["epoch"] >= 3):
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it finished before it was killed: nothing was shown"
    stopped_at = json.loads(progress.read_text())["epoch"]
    checkpoint = tmp_path / "home" / "checkpoints" / f"{job.key}.pt"
    assert len(torch.load(checkpoint, weights_only=True)["curves"]) > stopped_at
    _, resumed, _ = train(job, tmp_path / "home", workers=1)
    assert not checkpoint.exists()
    for name, value in undisturbed.items():
        assert torch.equal(value, resumed[name]), name


def test_folds_run_side_by_side_and_never_twice(tmp_path, monkeypatch):
    monkeypatch.setattr("kineflow.training.folds.RAY_START_SEC", -1.0)  # or so small a training would not start Ray
    jobs = [make_job(tmp_path, epochs=2, fold=fold) for fold in range(3)]
    resources = Resources(threads=1, workers=1, max_failures=1, cache_bytes=0)
    said: list[str] = []
    folders, already = train_jobs(jobs, tmp_path / "home", resources, label="train", say=said.append)
    assert already == 0 and all((folder / "result.json").exists() for folder in folders.values())
    assert any("done (3 of 3)" in line for line in said)
    _, already = train_jobs(jobs, tmp_path / "home", resources, label="train", say=said.append)
    assert already == 3


def test_more_threads_than_cores_are_as_many_as_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kineflow.training.folds.RAY_START_SEC", -1.0)
    wanted = 4 * num_cores()
    jobs = [make_job(tmp_path, epochs=1, fold=fold) for fold in range(2)]
    jobs = [replace(job, recipe=replace(job.recipe, threads=wanted)) for job in jobs]
    said: list[str] = []
    resources = Resources(threads=wanted, workers=1, max_failures=0, cache_bytes=0)
    folders, _ = train_jobs(jobs, tmp_path / "home", resources, label="train", say=said.append)
    assert set(folders) == {job.key for job in jobs}  # under the keys of what was asked for
    assert said[0].startswith(f"train.threads_per_fold: {wanted} is more than there is (cores: {num_cores()}, ")
    assert said[0].endswith(f"each process has {num_cores()}")


def test_more_workers_than_there_is_room_for_are_refused(tmp_path: Path) -> None:
    workers = num_cores() + 1
    resources = Resources(threads=1, workers=workers, max_failures=0, cache_bytes=0)
    with pytest.raises(ParamsError, match=f"train.workers_per_fold: .* {num_cores()} at a time and not for {workers}"):
        train_jobs([make_job(tmp_path, epochs=1)], tmp_path / "home", resources, label="train", say=print)


@pytest.fixture
def four_cores() -> Iterator[None]:
    """A session of as many, wherever it runs: Ray counts what it is told."""
    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        _node_ip_address="127.0.0.1",
        object_store_memory=100 * 2**20,
    )
    yield
    ray.shutdown()


@pytest.mark.soak
def test_folds_of_two_workers_each_run_side_by_side_as_there_is_room(tmp_path: Path, four_cores: None) -> None:
    log, home = tmp_path / "epochs.log", tmp_path / "home"
    jobs = [counted(make_job(tmp_path, epochs=60, fold=fold), log, pause_sec=0.3) for fold in range(3)]
    resources = Resources(threads=1, workers=2, max_failures=0, cache_bytes=0)
    folders, _ = train_jobs(jobs, home, resources, label="train", say=lambda line: None)
    assert set(epochs_begun(log).values()) == {2} and len(epochs_begun(log)) == 3 * 60  # once by each worker
    folds = [int(line.split()[0]) for line in log.read_text().splitlines()]
    first = {fold: folds.index(fold) for fold in range(3)}
    last = {fold: place for place, fold in enumerate(folds)}
    assert first[1] < last[0] and first[0] < last[1]
    assert first[2] > min(last[0], last[1])  # waits for the four cores
    for job in jobs:
        curves = json.loads((folders[job.key] / "result.json").read_text())["curves"]
        assert len(curves) == 60 and {epoch["num_pieces"] for epoch in curves} == {1}
    assert not (home / "ray_train").exists() and list((home / "checkpoints").iterdir()) == []


def test_two_commands_at_once_train_a_fold_once(tmp_path: Path) -> None:
    log = tmp_path / "epochs.log"
    job = counted(make_job(tmp_path, epochs=10), log, pause_sec=0.05)
    commands = [threading.Thread(target=train, args=(job, tmp_path / "home"), kwargs={"workers": 1}) for _ in range(2)]
    for command in commands:
        command.start()
    for command in commands:
        command.join()
    assert epochs_begun(log) == {(0, epoch): 1 for epoch in range(10)}
    assert list((tmp_path / "home" / "checkpoints").iterdir()) == []
