"""The Prefect API that a run talks to: the team's, the one that `make serve` started, or one of its own."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flows import child
from kineflow.errors import ServiceError
from kineflow.services import process, servers

START_SEC = 90.0
FLUSH_SEC = 5.0
# A run of its own needs neither schedules nor automations; each service costs start-up time.
SERVICES_OFF = (
    "SCHEDULER",
    "LATE_RUNS",
    "FOREMAN",
    "CANCELLATION_CLEANUP",
    "PAUSE_EXPIRATIONS",
    "REPOSSESSOR",
    "TRIGGERS",
)


@contextmanager
def prefect_api(*, meanwhile: Callable[[], object] = list) -> Iterator[str]:
    """Have an API for the block, and Prefect's client pointed at it; its URL.

    One of its own keeps its state in `.kineflow/prefect`, listens on loopback, and ends with this process.

    Args:
        meanwhile: called while an API of its own starts, which takes seconds.

    Raises:
        ServiceError: the API at PREFECT_API_URL does not answer, or one of its own does not start.
    """
    from prefect.settings import PREFECT_API_URL, temporary_settings

    found = servers.prefect_api_url()
    if found is not None:
        if not process.responds(f"{found}/health", timeout_sec=10.0):
            raise ServiceError(f"the Prefect API at {found} does not answer; start it or unset PREFECT_API_URL")
        with temporary_settings({PREFECT_API_URL: found}):
            yield found
        return
    began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    server, url = _start()
    try:
        with temporary_settings({PREFECT_API_URL: url}):
            meanwhile()
            _await(server, url)
            try:
                yield url
            finally:
                _drain()
            _await_flush(url, began)
    finally:
        child.stop(server)


def _start() -> "tuple[subprocess.Popen[str], str]":
    port = process.free_port()
    environment = os.environ | {f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false" for name in SERVICES_OFF}
    environment |= {
        "PREFECT_HOME": str(servers.prefect_home()),
        "PREFECT_UI_ENABLED": "false",
        "PREFECT__SERVER_EPHEMERAL": "1",
    }
    command = [sys.executable, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app"]
    command += ["--host", process.LOOPBACK, "--port", str(port), "--log-level", "error", "--lifespan", "on"]
    with (process.folder() / "prefect_of_run.log").open("wb") as log:
        server = child.start(command, environment=environment, output=log.fileno())
    return server, f"http://{process.LOOPBACK}:{port}/api"


def _await(server: "subprocess.Popen[str]", url: str) -> None:
    deadline = time.monotonic() + START_SEC
    while time.monotonic() < deadline and server.poll() is None:
        if process.responds(f"{url}/health"):
            return
        time.sleep(0.05)
    log = process.folder() / "prefect_of_run.log"
    raise ServiceError(f"Prefect's API did not start; {log} says why")


def _drain() -> None:
    """Send what is queued while there still is an API; at exit Prefect would try to reach it for a minute."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    APILogWorker.drain_all(timeout=FLUSH_SEC)
    EventsWorker.drain_all(timeout=FLUSH_SEC)


def _await_flush(url: str, began: str) -> None:
    """Task states reach the database a second late; wait for them, so that the history is whole."""
    unfinished = {"state": {"type": {"any_": ["RUNNING", "PENDING"]}}}
    body = json.dumps({"task_runs": unfinished, "flow_runs": {"start_time": {"after_": began}}}).encode()
    request = urllib.request.Request(
        f"{url}/task_runs/count", data=body, headers={"Content-Type": "application/json"}, method="POST"
    )
    deadline = time.monotonic() + FLUSH_SEC
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(request, timeout=2.0) as answer:
                if json.load(answer) == 0:
                    return
        except OSError:
            return
        time.sleep(0.1)
