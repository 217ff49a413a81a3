"""Nested MLflow runs: a search holds its trials, and a trial its folds. Written by the driver alone, each run once."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from kineflow.registry import tracking

KEY_TAG = "kineflow.key"
PARENT_TAG = "mlflow.parentRunId"
MAX_VALUES = 1000  # of a batch, by MLflow's limit
MAX_PARAM_CHARS = 6000  # MLflow's limit

End = Literal["FINISHED", "KILLED", "FAILED"]


class NestedRuns:
    """Runs of one experiment that are found again by their keys, so that what goes on is not written twice.

    Args:
        experiment: its name; made if need be.

    Raises:
        ServiceError: MLflow is out of reach.
    """

    def __init__(self, experiment: str) -> None:
        self._client = tracking.client()
        with tracking.service_errors():
            self._experiment_id = tracking.experiment_id(self._client, experiment)

    def begin(self, key: str, name: str, params: Mapping[str, Any], *, parent: str | None = None) -> tuple[str, str]:
        """The id of the run of `key`, made if it is not there, and its status: RUNNING, or how it ended.

        Args:
            name: for people.
            parent: the id of the run that it belongs to.
        """
        from mlflow.entities import Param

        with tracking.service_errors():
            found = self._client.search_runs([self._experiment_id], f"tags.`{KEY_TAG}` = '{key}'", max_results=1)
            if found:
                return str(found[0].info.run_id), str(found[0].info.status)
            tags = {KEY_TAG: key} | ({PARENT_TAG: parent} if parent else {})
            run_id = str(self._client.create_run(self._experiment_id, run_name=name, tags=tags).info.run_id)
            values = [Param(name, str(value)[:MAX_PARAM_CHARS]) for name, value in params.items()]
            self._client.log_batch(run_id, params=values)
        return run_id, "RUNNING"

    def resume(self, run_id: str) -> None:
        """Open a run that was ended or killed."""
        with tracking.service_errors():
            self._client.update_run(run_id, status="RUNNING")

    def log(self, run_id: str, metrics: Mapping[str, float], *, curves: Sequence[Mapping[str, float]] = ()) -> None:
        """Add metrics, and curves with one step for each of their rows; what is not finite is left out."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        rows = [(0, metrics), *enumerate(curves)]
        values = [Metric(name, v, now, step) for step, row in rows for name, v in row.items() if math.isfinite(v)]
        with tracking.service_errors():
            for first in range(0, len(values), MAX_VALUES):
                self._client.log_batch(run_id, metrics=values[first : first + MAX_VALUES])

    def end(self, run_id: str, how: End = "FINISHED", *, documents: Sequence[Path] = ()) -> None:
        """Close a run, with files for people."""
        with tracking.service_errors():
            for document in documents:
                self._client.log_artifact(run_id, str(document))
            self._client.set_terminated(run_id, how)

    @contextmanager
    def watching_the_machine(self, run_id: str) -> Iterator[None]:
        """Log what the machine is busy with every ten seconds of the block, as `system/...` metrics of the run."""
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        with tracking.service_errors():
            monitor = SystemMetricsMonitor(run_id, resume_logging=True, tracking_uri=tracking.tracking_uri())
        monitor.start()
        try:
            yield
        finally:
            monitor.finish()
