"""Checkpoints and results on S3: the storage goes away and comes back, a machine comes back empty."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kineflow import storage
from kineflow.data.decoded_cache import DecodedCache
from kineflow.errors import DataError, OutOfReachError
from kineflow.training.folds import Resources, train_jobs
from kineflow.training.job import Job
from kineflow.training.result import result_store
from kineflow.training.run import run_job
from kineflow.training.run_storage import RunStorage
from kineflow.training.self_supervision.config import SelfSupervision
from tests.conftest import REPOSITORY
from tests.jobs import counted, epochs_begun, make_job
from tests.s3_server import KEY, SECRET, free_port, serve_bucket

EPOCHS = 30
RUNS = "s3://bucket/runs"


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> int:
    """Where the S3 of this test is, when it is there."""
    port = free_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    storage.s3._client_for.cache_clear()
    return port


def train(job: Job, home: Path, *, patience_sec: float = 300.0) -> tuple[dict[str, torch.Tensor], int]:
    """The weights, and how many trainings were there already."""
    kept = RunStorage(RUNS, patience_sec)
    resources = Resources(threads=1, workers=1, max_failures=0, cache_bytes=0, run_storage=kept)
    folders, already = train_jobs([job], home, resources, label="train", say=lambda line: None)
    return torch.load(folders[job.key] / "weights.pt", weights_only=True), already


def await_epoch(log: Path, epoch: int, *, timeout_sec: float = 90.0) -> None:
    deadline = time.monotonic() + timeout_sec
    while (0, epoch) not in epochs_begun(log):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def once_each(log: Path) -> bool:
    return epochs_begun(log) == {(0, epoch): 1 for epoch in range(EPOCHS)}


@pytest.mark.parametrize("away_sec", [2, pytest.param(60, marks=pytest.mark.soak)])
def test_training_goes_on_while_the_storage_is_away_and_its_end_waits(tmp_path: Path, port: int, away_sec: int) -> None:
    log = tmp_path / "epochs.log"
    job = counted(make_job(tmp_path, epochs=EPOCHS), log, pause_sec=0.03)
    found: list[dict[str, torch.Tensor]] = []
    trainer = threading.Thread(target=lambda: found.append(train(job, tmp_path / "home")[0]))
    with serve_bucket(tmp_path / "s3", port=port):
        trainer.start()
        await_epoch(log, 3)
        assert list((tmp_path / "s3/bucket/runs/checkpoints").iterdir())
    await_epoch(log, EPOCHS - 1)  # without it
    trainer.join(away_sec)
    assert trainer.is_alive() and not found
    with serve_bucket(tmp_path / "s3", port=port):
        trainer.join(60.0)
        assert found and once_each(log)
        assert not list((tmp_path / "s3/bucket/runs").glob("checkpoints/*"))
        elsewhere, already = train(job, tmp_path / "another_disk")
    assert already == 1 and once_each(log)
    assert all(torch.equal(elsewhere[name], value) for name, value in found[0].items())


def test_storage_that_stays_away_is_one_sentence_and_costs_no_training(tmp_path: Path, port: int) -> None:
    log = tmp_path / "epochs.log"
    job = counted(make_job(tmp_path, epochs=EPOCHS), log)
    with pytest.raises(OutOfReachError, match=r"S3 at http://127.* is out of reach") as before:
        train(job, tmp_path / "home", patience_sec=0.5)
    assert "\n" not in str(before.value) and not log.exists()  # there may be a result: nothing is trained twice
    with serve_bucket(tmp_path / "s3", port=port):
        slow = counted(job, log, pause_sec=0.03)
        errors: list[Exception] = []

        def run() -> None:
            try:
                train(slow, tmp_path / "home", patience_sec=0.5)
            except OutOfReachError as err:
                errors.append(err)

        trainer = threading.Thread(target=run)
        trainer.start()
        await_epoch(log, 2)
    trainer.join(60.0)
    assert len(errors) == 1 and once_each(log)
    with serve_bucket(tmp_path / "s3", port=port):
        _, already = train(job, tmp_path / "home")
        assert already == 1 and once_each(log)
        _, already = train(job, tmp_path / "another_disk")
    assert already == 1 and once_each(log)


DRIVER = """
import sys
from pathlib import Path
from tests.faults.test_run_storage import EPOCHS, train
from tests.jobs import counted, make_job
root = Path(sys.argv[1])
train(counted(make_job(root, epochs=EPOCHS), root / "epochs.log", pause_sec=0.1), root / "home")
"""


def test_a_machine_that_comes_back_with_an_empty_disk_goes_on_from_s3(tmp_path: Path, port: int) -> None:
    log = tmp_path / "epochs.log"
    job = counted(make_job(tmp_path, epochs=EPOCHS), log)
    environ = os.environ | {"PYTHONPATH": f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'src'}"}
    with serve_bucket(tmp_path / "s3", port=port):
        driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(tmp_path)], env=environ, cwd=REPOSITORY)
        await_epoch(log, 5)
        driver.kill()
        assert driver.wait() == -signal.SIGKILL
        shutil.rmtree(tmp_path / "home")
        resumed, already = train(job, tmp_path / "home")
    assert already == 0
    begun = epochs_begun(log)
    assert set(begun) == {(0, epoch) for epoch in range(EPOCHS)} and sum(begun.values()) <= EPOCHS + 2
    resources = Resources(threads=1, workers=1, max_failures=0, cache_bytes=0)
    folders, _ = train_jobs([job], tmp_path / "undisturbed", resources, label="train", say=lambda line: None)
    wanted = torch.load(folders[job.key] / "weights.pt", weights_only=True)
    assert all(torch.equal(resumed[name], value) for name, value in wanted.items())


def test_a_result_is_whole_or_none_and_damage_is_named(tmp_path: Path) -> None:
    """On a folder, which a run storage may be too."""
    kept, results = RunStorage(str(tmp_path / "runs"), 0.0), result_store(tmp_path / "home")
    for name in ("weights.pt", "logits.parquet", "result.json"):
        (tmp_path / "made").mkdir(exist_ok=True)
        (tmp_path / "made" / name).write_text(name)
    kept.keep_result("ab", tmp_path / "made")
    manifest = tmp_path / "runs/results/ab/files.json"
    there = manifest.read_text()
    manifest.unlink()
    assert not kept.fetch_result("ab", results) and "ab" not in results
    manifest.write_text(there)
    (tmp_path / "runs/results/ab/weights.pt").write_text("weights_pt")
    with pytest.raises(DataError, match=r"weights\.pt is damaged; delete .*results/ab and run again"):
        kept.fetch_result("ab", results)
    assert "ab" not in results
    (tmp_path / "runs/results/ab/weights.pt").write_text("weights.pt")
    assert kept.fetch_result("ab", results) and "ab" in results


def test_pretraining_goes_on_where_it_was_on_a_disk_that_is_gone(tmp_path: Path) -> None:
    config = SelfSupervision(0.0, 0.0, 0.5, 1, 1, "", pretrain_epochs=4)
    job = replace(make_job(tmp_path, epochs=2), self_supervision=config)
    kept = RunStorage(str(tmp_path / "runs"), patience_sec=1.0)

    def train_until(last: float, home: Path) -> list[float]:
        """The positions that it told of before its classification; it is stopped after `last`."""
        told: list[float] = []

        def on_pretrain(position: float, epochs: int, loss: float) -> None:
            told.append(position)
            if position >= last:
                raise KeyboardInterrupt

        cache = DecodedCache(tmp_path / "decoded", max_bytes=0)
        with nullcontext() if last > config.pretrain_epochs else pytest.raises(KeyboardInterrupt):
            run_job(
                job, job.key, result_store(home), home / "checkpoints", cache, run_storage=kept, on_pretrain=on_pretrain
            )
        return told

    assert train_until(2.0, tmp_path / "first")[0] < 1.0
    assert min(train_until(9.0, tmp_path / "second")) > 1.0  # the second epoch was cut off at its last step
    assert not list((tmp_path / "runs/checkpoints").iterdir())
    assert not list((tmp_path / "second/checkpoints").glob("*.pt"))  # where a worker alone would find them
    train_until(9.0, tmp_path / "undisturbed")
    weights = [
        torch.load(result_store(tmp_path / home).path(job.key) / "weights.pt", weights_only=True)
        for home in ("second", "undisturbed")
    ]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
