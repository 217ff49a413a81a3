"""Storage that is away for a while is waited for."""

import os
import time
from collections.abc import Callable
from typing import TypeVar

from kineflow.errors import OutOfReachError, ParamsError

MAX_PAUSE_SEC = 10.0  # between two tries
PATIENCE_SEC = 300.0

Result = TypeVar("Result")


def with_patience(
    work: Callable[[], Result], *, patience_sec: float, say: Callable[[str], None] | None = None
) -> Result:
    """What `work` gives, tried again for so long while the storage is out of reach.

    Args:
        say: told once that it is being waited for, and why.

    Raises:
        OutOfReachError: it still is.
    """
    give_up = time.monotonic() + patience_sec
    pause_sec = 0.25
    while True:
        try:
            return work()
        except OutOfReachError as err:
            if time.monotonic() + pause_sec > give_up:
                raise
            if say is not None:
                say(f"{err}; waiting up to {patience_sec:.0f} s for it")
                say = None
        time.sleep(pause_sec)
        pause_sec = min(2 * pause_sec, MAX_PAUSE_SEC)


def patience_sec() -> float:
    """How long storage that is away is waited for: `KINEFLOW_PATIENCE_SEC`, or five minutes.

    Raises:
        ParamsError: the variable holds no number of seconds.
    """
    given = os.environ.get("KINEFLOW_PATIENCE_SEC", str(PATIENCE_SEC))
    try:
        seconds = float(given)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ParamsError(f"KINEFLOW_PATIENCE_SEC={given} is no number of seconds; give 0 or more")
    return seconds
