"""Background processes that this workspace started: found again by pid and start time, ended by their own pid.

A pid alone may belong to a stranger after a restart; with the start time it cannot.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from kineflow.atomic import replacing, write_text
from kineflow.errors import ParamsError, ServiceError
from kineflow.store import home

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Daemon:
    """A server that is to run in the background.

    Args:
        name: of its files in `.kineflow/services/`.
        command: the program and its arguments.
        port: it listens on, on loopback.
        health: path that answers once it serves; any HTTP answer of status < 500 counts.
        environment: added to this process's; a None takes the variable away.
        port_variable: what the user sets to choose another port, for messages.
        start_sec: how long it may take to answer.
    """

    name: str
    command: Sequence[str]
    port: int
    health: str
    environment: Mapping[str, str | None]
    port_variable: str
    start_sec: float = 60.0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{LOOPBACK}:{self.port}"


@dataclass(frozen=True)
class Running:
    """A process that was started here and is alive."""

    pid: int
    start_time: str
    url: str


def folder() -> Path:
    """Where pid files, settings and logs of the services are."""
    path = home() / "services"
    path.mkdir(parents=True, exist_ok=True)
    return path


def start_time(pid: int) -> str | None:
    """When the process began, as an opaque text that never changes for it; None where it is gone or a zombie."""
    if sys.platform == "linux":
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else fields[19]
    else:
        import psutil

        try:
            process = psutil.Process(pid)
            return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
        except psutil.Error:
            return None


def is_alive(pid: int, started: str) -> bool:
    """Whether the very process that began at `started` still runs."""
    return start_time(pid) == started


def end_group(leader: int, started: str, *, grace_sec: float = 5.0) -> bool:
    """End what is left of a process group, be its leader alive or not. False if it was gone already.

    A pid is not given away again while a group of that number has members, so they are ours unless the number
    now belongs to a leader that began at another time.
    """

    def members() -> list[int]:
        if start_time(leader) not in (None, started):
            return []
        return [pid for pid in _pids_of_group(leader) if start_time(pid) is not None]

    if not members():
        return False
    for signal_number, patience_sec in ((signal.SIGTERM, grace_sec), (signal.SIGKILL, 2.0)):
        for pid in members():
            with suppress(ProcessLookupError):
                os.kill(pid, signal_number)
        deadline = time.monotonic() + patience_sec
        while time.monotonic() < deadline:
            if not (left := members()):
                return True
            for pid in left:
                reap(pid)
            time.sleep(0.05)
    return True


def _pids_of_group(group: int) -> list[int]:
    import psutil

    found = []
    for pid in psutil.pids():
        with suppress(OSError):
            if os.getpgid(pid) == group:
                found.append(pid)
    return found


def reap(pid: int) -> None:
    """Collect the exit status if the process is our own child."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except (ChildProcessError, OSError):
        return


def find(name: str) -> Running | None:
    """The running process of that name, None where there is none; a stale pid file is removed."""
    path = _pid_file(name)
    try:
        found = Running(**json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        path.unlink(missing_ok=True)
        return None
    if is_alive(found.pid, found.start_time):
        return found
    path.unlink(missing_ok=True)
    return None


def start(daemon: Daemon) -> Running:
    """Start `daemon`, detached from this process, and wait until it answers.

    Raises:
        ServiceError: its port is taken, it ends at once, or it does not answer in time.
    """
    if not port_is_free(daemon.port):
        raise ServiceError(
            f"port {daemon.port} for {daemon.name} is taken by another program; end it or choose another port "
            f"with {daemon.port_variable}"
        )
    log = folder() / f"{daemon.name}.log"
    environment = {k: v for k, v in (os.environ | dict(daemon.environment)).items() if v is not None}
    with log.open("wb") as output:
        try:
            child = subprocess.Popen(
                list(daemon.command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        except OSError as err:
            raise ServiceError(f"{daemon.name} cannot be started: {err}; install the package again") from err
    started = start_time(child.pid)
    if started is not None:
        running = Running(child.pid, started, daemon.url)
        write_private(_pid_file(daemon.name), json.dumps(asdict(running)) + "\n")
        if _answers(daemon, child):
            child.returncode = 0  # it is meant to outlive us: no ResourceWarning
            return running
        end_group(running.pid, running.start_time)
    _pid_file(daemon.name).unlink(missing_ok=True)
    child.wait()
    raise ServiceError(f"{daemon.name} did not start on {daemon.url} ({_last_line(log)}); see {log}")


def stop(name: str) -> bool:
    """End the process of that name and those that it started; False if none runs."""
    found = find(name)
    if found is None:
        return False
    end_group(found.pid, found.start_time)  # servers leave workers behind when only they are told
    _pid_file(name).unlink(missing_ok=True)
    return True


def port_is_free(port: int) -> bool:
    """Whether a server could listen on `port` of the loopback interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def remembered_port(name: str, variable: str) -> int:
    """The port of a service: `variable` from the environment, else the one it had before, else a free one.

    Raises:
        ParamsError: the variable holds no port.
    """
    chosen = os.environ.get(variable)
    if chosen is not None:
        if not chosen.isdecimal() or not 0 < int(chosen) < 65536:
            raise ParamsError(f"{variable}={chosen} is no port; give a number from 1 to 65535")
        return int(chosen)
    path = folder() / f"{name}.port"
    known = path.read_text().strip() if path.is_file() else ""
    if known.isdecimal() and port_is_free(int(known)):
        return int(known)
    port = free_port()
    write_text(path, f"{port}\n")
    return port


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    with replacing(path) as partial:
        partial.touch(mode=0o600, exist_ok=False)
        partial.write_text(text)


def responds(url: str, *, timeout_sec: float = 2.0) -> bool:
    """Whether an HTTP server answers at `url`, be it with a refusal."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_sec):
            return True
    except urllib.error.HTTPError as err:
        err.close()
        return err.code < 500
    except (OSError, ValueError):
        return False


def _answers(daemon: Daemon, child: "subprocess.Popen[bytes]") -> bool:
    deadline = time.monotonic() + daemon.start_sec
    while time.monotonic() < deadline:
        if child.poll() is not None:
            return False
        if responds(daemon.url + daemon.health):
            return True
        time.sleep(0.05)
    return False


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1].strip().rstrip(".") if lines else "it said nothing"


def _pid_file(name: str) -> Path:
    return folder() / f"{name}.pid.json"
