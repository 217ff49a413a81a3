"""A search whose Ray's head is killed, or that is told to stop: it says so, and the next command goes on."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from kineflow.experiments.space import Changes, make_space
from kineflow.experiments.strategy import Strategy
from kineflow.experiments.trial_worker import Work
from kineflow.experiments.trials import FoldScores
from kineflow.training.folds import Resources, train_jobs
from kineflow.training.job import Job
from kineflow.training.result import result_store
from tests.conftest import REPOSITORY
from tests.faults.test_cluster import ray_cluster
from tests.jobs import counted, epochs_begun, make_job

RATES = (0.01, 0.02)  # of two trials
EPOCHS = (2, 60)  # of each trial's folds: the first is done when the search is cut off
PAUSE_SEC = 0.3  # of an epoch, so that there is time to notice
STRATEGY = Strategy(make_space({"lr": {"grid": list(RATES)}}), "grid", "val_loss", None, None, None, seed=0)

PROGRAM = """
import sys
from pathlib import Path
from kineflow.errors import KineflowError
from kineflow.experiments.tuning import Listener, search
from kineflow.parallel import session
from tests.faults.test_lost_search import STRATEGY, work_of
session.HEAD_PATIENCE_SEC = 2.0
root, pause_sec = Path(sys.argv[1]), float(sys.argv[2])
try:
    print(*(trial.state for trial in search(STRATEGY, work_of(root, pause_sec), Listener())))
except KineflowError as err:
    print(err, file=sys.stderr)
    sys.exit(err.exit_code)
except KeyboardInterrupt:
    sys.exit(130)
"""
COMMAND = (sys.executable, "-c", PROGRAM)
PIPES: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": REPOSITORY}


def jobs_of(root: Path, pause_sec: float, changes: Changes) -> list[Job]:
    made = [make_job(root, epochs=epochs, fold=fold) for fold, epochs in enumerate(EPOCHS)]
    made = [replace(job, recipe=replace(job.recipe, lr=changes["lr"])) for job in made]
    return [counted(job, log_of(root, changes["lr"]), pause_sec=pause_sec) for job in made]


def log_of(root: Path, lr: float) -> Path:
    return root / f"epochs_{lr}.log"


def score(job: Job, folder: Path) -> FoldScores:
    result = json.loads((folder / "result.json").read_text())
    loss = result["curves"][-1]["val_loss"]
    return FoldScores(job.fold, folder.name, {"val_loss": loss}, (), result["seconds"], result["best_epoch"])


def work_of(root: Path, pause_sec: float) -> Work:
    jobs = partial(jobs_of, root, pause_sec)
    return Work(jobs, score, root / "home", root, len(EPOCHS), threads=1, gpus=0.0, max_failures=0, cache_bytes=0)


@contextmanager
def own_cluster() -> Iterator[dict[str, str]]:
    """The environment for a search that starts Ray by itself."""
    folder = Path(tempfile.mkdtemp(prefix="kf-", dir="/tmp"))  # its sockets need a short path
    try:
        yield os.environ | {"PYTHONPATH": f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'src'}", "RAY_TMPDIR": str(folder)}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def kill_head(driver: "subprocess.Popen[str]") -> None:
    family = psutil.Process().children(recursive=True)  # the driver, and a cluster that is not its own
    (head,) = [process for process in family if process.name() == "gcs_server"]
    head.kill()
    out, told = driver.communicate(timeout=50)  # Ray would end it after 60 s
    assert (driver.returncode, out) == (4, "")
    assert told.startswith("Ray's head at ") and told.count("\n") == 1, told
    assert told.endswith(" is gone; start it again if need be, and run again\n")


def interrupt(driver: "subprocess.Popen[str]") -> None:
    driver.send_signal(signal.SIGINT)
    out, told = driver.communicate(timeout=50)
    assert (driver.returncode, out, told) == (130, "", "")  # not the best of what was tried so far


def start_and_cut_off(
    root: Path,
    cluster: Callable[[], AbstractContextManager[dict[str, str]]],
    cut_off: Callable[["subprocess.Popen[str]"], None],
) -> None:
    """A search that is cut off when the second fold of both trials has three epochs."""
    with (
        cluster() as environ,
        subprocess.Popen([*COMMAND, str(root), str(PAUSE_SEC)], env=environ, start_new_session=True, **PIPES) as driver,
    ):
        deadline = time.monotonic() + 120
        while not all(epochs_begun(log_of(root, lr))[1, 3] for lr in RATES):
            assert driver.poll() is None, driver.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        cut_off(driver)


def test_a_search_whose_head_is_gone_says_so_and_keeps_what_it_has(tmp_path: Path) -> None:
    start_and_cut_off(tmp_path, own_cluster, kill_head)
    results = result_store(tmp_path / "home")
    for lr in RATES:
        done, cut = jobs_of(tmp_path, 0.0, {"lr": lr})
        assert done.key in results and cut.key not in results
        kept = torch.load(tmp_path / "home" / "checkpoints" / f"{cut.key}.pt", weights_only=True)
        assert 3 <= len(kept["curves"]) < EPOCHS[1]


@pytest.mark.soak
@pytest.mark.parametrize(
    ("cluster", "cut_off"), [(own_cluster, kill_head), (ray_cluster, kill_head), (own_cluster, interrupt)]
)
def test_the_next_search_goes_on(
    tmp_path: Path,
    cluster: Callable[[], AbstractContextManager[dict[str, str]]],
    cut_off: Callable[["subprocess.Popen[str]"], None],
) -> None:
    start_and_cut_off(tmp_path, cluster, cut_off)
    home, jobs = tmp_path / "home", [job for lr in RATES for job in jobs_of(tmp_path, 0.0, {"lr": lr})]
    results = result_store(home)
    assert [job.key in results for job in jobs] == [True, False, True, False]

    with own_cluster() as environ:
        done = subprocess.run([*COMMAND, str(tmp_path), "0"], env=environ, timeout=120, **PIPES)
    assert (done.returncode, done.stdout) == (0, "done done\n"), done.stderr
    logs = [epochs_begun(log_of(tmp_path, lr)) for lr in RATES]
    for begun in logs:
        assert set(begun) == {(fold, epoch) for fold, epochs in enumerate(EPOCHS) for epoch in range(epochs)}
        assert sum(begun.values()) <= sum(EPOCHS) + 1  # with the one that was cut off
    assert sum(sum(begun.values()) for begun in logs) > len(RATES) * sum(EPOCHS), "nothing was cut off"
    assert list((home / "checkpoints").iterdir()) == [] and list((home / "search" / "tune").iterdir()) == []

    resources = Resources(threads=1, workers=1, max_failures=0, cache_bytes=0)
    undisturbed, _ = train_jobs(jobs, tmp_path / "undisturbed", resources, label="train", say=lambda line: None)
    for job in jobs:
        weights, wanted = (folder / "weights.pt" for folder in (results.path(job.key), undisturbed[job.key]))
        assert weights.read_bytes() == wanted.read_bytes()
