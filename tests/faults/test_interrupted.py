"""Ctrl-C: one line that says what to do next, and exit code 130."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

WAIT_SEC = 120.0
AGAIN_SEC = 5.0  # a signal that comes just before the process begins to wait for its params is noticed with the next


def open_for_writing(fifo: Path) -> int:
    """The pipe's end for writing, as soon as somebody reads at the other."""
    deadline = time.monotonic() + WAIT_SEC
    while time.monotonic() < deadline:
        try:
            return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            time.sleep(0.05)
    raise TimeoutError(f"nobody reads {fifo}")


def interrupted(process: subprocess.Popen[str]) -> str:
    """What it says on its standard error when it is told to stop."""
    for _ in range(int(WAIT_SEC / AGAIN_SEC)):
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=AGAIN_SEC)[1]
    raise TimeoutError("it goes on")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["stage", "sync"], "kineflow: interrupted; the same command goes on where it was\n"),
        (["sample"], "kineflow: interrupted\n"),
    ],
)
def test_an_interrupted_command_says_so(command: list[str], said: str, tmp_path: Path) -> None:
    fifo = tmp_path / "params.yaml"  # the command waits for its params until it is interrupted
    os.mkfifo(fifo)
    start = [sys.executable, "-c", "from kineflow.cli import main; main()", *command]
    with subprocess.Popen(start, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        written = open_for_writing(fifo)
        try:
            told = interrupted(process)
        finally:
            os.close(written)
            process.kill()
    assert (process.returncode, told) == (130, said)
    if command[0] == "stage":
        report = json.loads((tmp_path / "reports" / "stages" / "sync.json").read_text())
        assert (report["exit_code"], report["error"]) == (130, "interrupted")
