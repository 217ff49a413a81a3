"""Ray's head killed, and a whole machine: the next command goes on, and ends where an undisturbed one does."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import torch

from kineflow.training.folds import Resources, train_jobs
from kineflow.training.job import Job
from kineflow.training.result import result_store
from tests.conftest import REPOSITORY
from tests.jobs import counted, epochs_begun, make_job

EPOCHS = (2, 60, 60)  # of each fold: the first is done when the others have begun
PAUSE_SEC = 0.3  # of an epoch, so that there is time to notice

COMMAND = """
import sys
from pathlib import Path
from kineflow.errors import KineflowError
from kineflow.parallel import session
from kineflow.training import folds
from tests.faults.test_lost_cluster import PAUSE_SEC, jobs_of, resources_of
folds.RAY_START_SEC, session.HEAD_PATIENCE_SEC = -1.0, 2.0
root, resources = Path(sys.argv[1]), resources_of(int(sys.argv[2]))
try:
    folds.train_jobs(jobs_of(root, pause_sec=PAUSE_SEC), root / "home", resources, label="train", say=print)
except KineflowError as err:
    print(err, file=sys.stderr)
    sys.exit(err.exit_code)
"""


def resources_of(workers: int) -> Resources:
    return Resources(threads=1, workers=workers, max_failures=2, cache_bytes=0)


def jobs_of(root: Path, *, pause_sec: float = 0.0) -> list[Job]:
    jobs = [make_job(root, epochs=epochs, fold=fold) for fold, epochs in enumerate(EPOCHS)]
    return [counted(job, root / "epochs.log", pause_sec=pause_sec) for job in jobs]


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    """Of Ray's sessions; its sockets need a short path."""
    folder = Path(tempfile.mkdtemp(prefix="kf-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def kill_head(driver: "subprocess.Popen[str]", ray_folder: Path) -> None:
    (head,) = [p for p in psutil.Process(driver.pid).children(recursive=True) if p.name() == "gcs_server"]
    head.kill()
    _, said = driver.communicate(timeout=60)
    assert driver.returncode == 4, said
    assert "is gone; start it again if need be, and run again" in said.splitlines()[-1]


def kill_machine(driver: "subprocess.Popen[str]", ray_folder: Path) -> None:
    family = [*psutil.Process(driver.pid).children(recursive=True), psutil.Process(driver.pid)]
    assert any(process.name() == "raylet" for process in family)
    for process in family:
        try:
            process.kill()
        except psutil.NoSuchProcess:  # its parent's end was its own
            continue
    driver.communicate()
    assert driver.returncode == -signal.SIGKILL
    shutil.rmtree(ray_folder)


@pytest.mark.parametrize(
    ("kill", "workers"), [(kill_head, 1), (kill_machine, 1), pytest.param(kill_head, 2, marks=pytest.mark.soak)]
)
def test_the_next_command_goes_on(
    tmp_path: Path, ray_folder: Path, kill: Callable[["subprocess.Popen[str]", Path], None], workers: int
) -> None:
    resources = resources_of(workers)
    jobs, log = jobs_of(tmp_path), tmp_path / "epochs.log"
    results = result_store(tmp_path / "home")
    environ = os.environ | {
        "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'src'}",
        "RAY_TMPDIR": str(ray_folder),
    }
    command = [sys.executable, "-c", COMMAND, str(tmp_path), str(workers)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    driver = subprocess.Popen(command, env=environ, cwd=REPOSITORY, start_new_session=True, **pipes)
    deadline = time.monotonic() + 120
    cut_off = {(1, 3), (2, 3)} if workers == 1 else {(1, 3)}  # of two workers each, two cores train one after another
    while jobs[0].key not in results or not cut_off <= set(epochs_begun(log)):
        assert driver.poll() is None, driver.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    family = psutil.Process(driver.pid).children(recursive=True)
    kill(driver, ray_folder)
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []
    assert jobs[1].key not in results and jobs[2].key not in results

    folders, already = train_jobs(jobs, tmp_path / "home", resources, label="train", say=lambda line: None)
    assert already == 1
    begun = epochs_begun(log)
    for fold, epochs in enumerate(EPOCHS):
        times = [begun[fold, epoch] for epoch in range(epochs)]
        most = workers * (epochs + (fold > 0))  # with the one that was cut off
        assert min(times) == workers and sum(times) <= most, (fold, times)
    assert sum(begun.values()) > workers * sum(EPOCHS), "nothing was cut off"
    assert list((tmp_path / "home" / "checkpoints").iterdir()) == []

    undisturbed, _ = train_jobs(jobs, tmp_path / "undisturbed", resources, label="train", say=lambda line: None)
    for job in jobs:
        weights, wanted = (
            torch.load(found[job.key] / "weights.pt", weights_only=True) for found in (folders, undisturbed)
        )
        assert all(torch.equal(weights[name], wanted[name]) for name in wanted)
