"""The machine that starts trainings is a node of the Ray cluster, also after the cluster's head has started again."""

import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import yaml

from tests.conftest import REPOSITORY
from tests.faults.test_cluster import end, environ_of_ray, head_at
from tests.s3_server import free_port

pytestmark = pytest.mark.soak  # Ray takes a minute to believe that a head is gone
ALIVE_NODES = """
import logging, ray
ray.init(log_to_driver=False, logging_level=logging.ERROR)
print("alive", sum(node["Alive"] for node in ray.nodes()))
"""


@contextmanager
def worker_of(folder: Path, environ: dict[str, str]) -> Iterator[psutil.Popen]:
    """What compose starts as `worker`, with `sleep` in place of Prefect."""
    entrypoint = yaml.safe_load((REPOSITORY / "infra" / "compose.yaml").read_text())["services"]["worker"]["entrypoint"]
    ray = folder / "bin" / "ray"
    ray.parent.mkdir()
    options = f"--object-store-memory={100 * 2**20} --dashboard-agent-listen-port={free_port()} --disable-usage-stats"
    ray.write_text(f'#!/bin/sh\nexec {shlex.quote(str(Path(sys.executable).with_name("ray")))} "$@" {options}\n')
    ray.chmod(0o755)
    found_first = environ | {"PATH": f"{ray.parent}:{environ['PATH']}"}
    words = [word.replace("$$", "$") for word in entrypoint]
    log = folder / "worker.log"
    with log.open("wb") as output:
        worker = psutil.Popen([*words, "sleep", "600"], env=found_first, stdout=output, stderr=output)
    try:
        yield worker
    finally:
        print(log.read_text())
        end(worker)


def num_alive(environ: dict[str, str]) -> int:
    done = subprocess.run([sys.executable, "-c", ALIVE_NODES], env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1])


def wait_until(is_so: Callable[[], bool], *, sec: float) -> None:
    deadline = time.monotonic() + sec
    while not is_so():
        assert time.monotonic() < deadline, "not within its time"
        time.sleep(1)


def raylets_below(worker: psutil.Popen) -> list[psutil.Process]:
    return [child for child in worker.children(recursive=True) if child.name() == "raylet"]


def test_the_worker_joins_again_when_the_head_has_started_again() -> None:
    with tempfile.TemporaryDirectory(prefix="kf-", dir="/tmp", ignore_cleanup_errors=True) as name:
        folder, port = Path(name), free_port()
        environ = environ_of_ray() | {"RAY_ADDRESS": f"127.0.0.1:{port}"}
        with worker_of(folder, environ) as worker:  # before there is a head
            with head_at(port, folder, environ) as why_not:
                assert not why_not
                wait_until(lambda: num_alive(environ) == 2, sec=60)
                before = raylets_below(worker)
            with head_at(port, folder, environ) as why_not:
                assert not why_not
                wait_until(lambda: num_alive(environ) == 2, sec=150)
                assert worker.is_running() and raylets_below(worker) != before
                time.sleep(20)
                assert num_alive(environ) == 2
