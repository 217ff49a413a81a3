"""The report: one HTML file that needs nothing else, with the same bytes for the same input."""

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kineflow.atomic import write_text
from kineflow.data.probabilities import Floats
from kineflow.evaluation import plots
from kineflow.evaluation.balance import Balance, balance_of
from kineflow.evaluation.metrics import THRESHOLD, ClassRow, class_table, confusion_matrix, metric_names
from kineflow.evaluation.predictions import LabelsOfVideo, Predictions
from kineflow.evaluation.summary import Evaluation, baseline_warnings, fusion_parts, missed_most
from kineflow.video.frame_store import FrameReader

NUM_MISTAKES = 12
NUM_THUMBNAILS = 5  # of a mistake, spread over its clip
THUMBNAIL_PX = 84  # height
NUM_ETHOGRAMS = 6
MEANINGS = {
    "video_top1_acc": "share of clips whose most probable class is the true one",
    "video_macro_f1": "F1 (harmonic mean of precision and recall) of each class, averaged: rare classes weigh as much",
    "video_mean_class_acc": "share found of each class, averaged over the classes",
    "video_mAP": "area under each class's precision-recall curve, averaged: how well clips are ranked",
    "video_exact_match": "share of clips whose set of labels is told exactly, at probability 0.5",
    "video_log_loss": "mean surprise at the truth in nats; lower is better, and errors made with certainty cost most",
    "frame_macro_f1": "F1 of each behaviour, averaged: rare behaviours weigh as much",
    "frame_mAP": "area under each behaviour's precision-recall curve, averaged: how well frames are ranked",
    "frame_top1_acc": "share of the frames with exactly one behaviour where that is the most probable one",
    "frame_mean_class_acc": "share found of the frames of each class, averaged over the classes",
    "frame_log_loss": "mean surprise at the truth in nats; lower is better, and errors made with certainty cost most",
}
BASELINES = {
    "majority": "the class counts alone",
    "metadata": "duration, size and frame rate, without looking",
    "hof": "a histogram of motion on a grid and a linear SVM",
    "embedding": "a linear layer on the features of single frames",
}


@dataclass(frozen=True)
class ReportInput:
    """What the report and the model card show.

    Args:
        form: of the release: refit or fold_ensemble.
        splits: how the folds were made: group_kfold, leave_one_group_out, official or file.
        metrics: the content of metrics.json.
        curves: stream, fold, epoch, train_loss_labels, val_loss.
        models: `summary.json` of each trained model by stream.
        gates: verdicts of the gates.
        frames_of: opens the frame store of a video, for thumbnails.
        labels_of: labels of a video's extracted frames; task frame.
    """

    data_name: str
    form: str
    splits: str
    evaluation: Evaluation
    metrics: Mapping[str, Any]
    videos: pd.DataFrame
    clips: pd.DataFrame
    folds: pd.DataFrame
    curves: pd.DataFrame
    models: Mapping[str, Mapping[str, Any]]
    gates: Sequence[Mapping[str, Any]]
    frames_per_sec: float
    frames_of: Callable[[str], FrameReader]
    labels_of: LabelsOfVideo


def write_report(path: Path, source: ReportInput) -> None:
    """Render the report to `path`, whole or not at all."""
    write_text(path, render_report(source))


def render_report(source: ReportInput) -> str:
    """The report as HTML."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("kineflow.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        score=shown_score,
        difference=shown_difference,
        percent=shown_percent,
        svg=_markup,
        count=lambda number: f"{number:,}",
    )
    return environment.get_template("report.html.j2").render(**_context(source))


def score_rows(source: ReportInput) -> list[dict[str, Any]]:
    """The lines of the table of scores: name, kind, the release mark, and each metric's mean, std and test."""
    evaluation, metrics = source.evaluation, source.metrics
    rows = []
    for kind, section in (("stream", metrics["cv"]), ("baseline", metrics["baselines"])):
        for name, values in section.items():
            cells = []
            for metric in metric_names(evaluation.task, evaluation.labels):
                value = values.get(metric, {"mean": None, "std": None})
                test = value.get("test") if kind == "baseline" else (metrics["test"] or {}).get(name, {}).get(metric)
                cells.append({"mean": value["mean"], "std": value["std"], "test": test})
            released = kind == "stream" and name == evaluation.release
            rows.append({"name": name, "kind": kind, "released": released, "cells": cells})
    return rows


