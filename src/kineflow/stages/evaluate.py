"""Score every model and baseline on the same rows; write metrics.json, plots, the report and the model card."""

import json
import shutil
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kineflow import tables
from kineflow.atomic import write_text
from kineflow.errors import DataError
from kineflow.evaluation import baseline_features, baselines
from kineflow.evaluation.metrics import confusion_matrix
from kineflow.evaluation.model_card import write_model_card
from kineflow.evaluation.predictions import Examples, LabelsOfVideo, Predictions, make_examples
from kineflow.evaluation.report import ReportInput, write_report
from kineflow.evaluation.summary import Evaluation, baseline_warnings, fusion_sentence, summary_rows
from kineflow.evaluation.test_looks import log_test_look
from kineflow.params import Params
from kineflow.stages import paths
from kineflow.stages.prediction_gate import read_checked_predictions
from kineflow.stages.scored_rows import labels_of_videos
from kineflow.stages.stage import StageReport
from kineflow.store import ResultStore, home, is_npy
from kineflow.validation.verdict import read_verdict
from kineflow.video.frame_store import FrameReader

PARAMS = (
    "task",
    "streams",
    "distill.enabled",
    "evaluate",
    "release",
    "splits",
    "clips",
    "frames.fps",
    "data.name",
    "validation.severity",
)
GATES = (paths.GATE_RAW, paths.GATE_DATASET, paths.GATE_PREDICTIONS)


