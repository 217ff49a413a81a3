"""A flow as a command: an API to talk to, one line for an error made on purpose, and its exit code."""

import importlib
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect.states import Failed, State

from flows.api import prefect_api
from kineflow.errors import KineflowError
from kineflow.params import load_params

INTERRUPTED = 130


def failed(error: KineflowError) -> State[Any]:
    """The state of a run that ended with `error`; returned and not raised, so that no traceback hides the sentence."""
    return Failed(message=sentence(error), data=error)


def error_of(state: State[Any]) -> KineflowError | None:
    """The error that a state was made with by `failed`, None where the run completed.

    Raises:
        BaseException: whatever else the run ended with.
    """
    if state.is_completed():
        return None
    found = state.result(raise_on_failure=False)
    if isinstance(found, KineflowError):
        return found
    if isinstance(found, BaseException):
        raise found
    return KineflowError(state.message or f"the run ended as {state.name}")


def value_of(state: State[Any]) -> Any:
    """What a run returned.

    Raises:
        KineflowError: that it ended with.
    """
    error = error_of(state)
    if error is not None:
        raise error
    return state.result()


def run_as_command(name: str, run: Callable[[], State[Any]]) -> int:
    """Call `run` with a Prefect API at hand and turn its end into an exit code.

    Wrong params are refused before anything is started.

    Args:
        name: of the command, for its error line.
        run: calls the flow with `return_state=True`.
    """
    logging.getLogger("prefect.task_runs").addFilter(_is_no_repetition)
    try:
        load_params(Path("params.yaml"))
        with prefect_api(meanwhile=_import_ahead):
            error = error_of(run())
    except KineflowError as err:
        error = err
    except KeyboardInterrupt:
        print(f"{name}: interrupted; run it again to go on", file=sys.stderr)
        return INTERRUPTED
    if error is None:
        return 0
    print(f"{name}: error: {sentence(error)}", file=sys.stderr, flush=True)
    return error.exit_code


def _is_no_repetition(record: logging.LogRecord) -> bool:
    """Prefect says twice that a task failed, the first time with an empty traceback."""
    return not record.getMessage().startswith("Task run failed with state")


def _import_ahead() -> None:
    """What a run needs later and takes seconds to import."""
    for name in ("dvc.repo", "mlflow", "kineflow.evaluation.summary", "kineflow.registry.promote"):
        importlib.import_module(name)


def sentence(error: KineflowError) -> str:
    """Its message on one line."""
    return " ".join(str(error).split())
