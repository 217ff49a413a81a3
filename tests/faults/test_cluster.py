"""A Ray cluster that others started, named by RAY_ADDRESS, with checkpoints and results on S3."""

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest

from kineflow import storage
from kineflow.training.folds import Resources, train_jobs
from kineflow.training.job import Job
from kineflow.training.run_storage import RunStorage
from tests.conftest import REPOSITORY
from tests.jobs import counted, epochs_begun, make_job
from tests.s3_server import KEY, SECRET, free_port, serve_bucket

EPOCHS = 8
COMMAND = """
import sys
from pathlib import Path
from kineflow.training.folds import train_jobs
from tests.faults.test_cluster import job_of, resources_of
root, workers = Path(sys.argv[1]), int(sys.argv[2])
_, already = train_jobs([job_of(root)], root / "home", resources_of(workers), label="train", say=print)
sys.exit(already)
"""


def job_of(root: Path) -> Job:
    return counted(make_job(root, epochs=EPOCHS), root / "epochs.log")


def resources_of(workers: int) -> Resources:
    kept = RunStorage(f"s3://bucket/runs{workers}", patience_sec=30.0)
    return Resources(threads=1, workers=workers, max_failures=0, cache_bytes=0, run_storage=kept)


@contextmanager
def ray_cluster() -> Iterator[dict[str, str]]:
    """`ray start --head`, and the environment for who uses it."""
    folder = Path(tempfile.mkdtemp(prefix="kf-", dir="/tmp"))  # its sockets need a short path
    environ = environ_of_ray()
    try:
        with _head(folder, environ) as address:
            yield environ | {"RAY_ADDRESS": address}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def environ_of_ray() -> dict[str, str]:
    """Of a cluster's nodes and of who uses it; with a token, since Ray listens on every interface."""
    environ = os.environ | {"PYTHONPATH": f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'src'}", "OMP_NUM_THREADS": "1"}
    return environ | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


@contextmanager
def _head(folder: Path, environ: dict[str, str]) -> Iterator[str]:
    """The address of a head. A free port may be taken before Ray binds it, so a head that dies has two successors."""
    told = ""
    for _ in range(3):
        port = free_port()
        with head_at(port, folder, environ) as why_not:
            if not why_not:
                yield f"127.0.0.1:{port}"
                return
            told += why_not
    pytest.fail(f"no head came up:\n{told}")


@contextmanager
def head_at(port: int, folder: Path, environ: dict[str, str]) -> Iterator[str]:
    """Why no head came up there; empty where one did.

    It ends by its own pid: `ray stop` would end every Ray there is.
    """
    own = Path(tempfile.mkdtemp(dir=folder))
    command = [Path(sys.executable).with_name("ray"), "start", "--head", "--block", "--num-cpus=2", f"--port={port}"]
    command += ["--node-ip-address=127.0.0.1", "--include-dashboard=false", "--disable-usage-stats"]
    command += [f"--object-store-memory={100 * 2**20}", f"--temp-dir={own}"]
    command += [f"--dashboard-agent-listen-port={free_port()}"]
    log = folder / f"{own.name}.log"
    with log.open("wb") as output:
        head = psutil.Popen(command, env=environ, stdout=output, stderr=output, start_new_session=True)
    try:
        yield "" if _is_up(head, log) else log.read_text()
    finally:
        end(head)


def _is_up(head: psutil.Popen, log: Path) -> bool:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and head.poll() is None:
        if "Ray runtime started" in log.read_text():
            return True
        time.sleep(0.1)
    return False


def end(head: psutil.Popen) -> None:
    family = head.children(recursive=True) if head.is_running() else []
    if head.is_running():
        head.terminate()
    _, alive = psutil.wait_procs([*family, head], timeout=10)
    for process in alive:
        process.kill()
    head.wait()


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("s3")
    with serve_bucket(root) as endpoint, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", endpoint)
        patch.setenv("AWS_ACCESS_KEY_ID", KEY)
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        storage.s3._client_for.cache_clear()
        yield root / "bucket"
    storage.s3._client_for.cache_clear()


@pytest.fixture(scope="module")
def cluster(s3: Path) -> Iterator[dict[str, str]]:
    with ray_cluster() as environ:
        yield environ


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.soak)])
def test_a_cluster_trains_and_keeps_its_results_on_s3(
    tmp_path: Path, cluster: dict[str, str], s3: Path, workers: int
) -> None:
    job, log = job_of(tmp_path), tmp_path / "epochs.log"
    command = [sys.executable, "-c", COMMAND, str(tmp_path), str(workers)]
    done = subprocess.run(command, env=cluster, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sum(epochs_begun(log).values()) == workers * EPOCHS
    found = sorted(str(path.relative_to(s3 / f"runs{workers}")) for path in (s3 / f"runs{workers}").rglob("*.*"))
    names = ("files.json", "logits.parquet", "result.json", "weights.pt")
    assert found == [f"results/{job.key}/{name}" for name in names]

    folders, already = train_jobs(
        [job], tmp_path / "another_disk", resources_of(workers), label="train", say=lambda line: None
    )
    assert already == 1 and sum(epochs_begun(log).values()) == workers * EPOCHS
    here = Resources(threads=1, workers=1, max_failures=0, cache_bytes=0)
    alone, _ = train_jobs([job], tmp_path / "alone", here, label="train", say=lambda line: None)
    assert sum(epochs_begun(log).values()) == (workers + 1) * EPOCHS
    curves = [json.loads((each[job.key] / "result.json").read_text())["curves"] for each in (folders, alone)]
    for name in ("train_loss", "val_loss"):
        both = [[epoch[name] for epoch in curve] for curve in curves]
        np.testing.assert_allclose(both[0], both[1], rtol=1e-5)