def run(params: Params, report: StageReport) -> None:
    """Write metrics.json, reports/plots/, reports/report.html and reports/model_card.md if the predictions are fit.

    Raises:
        GateError: the predictions break a rule of severity `stop`.
    """
    videos = tables.read_table(paths.VIDEOS, tables.VIDEOS)
    clips = tables.read_table(paths.CLIPS, tables.CLIPS)
    folds = tables.read_table(paths.FOLDS, tables.FOLDS)
    names = [*params.streams.enabled, *(["student"] if params.distill.enabled else [])]
    summaries = {name: _model_summary(name) for name in names}
    classes = _common_classes(summaries)
    labels_of = labels_of_videos(params, videos, classes)
    evaluation = _evaluate(params, report, videos, clips, folds, names, classes, labels_of)
    metrics = evaluation.metrics()
    curves = _curves(names)
    _write_plots(evaluation, curves)
    source = ReportInput(
        data_name=params.data.name,
        form=params.release.form,
        splits=params.splits.kind,
        evaluation=evaluation,
        metrics=metrics,
        videos=videos,
        clips=clips,
        folds=folds,
        curves=curves,
        models=summaries,
        gates=[read_verdict(path) for path in GATES if path.is_file()],
        frames_per_sec=params.frames.fps,
        frames_of=lambda video_id: FrameReader(paths.FRAMES / f"{video_id}.zip"),
        labels_of=labels_of,
    )
    write_report(paths.REPORT_HTML, source)
    write_model_card(paths.MODEL_CARD, source)
    write_text(paths.METRICS, json.dumps(metrics, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    for row in summary_rows(metrics):
        name, spread, test = row.cells
        report.note(f"{name:<10} {evaluation.headline} {spread}   test {test}")
    if metrics["fusion"]:
        report.note(fusion_sentence(metrics))
    for sentence in baseline_warnings(metrics, params.release.stream):
        report.note(f"warning: {sentence}")


def _evaluate(
    params: Params,
    report: StageReport,
    videos: pd.DataFrame,
    clips: pd.DataFrame,
    folds: pd.DataFrame,
    names: list[str],
    classes: tuple[str, ...],
    labels_of: LabelsOfVideo,
) -> Evaluation:
    task, labels = params.task, params.labels
    val = make_examples(task, clips, folds, role="val", classes=classes, labels=labels, labels_of=labels_of)
    test = make_examples(task, clips, folds, role="test", classes=classes, labels=labels, labels_of=labels_of)
    if val is None:
        raise DataError(f"{paths.FOLDS}: no clip has the role val, so nothing can be cross-validated")
    groups_N = _groups(clips, val)
    checked = read_checked_predictions(params, report, names, val=val, test=test, groups_N=groups_N)
    if test is not None:
        log_test_look(home(), by="evaluate", models=names, clip_ids=test.rows["clip_id"])
    report.items = len(val.rows) + (0 if test is None else len(test.rows))
    scored = _baselines(params, report, videos, clips, folds, classes, labels_of)
    return Evaluation(
        task=task,
        classes=classes,
        val=val,
        test=test,
        cv=checked.cv,
        on_test=checked.on_test,
        baselines=tuple(scored),
        release=params.release.stream,
        fusion=checked.fusion,
    )


def _groups(clips: pd.DataFrame, examples: Examples) -> NDArray[np.object_]:
    """The group of each row."""
    return clips.set_index("clip_id")["group"].reindex(examples.rows["clip_id"]).to_numpy(dtype=object)


def _baselines(
    params: Params,
    report: StageReport,
    videos: pd.DataFrame,
    clips: pd.DataFrame,
    folds: pd.DataFrame,
    classes: tuple[str, ...],
    labels_of: LabelsOfVideo,
) -> list[baselines.BaselineScores]:
    once = pd.DataFrame({"clip_id": sorted(folds["clip_id"].unique()), "role": "any", "fold": 0})
    rows = make_examples(
        params.task, clips, once, role="any", classes=classes, labels=params.labels, labels_of=labels_of
    )
    assert rows is not None
    splits = baselines.make_splits(rows, folds)
    scored = []
    for name in params.evaluate.baselines:
        if name == "hof" and paths.is_disabled(paths.FLOW):
            report.note("the baseline hof is left out, for there is no flow store")
            continue
        print(f"{report.stage}: baseline {name}", flush=True)
        scored.append(_baseline(name, params, rows, splits, videos, clips))
    return scored


def _baseline(
    name: str,
    params: Params,
    rows: Examples,
    splits: list[baselines.Split],
    videos: pd.DataFrame,
    clips: pd.DataFrame,
) -> baselines.BaselineScores:
    rate = params.frames.fps
    if name == "majority":
        return baselines.majority(rows, splits)
    if name == "metadata":
        features_of = baseline_features.metadata_features(rows, videos, clips, frames_per_sec=rate)
        return baselines.metadata(rows, splits, features_of)
    if name == "embedding":
        features_of = baseline_features.embedding_features(rows, lambda video_id: paths.EMBEDDINGS / f"{video_id}.npy")
        return baselines.embedding(rows, splits, features_of)
    store = ResultStore(home() / "store" / "hof", is_whole=is_npy)
    features_of = baseline_features.hof_features(
        rows, clips, lambda video_id: paths.FLOW / f"{video_id}.zip", store, frames_per_sec=rate
    )
    return baselines.hof_grid(rows, splits, features_of, _groups(clips, rows))


def _model_summary(name: str) -> dict[str, Any]:
    path = paths.MODELS / name / "summary.json"
    if not path.is_file():
        stage = "distill" if name == "student" else f"train@{name}"
        raise DataError(f"{path} is not there; run the stage {stage}")
    summary: dict[str, Any] = json.loads(path.read_text())
    return summary


def _common_classes(summaries: dict[str, dict[str, Any]]) -> tuple[str, ...]:
    first, *others = summaries
    for name in others:
        if summaries[name]["classes"] != summaries[first]["classes"]:
            raise DataError(f"models {first} and {name} have different classes; train both again")
    return tuple(summaries[first]["classes"])


def _curves(names: list[str]) -> pd.DataFrame:
    columns = ["fold", "epoch", "train_loss", "train_loss_labels", "val_loss"]
    read = [pd.read_csv(paths.MODELS / name / "curves.csv")[columns].assign(stream=name) for name in names]
    with_rows = [table for table in read if len(table)] or read[:1]  # fv has no epochs
    return pd.concat(with_rows, ignore_index=True)[["stream", *columns]]


def _write_plots(evaluation: Evaluation, curves: pd.DataFrame) -> None:
    """Tables that `dvc plots` draws: confusion.csv (actual, predicted) and curves.csv."""
    shutil.rmtree(paths.PLOTS, ignore_errors=True)
    paths.PLOTS.mkdir(parents=True)
    released = evaluation.cv[evaluation.release]
    pairs = _confusion_rows(evaluation, released)
    pairs.to_csv(paths.PLOTS / "confusion.csv", index=False)
    curves.to_csv(paths.PLOTS / "curves.csv", index=False, float_format="%.6g")


def _confusion_rows(evaluation: Evaluation, released: Predictions) -> pd.DataFrame:
    """One row for each scored clip or frame; of independent labels: for each where exactly one of them holds."""
    probs_NK, truth = released.probs_NK, evaluation.val.truth
    if evaluation.labels == "independent":
        single_N = np.isfinite(truth).all(axis=1) & (np.nan_to_num(truth).sum(axis=1) == 1)
        probs_NK, truth = probs_NK[single_N], truth[single_N].argmax(axis=1).astype(np.float64)
    if not len(probs_NK):
        return pd.DataFrame(columns=["actual", "predicted"])
    matrix = confusion_matrix(probs_NK, truth)
    names = np.array(evaluation.classes)
    actual, predicted = np.divmod(np.repeat(np.arange(matrix.size), matrix.ravel()), len(names))
    return pd.DataFrame({"actual": names[actual], "predicted": names[predicted]})
