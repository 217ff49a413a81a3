"""Services that are embedded for a laptop and brought along by a team: S3, Prefect's server, MLflow's server."""

from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

State = Literal["running", "stopped", "own"]
NAMES = ("s3", "prefect", "mlflow")


@dataclass(frozen=True)
class ServiceStatus:
    """One line of `kineflow services status`.

    Args:
        state: `own` is a service of the user's, named by the environment, that is not ours to start or stop.
    """

    name: str
    state: State
    url: str | None = None
    pid: int | None = None


def up(names: Sequence[str] = ("s3",)) -> list[ServiceStatus]:
    """Start what does not run yet, and point DVC's remote at the S3 in use; safe to repeat.

    Raises:
        ServiceError: a port is taken, or a server does not start.
    """
    from kineflow.services import dvc_remote, s3, servers

    start = {"s3": s3.up, "prefect": servers.prefect_up, "mlflow": servers.mlflow_up}
    with _one_at_a_time():
        for name in names:
            if _own(name) is None:
                start[name]()
        if "s3" in names:
            dvc_remote.point_dvc_at_s3()
    return [_status(name) for name in names]


def status() -> list[ServiceStatus]:
    """What runs, in the order of `NAMES`."""
    return [_status(name) for name in NAMES]


def down() -> list[str]:
    """End what was started here; the names of what was ended."""
    from kineflow.services import process

    with _one_at_a_time():
        return [name for name in NAMES if process.stop(name)]


def table(rows: Sequence[ServiceStatus]) -> str:
    """Rows as aligned text."""
    cells = [("SERVICE", "STATE", "ADDRESS", "PID")]
    cells += [(row.name, row.state, row.url or "-", str(row.pid or "-")) for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(4)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def _status(name: str) -> ServiceStatus:
    from kineflow.services import process

    own = _own(name)
    if own is not None:
        return ServiceStatus(name, "own", own)
    found = process.find(name)
    return ServiceStatus(name, "running", found.url, found.pid) if found else ServiceStatus(name, "stopped")


def _own(name: str) -> str | None:
    """The address of the user's own service, without credentials."""
    import os

    from kineflow.registry.tracking import without_credentials
    from kineflow.services import s3

    variables = {"prefect": "PREFECT_API_URL", "mlflow": "MLFLOW_TRACKING_URI"}
    found = s3.own_remote() if name == "s3" else os.environ.get(variables[name])
    return without_credentials(found) if found else None


@contextmanager
def _one_at_a_time() -> "Iterator[None]":
    from filelock import FileLock

    from kineflow.services import process

    with FileLock(process.folder() / "lock"):
        yield