def gate_warnings(gates: Sequence[Mapping[str, Any]]) -> list[str]:
    """One sentence for each rule of a gate that only warned."""
    return [
        f"Gate {gate['gate']}: the rule {rule['name']} is broken by {rule['broken']} of {rule['checked']}, "
        f"for example {rule['examples'][0]}."
        for gate in gates
        for rule in gate["rules"]
        if rule["broken"]
    ]


def released_class_table(source: ReportInput) -> list[ClassRow]:
    """Per class, the released stream's out-of-fold predictions."""
    evaluation = source.evaluation
    released = evaluation.cv[evaluation.release]
    return class_table(released.probs_NK, evaluation.val.truth, evaluation.classes)


def balance(source: ReportInput) -> Balance:
    """How evenly the folds share each class."""
    evaluation = source.evaluation
    return balance_of(evaluation.val, evaluation.test, source.clips, source.folds, kind=source.splits)


def _context(source: ReportInput) -> dict[str, Any]:
    evaluation = source.evaluation
    names = metric_names(evaluation.task, evaluation.labels)
    quarantined = source.videos[source.videos["status"] != "ok"].sort_values("video_id")
    test_metrics = (source.metrics["test"] or {}).get(evaluation.release, {})
    return {
        "data_name": source.data_name,
        "task": evaluation.task,
        "labels": evaluation.labels,
        "classes": evaluation.classes,
        "release": evaluation.release,
        "form": source.form.replace("_", " "),
        "splits": source.splits.replace("_", " "),
        "metric_names": names,
        "meanings": [(name, MEANINGS[name]) for name in names],
        "baselines": [(name, BASELINES[name]) for name in source.metrics["baselines"]],
        "headline": evaluation.headline,
        "headline_cv": source.metrics["cv"][evaluation.release][evaluation.headline],
        "headline_test": test_metrics.get(evaluation.headline),
        "has_test": evaluation.test is not None,
        "num_test_rows": 0 if evaluation.test is None else len(evaluation.test.rows),
        "num_rows": len(evaluation.val.rows),
        "num_folds": len(evaluation.val.folds),
        "num_repeats": len(evaluation.val.rows) // len(evaluation.val.rows.drop_duplicates(["clip_id", "frame"])),
        "facts": _facts(source),
        "score_rows": score_rows(source),
        "fusion": source.metrics["fusion"],
        "fusion_parts": fusion_parts(source.metrics),
        "missed_most": missed_most(fusion_parts(source.metrics)),
        "warnings": [*baseline_warnings(source.metrics, evaluation.release), *gate_warnings(source.gates)],
        "dot_plot": plots.dot_plot(_dot_rows(source), metric=evaluation.headline),
        "confusion_plot": _confusion(evaluation),
        "class_rows": released_class_table(source),
        "curve_plots": _curve_plots(source.curves),
        "balance": balance(source),
        "group_rows": _group_rows(source),
        "quarantined": [(row.video_id, row.reason) for row in quarantined.itertuples()],
        "models": source.models,
        "mistakes": _mistakes(source) if evaluation.task == "clip" else [],
        "num_mistakes": _num_mistakes(evaluation),
        "ethograms": _ethograms(source) if evaluation.task == "frame" else [],
    }


def _facts(source: ReportInput) -> list[tuple[str, str]]:
    evaluation, ok = source.evaluation, source.videos[source.videos["status"] == "ok"]
    unit = "clips" if evaluation.task == "clip" else "labelled windows"
    minutes = float(ok["duration_sec"].sum()) / 60
    length = f"{minutes / 60:.1f} h" if minutes >= 60 else f"{minutes:.1f} min"
    return [
        ("videos", f"{len(ok):,}"),
        ("of footage", length),
        (unit, f"{source.folds['clip_id'].nunique():,}"),
        ("groups", f"{source.clips['group'].nunique():,}"),
        ("classes" if evaluation.task == "clip" else "behaviours", f"{len(evaluation.classes):,}"),
        ("folds", f"{len(evaluation.val.folds):,}"),
    ]


