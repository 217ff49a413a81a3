"""Results to and from the S3 remote, DVC's run cache included."""

import time
from collections.abc import Callable
from pathlib import Path

from flows import child
from flows.workspace import Claim
from kineflow.errors import ServiceError
from kineflow.services import dvc_remote, process
from kineflow.stages import paths

STORES = (paths.FRAMES, paths.FLOW, paths.EMBEDDINGS)


def push_to_s3(*, say: Callable[[str], None], claim: Claim | None = None) -> float:
    """Push every result and the run cache; the seconds that it took.

    Raises:
        ServiceError: the remote is out of reach or refuses.
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
    endpoint = dvc_remote.endpoint()
    where = f"the remote {dvc_remote.url()}" + (f" at {endpoint}" if endpoint else "")
    if endpoint is not None and not process.responds(endpoint, timeout_sec=5.0):  # DVC would try for 20 s
        raise ServiceError(f"{where} is out of reach, so {consequence}; start it and run again")
    started = time.monotonic()
    code, lines = child.run([child.dvc(), verb, "--run-cache"], say=say, claim=claim)
    if code != 0:
        said = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
        why = said[-1] if said else f"dvc {verb} ended with code {code}"
        raise ServiceError(
            f"{where} refused ({' '.join(why.split())[:200]}), so {consequence}; correct it and run again"
        )
    return round(time.monotonic() - started, 2)
