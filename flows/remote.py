"""Results to and from the S3 remote, DVC's run cache included."""

import time
from collections.abc import Callable
from pathlib import Path

from flows import child
from flows.workspace import Claim
from kineflow import services
from kineflow.errors import OutOfReachError, ServiceError
from kineflow.services import dvc_remote, process
from kineflow.stages import paths
from kineflow.storage import patience_sec, with_patience

STORES = (paths.FRAMES, paths.FLOW, paths.EMBEDDINGS)


def push_to_s3(*, say: Callable[[str], None], claim: Claim | None = None) -> float:
    """Push every result and the run cache; the seconds that it took.

    A remote that does not answer is waited for, as long as `KINEFLOW_PATIENCE_SEC` says.

    Raises:
        ServiceError: the remote stays out of reach or refuses.
    """
    return _transfer("push", "nothing was pushed; what was built is kept", say, claim)


def pull_from_s3(*, say: Callable[[str], None], claim: Claim | None = None) -> float:
    """Fetch the run cache and every result that dvc.lock names; the seconds that it took.

    Stores of one file for each video that are not here are linked into the workspace, where `sync` takes them up: a
    stage that has one video more is not told of them by DVC.
    """
    seconds = _transfer("fetch", "nothing was fetched", say, claim)
    lock = Path("dvc.lock").read_text() if Path("dvc.lock").is_file() else ""
    outs = [str(out) for out in STORES if f"path: {out}\n" in lock and not out.exists()]
    if outs:
        child.run([child.dvc(), "checkout", *outs], say=say, claim=claim)  # else they are computed
    return seconds


def _transfer(verb: str, consequence: str, say: Callable[[str], None], claim: Claim | None) -> float:
    started = time.monotonic()
    with_patience(lambda: _try_transfer(verb, consequence, say, claim), patience_sec=patience_sec(), say=say)
    return round(time.monotonic() - started, 2)


def _try_transfer(verb: str, consequence: str, say: Callable[[str], None], claim: Claim | None) -> None:
    """What was transferred before the remote went away is not transferred again."""
    services.up()  # the embedded S3 may have died
    endpoint = dvc_remote.endpoint()
    where = f"the remote {dvc_remote.url()}" + (f" at {endpoint}" if endpoint else "")
    away = OutOfReachError(f"{where} is out of reach, so {consequence}; start it and run again")
    if not _answers(endpoint):  # DVC would try for 20 s
        raise away
    code, lines = child.run([child.dvc(), verb, "--run-cache"], say=say, claim=claim)
    if code == 0:
        return
    if not _answers(endpoint) or any("Could not connect to the endpoint" in line for line in lines):
        raise away
    said = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    why = said[-1] if said else f"dvc {verb} ended with code {code}"
    raise ServiceError(f"{where} refused ({' '.join(why.split())[:200]}), so {consequence}; correct it and run again")


def _answers(endpoint: str | None) -> bool:
    return endpoint is None or process.responds(endpoint, timeout_sec=5.0)
