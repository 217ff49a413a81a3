"""The test scores of several runs as one: of the official splits of a data set, each a run of its own.

Papers report UCF-101 and HMDB-51 so: the mean over the three splits, each trained and tested by itself.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kineflow.errors import DataError
from kineflow.evaluation.metrics import FoldSummary, over_folds

SAME = ("task", "labels", "classes")  # in all runs


def read_test_scores(files: Sequence[Path]) -> dict[str, dict[str, FoldSummary]]:
    """Each stream's test metrics over the runs whose metrics.json `files` are, in their order.

    Raises:
        DataError: a file is no metrics.json, is named twice, has no test scores, or is of another task, other classes
            or other streams than the first.
    """
    if len(files) < 2 or len({file.resolve() for file in files}) < len(files):
        raise DataError(
            "a mean needs two runs at least, each once: copy metrics.json away after each, and name the copies"
        )
    runs = {file: _read(file) for file in files}
    first = runs[files[0]]
    for file, metrics in runs.items():
        for key in SAME:
            if metrics[key] != first[key]:
                raise DataError(f"{file} has other {key} than {files[0]}; a mean is over runs of one data set")
        if _names(metrics) != _names(first):
            raise DataError(
                f"{file} has other streams or metrics than {files[0]}; a mean is over runs of the same models"
            )
    return {stream: over_folds([metrics["test"][stream] for metrics in runs.values()]) for stream in first["test"]}


def _read(file: Path) -> Mapping[str, Any]:
    try:
        metrics = json.loads(file.read_text())
    except (OSError, ValueError) as err:
        raise DataError(f"{file} cannot be read as JSON: name a copy of metrics.json, as `evaluate` writes it") from err
    if not isinstance(metrics, dict) or not {*SAME, "test"} <= metrics.keys():
        raise DataError(f"{file} is no metrics.json, as `evaluate` writes it")
    if not metrics["test"]:
        raise DataError(f"{file} has no test scores: its run had no test clips (splits.test)")
    return metrics


def _names(metrics: Mapping[str, Any]) -> dict[str, list[str]]:
    return {stream: list(scores) for stream, scores in metrics["test"].items()}
