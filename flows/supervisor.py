"""Run a command so that nothing of it is left when the one who started it is gone.

Run as a script by `flows.child`, in a session of its own: `python -I -S supervisor.py PARENT GRACE_SEC COMMAND...`.
It asks the kernel for a signal when its parent ends, even by `kill -9`, and to be given every descendant that loses
its own parent. When the command ends, or it is told to end, whatever still runs below it is ended first.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


class Told(BaseException):
    """A signal asked for the end."""


def main(parent: int, grace_sec: float, command: list[str]) -> int:
    """Run `command`, clean up, and return its exit code (128 + n where signal n ended it or us)."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _raise)
    try:
        if sys.platform == "linux":
            libc = ctypes.CDLL(None)
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
            libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
        if os.getppid() != parent:
            return 128 + signal.SIGTERM  # it was gone before we could ask
        code = subprocess.Popen(command, stdin=subprocess.DEVNULL).wait()
    except Told:
        code = -signal.SIGTERM
    except OSError as err:
        print(f"{command[0]}: {err}", file=sys.stderr)
        code = 127
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _end_descendants(grace_sec)
    return code if code >= 0 else 128 - code


def _raise(number: int, frame: FrameType | None) -> None:
    raise Told


def _end_descendants(grace_sec: float) -> None:
    deadline = time.monotonic() + grace_sec
    told: set[int] = set()
    while alive := _descendants():
        overdue = time.monotonic() > deadline
        for pid in alive:
            if overdue or pid not in told:
                told.add(pid)
                _send(pid, signal.SIGKILL if overdue else signal.SIGTERM)
        _reap()
        time.sleep(0.02)


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def _descendants() -> list[int]:
    """Every process below this one that is not a zombie."""
    parent_of: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] not in "ZX":
            parent_of[int(entry.parent.name)] = int(fields[1])
    below = {os.getpid()}
    found: list[int] = []
    while more := [pid for pid, parent in parent_of.items() if parent in below and pid not in below]:
        below.update(more)
        found += more
    return found


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
