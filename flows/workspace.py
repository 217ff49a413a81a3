"""One run in a workspace at a time, and none of an earlier one left in it."""

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kineflow.atomic import write_text
from kineflow.errors import ServiceError
from kineflow.services import process
from kineflow.store import home

SURVIVOR_GRACE_SEC = 15.0


@dataclass
class Claim:
    """The right to build in this workspace, and the processes that do it.

    Args:
        path: the pid file; it outlives a killed run, and names what that may have left behind.
        flow_run: the run in Prefect's history that builds here, if any.
        killed_flow_run: the one that was killed here before, if any: nobody wrote its end into the history.
    """

    path: Path
    flow_run: str | None = None
    killed_flow_run: str | None = None
    children: list[tuple[int, str]] = field(default_factory=list)

    def watch(self, pid: int) -> None:
        """Remember a child, the leader of its process group; those that ended are forgotten."""
        started = process.start_time(pid)
        self.children = [child for child in self.children if process.is_alive(*child)]
        if started is not None:
            self.children.append((pid, started))
        self.save()

    def save(self) -> None:
        """Write the pid file, whole or not at all."""
        pid = os.getpid()
        values = {
            "pid": pid,
            "start_time": process.start_time(pid),
            "flow_run": self.flow_run,
            "children": self.children,
        }
        write_text(self.path, json.dumps(values) + "\n")


@contextmanager
def claimed(*, wait: bool, say: Callable[[str], None], flow_run: str | None = None) -> Iterator[Claim]:
    """Claim the workspace for the block; first end what a killed run left running in it.

    Args:
        wait: for a run that is going on; else refuse.
        say: gets a line about each thing that is waited for or ended.
        flow_run: the id of the Prefect run that claims.

    Raises:
        ServiceError: another run is going on, and `wait` is False.
    """
    home().mkdir(parents=True, exist_ok=True)
    path = home() / "retrain.pid"
    with (home() / "retrain.lock").open("a") as lock:  # the kernel gives the lock back, however we end
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as err:
            if not wait:
                raise ServiceError(
                    f"a run is going on in this workspace (pid {_pid(path)}); wait for it or end it"
                ) from err
            say(f"waiting for the run that is going on in this workspace (pid {_pid(path)})")
            fcntl.flock(lock, fcntl.LOCK_EX)
        killed = _read(path)
        _end_survivors(killed, say)
        claim = Claim(path, flow_run, killed.get("flow_run"))
        claim.save()
        try:
            yield claim
        finally:
            path.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any]:
    """What a run wrote into its pid file, be it still there or killed; empty where the last one ended by itself."""
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _end_survivors(killed: dict[str, Any], say: Callable[[str], None]) -> None:
    try:
        children = [(int(pid), str(started)) for pid, started in killed.get("children", [])]
    except (ValueError, TypeError):
        return
    for pid, started in children:
        if process.end_group(pid, started, grace_sec=SURVIVOR_GRACE_SEC):
            say(f"ended process group {pid}, which a killed run had left behind")


def _pid(path: Path) -> str:
    return str(_read(path).get("pid", "unknown"))
