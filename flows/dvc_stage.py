"""Run one stage of dvc.yaml as `dvc repro --single-item`, and tell how it ended."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows import child
from flows.workspace import Claim
from kineflow.errors import DataError, KineflowError, ParamsError, ServiceError, StorageFullError
from kineflow.stages import paths

ERRORS: dict[int, type[KineflowError]] = {error.exit_code: error for error in (ParamsError, DataError, ServiceError)}
HINTS = (  # what DVC says to people who type its commands
    "Updating lock file",
    "Generating lock file",
    "To track the changes with git",
    "git add ",
    "To enable auto staging",
    "dvc config core.autostage",
    "Use `dvc push`",
    "Having any troubles?",
)


@dataclass(frozen=True)
class StageRun:
    """How a stage went.

    Args:
        did: `ran`, `restored` from the run cache, or `unchanged`.
    """

    stage: str
    did: str
    seconds: float


def run_dvc_stage(
    stage: str, *, say: Callable[[str], None], claim: Claim | None = None, force: bool = False, pull: bool = False
) -> StageRun:
    """Bring one stage up to date, its upstream as it is.

    Args:
        stage: as DVC addresses it, for example `train@rgb`.
        say: gets each line that DVC or the stage prints, as it appears.
        force: run it even where nothing changed.
        pull: fetch the outputs that the run cache names and this machine lacks, instead of running.

    Raises:
        KineflowError: the stage failed; the type gives the exit code, the message is the stage's own sentence.
    """
    report = report_path(stage)
    before = _mtime_ns(report)
    started = time.monotonic()
    options = [*(["--force"] if force else []), *(["--pull"] if pull else [])]
    command = [child.dvc(), "repro", "--single-item", *options, stage]
    code, lines = child.run(command, say=_without_hints(say), claim=claim)
    seconds = round(time.monotonic() - started, 2)
    fresh = _read(report) if _mtime_ns(report) != before else None
    if code != 0:
        if fresh is not None and fresh["exit_code"] == 0 and _lock_was_held(lines):
            _commit(stage, say, claim)
        else:
            raise _failure(stage, code, lines, fresh)
    return StageRun(stage, _what_it_did(lines), seconds)


def report_path(stage: str) -> Path:
    """Where the stage leaves its report."""
    return paths.STAGE_REPORTS / f"{stage.replace('@', '.')}.json"


def _failure(stage: str, code: int, lines: list[str], report: dict[str, Any] | None) -> KineflowError:
    if report is not None and report["exit_code"] != 0:
        error = ERRORS.get(report["exit_code"], KineflowError)
        return error(f"{stage}: {report['error']}")
    if any("No space left on device" in line for line in lines):
        return StorageFullError(f"{stage}: the disk is full; free some room and run again")
    said = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    if _lock_was_held(lines):
        return ServiceError(f"{stage}: another DVC process holds this workspace; wait for it or end it, and run again")
    why = said[0] if said else (lines[-1] if lines else f"dvc ended with code {code}")
    return KineflowError(f"{stage}: {' '.join(why.split())}")


def _commit(stage: str, say: Callable[[str], None], claim: Claim | None) -> None:
    """Make DVC remember a stage that succeeded while another process held DVC's lock."""
    say(f"{stage} succeeded, but DVC's lock was held by another process; committing it")
    code, lines = child.run([child.dvc(), "commit", "-f", stage], say=_without_hints(say), claim=claim)
    if code != 0:
        raise ServiceError(f"{stage}: DVC could not note that it succeeded ({lines[-1] if lines else code}); run again")


def _lock_was_held(lines: list[str]) -> bool:
    return any("Unable to acquire lock" in line or "is busy, it is being blocked by" in line for line in lines)


def _what_it_did(lines: list[str]) -> str:
    if any("didn't change, skipping" in line for line in lines):
        return "unchanged"
    if any("is cached - skipping run" in line for line in lines):
        return "restored"
    return "ran"


def _without_hints(say: Callable[[str], None]) -> Callable[[str], None]:
    def passed_on(line: str) -> None:
        if not line.strip().startswith(HINTS):
            say(line)

    return passed_on


def _mtime_ns(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found.get("exit_code"), int) else None
