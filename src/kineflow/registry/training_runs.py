"""The trainings that a version was made of, as MLflow runs: below the version's run each stream, below that each fold.

They are written from what the training stages left, so that training needs no MLflow, and results that came out of
DVC's cache are there too.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from statistics import fmean
from typing import Any

from kineflow.registry.nested_runs import NestedRuns, TrainingRecord
from kineflow.registry.register import Registration
from kineflow.store import digest

NOT_PARAMS = ("classes", "folds", "preprocessing", "recipe", "augment")  # lists, or shown below in another form


def write_training_runs(registration: Registration, models: Sequence[Path]) -> None:
    """Put runs of the trainings below the run of a version, those that are not there yet.

    Args:
        models: folders with `summary.json` and `history.json`, one for each stream.

    Raises:
        ServiceError: MLflow is out of reach; called again, it goes on.
    """
    runs = NestedRuns(registration.name)
    for folder in models:
        summary = json.loads((folder / "summary.json").read_text())
        stream = summary["stream"]
        key = digest(version=registration.run_id, stream=stream)
        run_id, status = runs.begin(key, stream, dict(_params(summary)), parent=registration.run_id)
        if status == "FINISHED":
            continue
        history = json.loads((folder / "history.json").read_text())
        for training in history:
            fold = training["fold"]
            name = "release" if fold < 0 else f"fold {fold}"
            runs.write_training(digest(stream=key, fold=fold), name, _record(training), parent=run_id)
        runs.log(run_id, _means(history))
        runs.end(run_id)


def _params(summary: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in summary.items():
        if name not in NOT_PARAMS:
            yield name, value if isinstance(value, str) else json.dumps(value)
    for part in ("recipe", "augment"):
        yield from ((f"{part}.{name}", value) for name, value in summary.get(part, {}).items())


def _record(training: Mapping[str, Any]) -> TrainingRecord:
    curves = [{name: value for name, value in epoch.items() if name != "epoch"} for epoch in training["curves"]]
    before = [{"pretrain_loss": epoch["train_loss"]} for epoch in training.get("pretraining", ())]  # older has none
    nothing: dict[str, float] = {}
    return TrainingRecord(
        params={"fold": training["fold"]},
        metrics=_chosen(training),
        seconds=training["seconds"],
        curves=[{**epoch, **other} for epoch, other in zip_longest(curves, before, fillvalue=nothing)],
        machine=training["machine"],
    )


def _chosen(training: Mapping[str, Any]) -> dict[str, float]:
    """Which epoch's weights were kept, and how they did on the validation clips."""
    best = training["best_epoch"]
    if best is None:
        return {}
    epoch = training["curves"][best - 1]
    return {"best_epoch": float(best), "best_val_loss": epoch["val_loss"], "best_val_metric": epoch["val_metric"]}


def _means(history: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    folds = [_chosen(training) for training in history if training["fold"] >= 0]
    means = {f"mean_{name}": fmean(fold[name] for fold in folds) for name in folds[0]}
    return means | {"train_sec": sum(training["seconds"] for training in history)}
