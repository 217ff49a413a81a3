"""Where MLflow keeps runs, models and artifacts: MLFLOW_TRACKING_URI, or SQLite and files in the workspace."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from kineflow.errors import ServiceError
from kineflow.store import home

if TYPE_CHECKING:
    from mlflow import MlflowClient

DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # it tries for minutes by default
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}


def local_uri() -> str:
    """The SQLite registry of this workspace."""
    path = (home() / "mlflow" / "mlflow.db").resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{path}"


def local_artifact_root() -> str:
    """The artifact folder of this workspace."""
    return (home() / "mlflow" / "artifacts").resolve().as_uri()


def tracking_uri() -> str:
    """The tracking server or database in use, credentials and all."""
    return os.environ.get("MLFLOW_TRACKING_URI") or local_uri()


def without_credentials(uri: str) -> str:
    """The same URI without user name and password."""
    parts = urlsplit(uri)
    if "@" not in parts.netloc:
        return uri
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def public_uri() -> str:
    """The URI in use as it may be shown: without credentials, and a local one relative to the workspace."""
    uri = tracking_uri()
    return f"sqlite:///{home() / 'mlflow' / 'mlflow.db'}" if uri == local_uri() else without_credentials(uri)


def client() -> "MlflowClient":
    """A client of the registry in use.

    Raises:
        ServiceError: it is out of reach.
    """
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    uri = tracking_uri()
    found = MlflowClient(tracking_uri=uri, registry_uri=uri)
    try:
        found.search_experiments(max_results=1)
    except Exception as err:
        raise unreachable(err) from err
    return found


def experiment_id(mlflow_client: "MlflowClient", name: str) -> str:
    """The experiment's id; made if need be, with local artifacts under an absolute URI."""
    found = mlflow_client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    root = None if os.environ.get("MLFLOW_TRACKING_URI") else local_artifact_root()
    return str(mlflow_client.create_experiment(name, artifact_location=root))


def unreachable(err: Exception) -> ServiceError:
    """The one sentence for a registry that does not answer."""
    first = (str(err).splitlines() or [type(err).__name__])[0].rstrip(".")
    first = re.sub(r"://[^/@\s]*@", "://", first)  # MLflow repeats the URI, credentials and all
    uri = without_credentials(tracking_uri())
    return ServiceError(f"the registry at {uri} is out of reach ({first}); start it or correct MLFLOW_TRACKING_URI")


@contextmanager
def service_errors() -> Iterator[None]:
    """Turn what MLflow raises into that sentence."""
    try:
        yield
    except Exception as err:
        if type(err).__module__.startswith(("mlflow", "requests", "sqlalchemy", "urllib3", "botocore")):
            raise unreachable(err) from err
        raise
