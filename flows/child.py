"""Start commands that die with this process, and read what they print as it appears."""

import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from flows.workspace import Claim
from kineflow.services import s3

SUPERVISOR = Path(__file__).with_name("supervisor.py")
GRACE_SEC = 5.0
LINES_KEPT = 200


def start(command: Sequence[str], *, environment: Mapping[str, str], output: int) -> "subprocess.Popen[str]":
    """Start `command` under the supervisor, in a session and process group of its own.

    Args:
        environment: all of it.
        output: a file descriptor, or subprocess.PIPE, for its standard output and error.
    """
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(SUPERVISOR), str(os.getpid()), str(GRACE_SEC), *command],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=dict(environment),
        start_new_session=True,
    )


def stop(child: "subprocess.Popen[str]") -> None:
    """End a child and everything below it; no-op where it ended."""
    if child.poll() is None:
        child.send_signal(signal.SIGTERM)  # the supervisor ends the rest
        try:
            child.wait(GRACE_SEC + 5.0)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    if child.stdout is not None:
        child.stdout.close()


def run(command: Sequence[str], *, say: Callable[[str], None], claim: Claim | None = None) -> tuple[int, list[str]]:
    """Run `command`, passing on each line as it appears; its exit code and last lines.

    However this ends, by a signal or an exception of `say` too, nothing of the command is left running.

    Args:
        say: gets each line, without its end.
        claim: on the workspace; so that the next run finds this command should both of us be killed.
    """
    child = start(command, environment=stage_environment(), output=subprocess.PIPE)
    lines: deque[str] = deque(maxlen=LINES_KEPT)
    try:
        if claim is not None:
            claim.watch(child.pid)
        assert child.stdout is not None
        for line in child.stdout:
            lines.append(line.rstrip())
            if lines[-1]:
                say(lines[-1])
        return child.wait(), list(lines)
    finally:
        stop(child)


def stage_environment() -> dict[str, str]:
    """The environment of DVC and of stages: this interpreter's programs first, output unbuffered, S3 within reach."""
    programs = str(Path(sys.executable).parent)
    path = os.pathsep.join([programs, *(p for p in os.environ.get("PATH", "").split(os.pathsep) if p != programs)])
    return os.environ | s3.environment() | {"PATH": path, "PYTHONUNBUFFERED": "1"}


def dvc() -> str:
    """The DVC program of this environment."""
    return str(Path(sys.executable).with_name("dvc"))
