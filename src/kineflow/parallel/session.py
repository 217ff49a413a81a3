"""To be connected to Ray: a cluster that others started, or a local one that ends with this process."""

import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

from kineflow.errors import OutOfReachError, ParamsError, ServiceError
from kineflow.parallel.threads import ONE_THREAD, environment, num_cores

if TYPE_CHECKING:
    import psutil

Value = TypeVar("Value")

RAY_START_SEC = 6.0  # start and stop of a local cluster
OBJECT_STORE_BYTES = 200 * 2**20  # results are small: what is large goes through files
HEAD_PATIENCE_SEC = 30.0  # Ray itself ends this process after 60, and says nothing that helps
LOOK_SEC = 0.5  # between two looks at the head
REAPER_SEC = 10.0  # it takes at most, once nobody is at the other end

# Ends processes, given as "pid start-time" words, once the one at the other end of its standard input is gone.
REAPER = """
import os, sys
words = sys.stdin.readline().split()
sys.stdin.read()
for pid, start_time in zip(words[::2], words[1::2]):
    try:
        if open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[19] == start_time:
            os.kill(int(pid), 9)
    except OSError:
        pass
"""


@contextmanager
def ray_session() -> Iterator[None]:
    """Be connected to Ray: to the session already open here, to RAY_ADDRESS, or to a local cluster of our own.

    A local cluster runs no dashboard, and ends with the block or with this process. It is asked to listen on loopback,
    for which Ray takes the machine's own address; who connects has to know the token in `~/.ray/auth_token`.

    Raises:
        ParamsError: RAY_ADDRESS is one of Ray Client, through which Ray Train and Ray Tune do not work.
        ServiceError: the cluster at RAY_ADDRESS does not answer, or a local one does not start.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")  # by a thread that goes on after the end of the session
    import ray

    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS")
    if address is not None and address.startswith("ray://"):
        raise ParamsError(
            f"RAY_ADDRESS={address} is an address of Ray Client, which does not serve trainings: make this machine a "
            "node (ray start --address=HEAD:6379 --num-cpus=0) and set RAY_ADDRESS=HEAD:6379"
        )
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        options |= {
            "address": "local",
            "num_cpus": num_cores(),
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
            "_node_ip_address": "127.0.0.1",
        }
    else:
        options |= {"address": address}
    strangers = _children()
    try:
        with environment(ONE_THREAD):  # the workers of a local cluster inherit it
            ray.init(**options)
    except Exception as err:  # where the machine is too busy to start in time, Ray raises a plain one
        hint = "" if address is None else "; if it asks for a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
        raise ServiceError(f"Ray ({address or 'a local cluster'}) cannot be reached: {err}{hint}") from err
    started = {child for child in _children() if child not in strangers}
    with _ended_with_this_process(started) if address is None else nullcontext():
        try:
            yield
        finally:
            ray.shutdown()


class HeadWatch:
    """Notices that the head of the cluster is gone while tasks are awaited; Ray would wait on, then end the process."""

    def __init__(self) -> None:
        import ray

        self._address = ray.get_runtime_context().gcs_address
        self._seen = time.monotonic()

    def check(self) -> None:
        """Look whether somebody listens there.

        Raises:
            OutOfReachError: nobody did for `HEAD_PATIENCE_SEC`.
        """
        if _listens(self._address):
            self._seen = time.monotonic()
        elif time.monotonic() - self._seen > HEAD_PATIENCE_SEC:
            raise OutOfReachError(f"Ray's head at {self._address} is gone; start it again if need be, and run again")


def with_head_watched(call: Callable[[], Value]) -> Value:
    """What `call` gives, which waits for Ray by itself: in a thread of its own, while this one looks after the head.

    Raises:
        OutOfReachError: the head is gone; the thread waits on, and ends with the process.
    """
    head, done = HeadWatch(), Future[Value]()

    def run() -> None:
        try:
            done.set_result(call())
        except BaseException as err:  # raised again by the one that waits
            done.set_exception(err)

    Thread(target=run, name="waits for Ray", daemon=True).start()
    while not wait([done], timeout=LOOK_SEC).done:
        head.check()
    return done.result()


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=2.0):
            return True
    except OSError:
        return False


def _children() -> "set[psutil.Process]":
    import psutil

    return set(psutil.Process().children(recursive=True))


@contextmanager
def _ended_with_this_process(started: "set[psutil.Process]") -> Iterator[None]:
    """See to it that a local cluster ends with us even after `kill -9`: Ray's agents alone would stay for a minute."""
    if sys.platform != "linux":
        yield
        return
    stats = [(child.pid, Path(f"/proc/{child.pid}/stat")) for child in started]
    words = [f"{pid} {stat.read_text().rpartition(')')[2].split()[19]}" for pid, stat in stats if stat.exists()]
    command = [sys.executable, "-S", "-E", "-c", REAPER]
    reaper = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True)
    assert reaper.stdin is not None
    reaper.stdin.write(" ".join(words) + "\n")
    reaper.stdin.flush()
    try:
        yield
    finally:
        reaper.stdin.close()
        try:
            reaper.wait(REAPER_SEC)
        except subprocess.TimeoutExpired:  # another process holds its standard input open
            reaper.kill()
            reaper.wait()


def ray_is_on() -> bool:
    """Whether this process is connected to Ray, told without importing it."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())