def _dot_rows(source: ReportInput) -> list[plots.DotRow]:
    rows = []
    for row in score_rows(source):
        section = source.metrics["cv" if row["kind"] == "stream" else "baselines"]
        values = section[row["name"]].get(source.evaluation.headline)
        if values is not None:
            folds = tuple(math.nan if value is None else float(value) for value in values["folds"])
            mean = math.nan if values["mean"] is None else float(values["mean"])
            css_class = f"c-{row['name']}" if row["kind"] == "stream" else "c-baseline"
            rows.append(plots.DotRow(row["name"], css_class, folds, mean, row["cells"][0]["test"], row["released"]))
    return rows


def _confusion(evaluation: Evaluation) -> str | None:
    if evaluation.labels != "exclusive":
        return None
    released = evaluation.cv[evaluation.release]
    matrix = confusion_matrix(released.probs_NK, evaluation.val.truth)
    return plots.confusion_plot(matrix, evaluation.classes)


def _curve_plots(curves: pd.DataFrame) -> list[tuple[str, str]]:
    from_one = curves.assign(epoch=curves["epoch"] + 1)  # as the best epochs in the table of models are counted
    by_stream = {str(name): rows for name, rows in from_one.groupby("stream", sort=False) if len(rows)}
    y_max = plots.loss_axis_max(by_stream)
    return [
        (name, plots.curve_plot(rows, css_class=f"c-{name}", name=name, y_max=y_max))
        for name, rows in by_stream.items()
    ]


def _group_rows(source: ReportInput) -> list[tuple[str, str]]:
    held_out = source.folds[source.folds["role"] != "train"].merge(source.clips[["clip_id", "group"]], on="clip_id")
    rows = []
    for (role, fold), part in held_out.groupby(["role", "fold"]):
        name = "test" if role == "test" else f"fold {fold}"
        rows.append((name, ", ".join(sorted(part["group"].astype(str).unique()))))
    return sorted(rows, key=lambda row: (row[0] == "test", len(row[0]), row[0]))


def _num_mistakes(evaluation: Evaluation) -> int:
    return int(_wrong(evaluation)[0].sum()) if evaluation.task == "clip" else 0


def _wrong(evaluation: Evaluation) -> tuple[NDArray[np.bool_], Floats, NDArray[np.bool_], NDArray[np.bool_]]:
    """What the released stream says of each clip out of fold.

    Returns:
        (N,) whether it is wrong; (N,) how surely: the probability of the class that is said, or the largest error of
        several labels; (N, K) what is said; (N, K) what is true.
    """
    probs_NK, truth = evaluation.cv[evaluation.release].probs_NK, evaluation.val.truth
    if evaluation.labels == "exclusive":
        one_hot_KK = np.eye(len(evaluation.classes), dtype=bool)
        said_NK, true_NK = one_hot_KK[probs_NK.argmax(axis=1)], one_hot_KK[truth.astype(np.int64)]
        return (said_NK != true_NK).any(axis=1), probs_NK.max(axis=1), said_NK, true_NK
    said_NK, true_NK = probs_NK >= THRESHOLD, truth == 1
    return (said_NK != true_NK).any(axis=1), np.abs(probs_NK - true_NK).max(axis=1), said_NK, true_NK


def _mistakes(source: ReportInput) -> list[dict[str, Any]]:
    """The wrong out-of-fold predictions of the released stream, the most confident first."""
    evaluation = source.evaluation
    probs_NK = evaluation.cv[evaluation.release].probs_NK
    wrong_N, confidence_N, said_NK, true_NK = _wrong(evaluation)
    wrong = np.flatnonzero(wrong_N)
    wrong = wrong[np.lexsort((wrong, -np.round(confidence_N[wrong], 6)))][:NUM_MISTAKES]
    spans = source.clips.set_index("clip_id")[["start_frame", "stop_frame"]]
    found = []
    for i in wrong:
        row = evaluation.val.rows.iloc[i]
        start, stop = (int(value) for value in spans.loc[row["clip_id"]])
        found.append(
            {
                "video_id": row["video_id"],
                "fold": int(row["fold"]),
                "start_sec": start / source.frames_per_sec,
                "stop_sec": stop / source.frames_per_sec,
                "said": _with_probs(said_NK[i], probs_NK[i], evaluation.classes),
                "truth": _with_probs(true_NK[i], probs_NK[i], evaluation.classes),
                "thumbnails": _thumbnails(source.frames_of, row["video_id"], start, stop),
            }
        )
    return found


