"""Nested MLflow runs: a search holds its trials, and a trial its folds. Written by the driver alone, each run once."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kineflow.registry import tracking

KEY_TAG = "kineflow.key"
PARENT_TAG = "mlflow.parentRunId"
MAX_VALUES = 1000  # of a batch, by MLflow's limit
MAX_PARAM_CHARS = 6000  # MLflow's limit
SYSTEM = "system/"  # metrics of this name are on a page of their own in MLflow

End = Literal["FINISHED", "KILLED", "FAILED"]
_Row = tuple[int, int, Mapping[str, float]]  # time in ms since 1970, step, metrics


@dataclass(frozen=True)
class TrainingRecord:
    """One finished training, as the innermost run shows it.

    Args:
        metrics: of the whole.
        seconds: that it took.
        curves: metrics of each epoch.
        machine: what the machine was busy with, each sample with its `time` in seconds since 1970; see `MachineWatch`.
    """

    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    seconds: float
    curves: Sequence[Mapping[str, float]] = ()
    machine: Sequence[Mapping[str, float]] = ()


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

    def begin(
        self,
        key: str,
        name: str,
        params: Mapping[str, Any],
        *,
        parent: str | None = None,
        began_sec: float | None = None,
    ) -> tuple[str, str]:
        """The id of the run of `key`, made if it is not there, and its status: RUNNING, or how it ended.

        Args:
            name: for people.
            parent: the id of the run that it belongs to.
            began_sec: when a new run began, in seconds since 1970; None for now.
        """
        from mlflow.entities import Param

        with tracking.service_errors():
            found = self._client.search_runs([self._experiment_id], f"tags.`{KEY_TAG}` = '{key}'", max_results=1)
            if found:
                return str(found[0].info.run_id), str(found[0].info.status)
            tags = {KEY_TAG: key} | ({PARENT_TAG: parent} if parent else {})
            began = _milliseconds(began_sec)
            run = self._client.create_run(self._experiment_id, run_name=name, tags=tags, start_time=began)
            run_id = str(run.info.run_id)
            values = [Param(name, str(value)[:MAX_PARAM_CHARS]) for name, value in params.items()]
            self._client.log_batch(run_id, params=values)
        return run_id, "RUNNING"

    def resume(self, run_id: str) -> None:
        """Open a run that was ended or killed."""
        with tracking.service_errors():
            self._client.update_run(run_id, status="RUNNING")

    def log(self, run_id: str, metrics: Mapping[str, float]) -> None:
        """Add metrics; what is not finite is left out."""
        self._log(run_id, [(_milliseconds(None), 0, metrics)])

    def end(self, run_id: str, how: End = "FINISHED", *, documents: Sequence[Path] = ()) -> None:
        """Close a run, with files for people."""
        with tracking.service_errors():
            for document in documents:
                self._client.log_artifact(run_id, str(document))
            self._client.set_terminated(run_id, how)

    def write_training(self, key: str, name: str, record: TrainingRecord, *, parent: str) -> None:
        """The run of a finished training, with its curves and what the machine did meanwhile; nothing if it is there.

        Every value has the time at which it was found, so that what a killed process wrote half is not there twice.
        """
        ended_sec = record.machine[-1]["time"] if record.machine else None
        began_sec = None if ended_sec is None else ended_sec - record.seconds
        run_id, status = self.begin(key, name, record.params, parent=parent, began_sec=began_sec)
        if status == "FINISHED":
            return
        ended = _milliseconds(ended_sec)
        rows: list[_Row] = [(ended, 0, {**record.metrics, "train_sec": record.seconds})]
        rows += [(ended, step, values) for step, values in enumerate(record.curves)]
        for step, sample in enumerate(record.machine):
            values = {f"{SYSTEM}{name}": value for name, value in sample.items() if name != "time"}
            rows.append((_milliseconds(sample["time"]), step, values))
        self._log(run_id, rows)
        with tracking.service_errors():
            self._client.set_terminated(run_id, end_time=ended)

    def _log(self, run_id: str, rows: Sequence[_Row]) -> None:
        from mlflow.entities import Metric

        values = [Metric(name, v, at, step) for at, step, row in rows for name, v in row.items() if math.isfinite(v)]
        with tracking.service_errors():
            for first in range(0, len(values), MAX_VALUES):
                self._client.log_batch(run_id, metrics=values[first : first + MAX_VALUES])

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


def _milliseconds(seconds: float | None) -> int:
    return int((time.time() if seconds is None else seconds) * 1000)
