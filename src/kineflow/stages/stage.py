"""Run one stage as a command: its params, its progress, its report, its exit code.

DVC calls `kineflow stage NAME` in the workspace. A stage that fails says why in one line, leaves the same line
in `reports/stages/<stage>.json`, and ends with the exit code of `kineflow.errors`.
"""

import ctypes
import errno
import importlib
import inspect
import json
import os
import signal
import sys
import threading
import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path

from kineflow.atomic import write_text
from kineflow.errors import INTERRUPTED, KineflowError, ParamsError, StorageFullError
from kineflow.params import STREAM_NAMES, load_params, only
from kineflow.stages import STAGES, paths

PR_SET_PDEATHSIG = 1


@dataclass
class StageReport:
    """What a stage did: printed at its end and left as `reports/stages/<stage>.json`.

    Args:
        stage: its name as DVC knows it, for example `train@rgb`.
    """

    stage: str
    items: int = 0
    seconds: float = 0.0
    skipped: int = 0  # results found in the store
    quarantined: int = 0
    notes: list[str] = field(default_factory=list)
    exit_code: int = 0
    error: str | None = None

    def note(self, text: str) -> None:
        """Print a line and keep it in the report."""
        print(f"{self.stage}: {text}", flush=True)
        self.notes.append(text)

    def save(self) -> None:
        """Write the report, whole or not at all."""
        path = paths.STAGE_REPORTS / f"{self.stage.replace('@', '.')}.json"
        values = asdict(self) | {"items_per_sec": self.items / self.seconds if self.seconds else 0.0}
        write_text(path, json.dumps(values, indent=1) + "\n")


def main(name: str, stream: str | None = None) -> int:
    """Run the stage `name` (of `stream`, where the stage has one for each) and return its exit code."""
    die_with_parent()
    report = StageReport(f"{name}@{stream}" if stream else name)
    started = time.monotonic()
    try:
        _run(name, stream, report)
    except KineflowError as err:
        report.error, report.exit_code = " ".join(str(err).split()), err.exit_code
    except OSError as err:
        full = err.errno in (errno.ENOSPC, errno.EDQUOT)
        text = (
            f"the disk is full ({err.filename or 'while writing'}); free some room and run again" if full else str(err)
        )
        report.error, report.exit_code = text, StorageFullError.exit_code if full else 1
        if not full:
            traceback.print_exc()
    except KeyboardInterrupt:  # the command line says so
        report.error, report.exit_code = "interrupted", INTERRUPTED
        report.seconds = round(time.monotonic() - started, 3)
        _save(report)
        raise
    except Exception as err:
        traceback.print_exc()
        report.error, report.exit_code = f"{type(err).__name__}: {err}", 1
    report.seconds = round(time.monotonic() - started, 3)
    _finish(report)
    return report.exit_code


def _run(name: str, stream: str | None, report: StageReport) -> None:
    if name not in STAGES:
        raise ParamsError(f"unknown stage {name!r}; known: {', '.join(STAGES)}")
    params = load_params(Path("params.yaml"))
    module = importlib.import_module(f"kineflow.stages.{name}")
    of_streams = "stream" in inspect.signature(module.run).parameters
    if of_streams != (stream is not None) or (stream is not None and stream not in STREAM_NAMES):
        wanted = f"--stream {' or '.join(STREAM_NAMES)}" if of_streams else "no --stream"
        raise ParamsError(f"the stage {name} takes {wanted}")
    keys = [key.format(stream=stream) for key in module.PARAMS]
    if stream is None:
        module.run(only(params, keys), report)
    else:
        module.run(only(params, keys), report, stream=stream)


def _finish(report: StageReport) -> None:
    if report.error is not None:
        print(f"{report.stage}: error: {report.error}", file=sys.stderr, flush=True)
    else:
        parts = [f"{report.items} items in {report.seconds:.1f} s"]
        parts += [f"{report.skipped} already there"] if report.skipped else []
        parts += [f"{report.quarantined} quarantined"] if report.quarantined else []
        print(f"{report.stage}: {', '.join(parts)}", flush=True)
    _save(report)


def _save(report: StageReport) -> None:
    try:
        report.save()
    except OSError as err:
        print(f"{report.stage}: the report could not be written: {err}", file=sys.stderr)


def die_with_parent() -> None:
    """End this process when the one that started it ends, however that happens (Linux)."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # DVC may put a shell between itself and the stage, and a killed DVC leaves that shell alive.
    ancestors = _ancestors(depth=3)
    threading.Thread(target=_watch, args=(ancestors,), name="parent-watch", daemon=True).start()


def _ancestors(depth: int) -> list[tuple[int, str]]:
    """(pid, start time) of the parents up to the DVC or flow process that started this stage."""
    found: list[tuple[int, str]] = []
    pid = os.getppid()
    for _ in range(depth):
        stat = _stat(pid)
        if pid <= 1 or stat is None:
            break
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        found.append((pid, stat[19]))
        if b"dvc" in command:
            return found
        pid = int(stat[1])
    return found[:1]


def _watch(ancestors: list[tuple[int, str]]) -> None:
    while True:
        for pid, start_time in ancestors:
            stat = _stat(pid)
            if stat is None or stat[19] != start_time or stat[0] == "Z":
                os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.5)


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/<pid>/stat after the command's name: 0 state, 1 parent, 19 start time."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