def _with_probs(holds_K: NDArray[np.bool_], probs_K: Floats, classes: Sequence[str]) -> list[tuple[str, float | None]]:
    """The classes that hold with their probabilities; `none of the classes` without one."""
    rows = zip(classes, probs_K, holds_K, strict=True)
    named: list[tuple[str, float | None]] = [(name, float(prob)) for name, prob, holds in rows if holds]
    return named or [("none of the classes", None)]


def _thumbnails(frames_of: Callable[[str], FrameReader], video_id: str, start: int, stop: int) -> list[str]:
    import cv2
    import simplejpeg

    indices = np.linspace(start, stop - 1, NUM_THUMBNAILS).round().astype(np.int64)
    with frames_of(video_id) as reader:
        frames_THWC = reader.read(np.minimum(indices, reader.num_frames - 1))
    height, width = frames_THWC.shape[1:3]
    size = (max(1, round(width * THUMBNAIL_PX / height)), THUMBNAIL_PX)
    way = cv2.INTER_AREA if height > THUMBNAIL_PX else cv2.INTER_LINEAR
    small = [np.ascontiguousarray(cv2.resize(frame_HWC, size, interpolation=way)) for frame_HWC in frames_THWC]
    return [base64.b64encode(simplejpeg.encode_jpeg(image, quality=82)).decode() for image in small]


def _ethograms(source: ReportInput) -> list[dict[str, Any]]:
    """Videos of as many folds as possible, each with its whole timeline."""
    evaluation = source.evaluation
    released = evaluation.cv[evaluation.release]
    first = evaluation.val.rows.drop_duplicates(["fold", "video_id"])[["fold", "video_id"]]
    first = first.assign(turn=first.groupby("fold").cumcount()).sort_values(["turn", "fold"], kind="stable")
    return [_ethogram(source, released, int(row.fold), row.video_id) for row in first[:NUM_ETHOGRAMS].itertuples()]


def _ethogram(source: ReportInput, released: Predictions, fold: int, video_id: str) -> dict[str, Any]:
    evaluation, classes = source.evaluation, source.evaluation.classes
    rows = released.examples.rows
    index = np.flatnonzero(((rows["fold"] == fold) & (rows["video_id"] == video_id)).to_numpy())
    truth_TK = source.labels_of(video_id)
    probs_TK = np.full(truth_TK.shape, np.nan)
    probs_TK[rows["frame"].to_numpy()[index]] = released.probs_NK[index]
    if evaluation.labels == "exclusive":  # one class in each frame, the most probable one
        scored_T = np.isfinite(probs_TK).all(axis=1)
        probs_TK[scored_T] = np.eye(len(classes))[probs_TK[scored_T].argmax(axis=1)]
    plot = plots.ethogram_plot(truth_TK, probs_TK, classes, frames_per_sec=source.frames_per_sec)
    return {"video_id": video_id, "fold": fold, "plot": plot}


def shown_score(value: float | None, digits: int = 3) -> str:
    """A score as text; a dash where there is none."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def shown_difference(value: float | None) -> str:
    """A difference of scores as text; a dash where there is none."""
    return shown_score(value if value is None or abs(value) >= 0.0005 else 0.0).replace("-", "−")


def shown_percent(value: float) -> str:
    """A deviation as text, with its sign."""
    return "±0%" if abs(value) < 0.005 else f"{value:+.0%}".replace("-", "−")


def _markup(text: str) -> Any:
    from markupsafe import Markup

    return Markup(text)  # SVG of plots.py, which escapes every name
