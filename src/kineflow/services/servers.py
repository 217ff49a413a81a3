"""Local servers that `make serve` needs: Prefect's for schedules and approvals, MLflow's to look at the registry."""

import os
import sys
from pathlib import Path

from kineflow.registry import tracking
from kineflow.services import process
from kineflow.services.process import Daemon, Running
from kineflow.store import home

PREFECT = "prefect"
MLFLOW = "mlflow"
PREFECT_PORT_VARIABLE = "KINEFLOW_PREFECT_PORT"
MLFLOW_PORT_VARIABLE = "KINEFLOW_MLFLOW_PORT"


def prefect_up() -> Running:
    """Start a Prefect server with its state in `.kineflow/prefect`, unless one runs already."""
    found = process.find(PREFECT)
    if found is not None:
        return found
    port = process.remembered_port(PREFECT, PREFECT_PORT_VARIABLE)
    command = [_program("prefect"), "server", "start", "--host", process.LOOPBACK, "--port", str(port)]
    environment: dict[str, str | None] = {
        "PREFECT_HOME": str(prefect_home()),
        "PREFECT_API_URL": None,
        "PREFECT_API_DATABASE_CONNECTION_URL": None,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    return process.start(Daemon(PREFECT, command, port, "/api/health", environment, PREFECT_PORT_VARIABLE, 120.0))


def prefect_home() -> Path:
    """Where Prefect keeps the state of this workspace."""
    path = (home() / "prefect").resolve()
    path.mkdir(parents=True, exist_ok=True)
    return path


def prefect_api_url() -> str | None:
    """PREFECT_API_URL, or that of the local server if it runs."""
    found = process.find(PREFECT)
    return os.environ.get("PREFECT_API_URL") or (f"{found.url}/api" if found else None)


def mlflow_up() -> Running:
    """Start MLflow's server on the local registry, unless one runs already."""
    found = process.find(MLFLOW)
    if found is not None:
        return found
    port = process.remembered_port(MLFLOW, MLFLOW_PORT_VARIABLE)
    command = [
        *(_program("mlflow"), "server", "--host", process.LOOPBACK, "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", tracking.local_uri(), "--default-artifact-root", tracking.local_artifact_root()),
        "--no-serve-artifacts",
    ]
    environment: dict[str, str | None] = {"MLFLOW_TRACKING_URI": None, "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # a dozen workers that nothing here uses
    return process.start(Daemon(MLFLOW, command, port, "/health", environment, MLFLOW_PORT_VARIABLE, 120.0))


def _program(name: str) -> str:
    return str(Path(sys.executable).with_name(name))
