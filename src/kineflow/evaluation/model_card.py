"""The model card: what the released model is for, what it was made from, how good it is, where it fails."""

from pathlib import Path
from typing import Any

from kineflow.atomic import write_text
from kineflow.evaluation.metrics import metric_names
from kineflow.evaluation.report import (
    MEANINGS,
    ReportInput,
    balance,
    gate_warnings,
    released_class_table,
    shown_score,
)
from kineflow.evaluation.summary import baseline_warnings, fusion_parts, summary_rows

FEW_POSITIVES = 20
WEAK_F1 = 0.5


def write_model_card(path: Path, source: ReportInput) -> None:
    """Write the card to `path`, whole or not at all."""
    write_text(path, render_model_card(source))


def render_model_card(source: ReportInput) -> str:
    """The card as Markdown."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("kineflow.evaluation"),
        autoescape=False,  # Markdown, not HTML
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(score=shown_score, cell=lambda text: str(text).replace("|", "\\|"))
    return environment.get_template("model_card.md.j2").render(**_context(source))


def limitations(source: ReportInput) -> list[str]:
    """What the numbers say against the model, one sentence each; those of any small data set last."""
    evaluation = source.evaluation
    found = baseline_warnings(source.metrics, evaluation.release) + gate_warnings(source.gates)
    rows = released_class_table(source)
    unit = "clips" if evaluation.task == "clip" else "frames"
    weak = [row.name for row in rows if row.support and row.f1 < WEAK_F1]
    few = [row.name for row in rows if row.support < FEW_POSITIVES]
    if weak:
        found.append(f"F1 below {WEAK_F1}: {', '.join(weak)}.")
    if few:
        found.append(f"Fewer than {FEW_POSITIVES} {unit}, so their scores are rough: {', '.join(few)}.")
    if evaluation.test is None:
        found.append("No test set was held out; epochs and settings may be fitted to the folds.")
    groups = source.clips["group"].nunique()
    found.append(f"Trained on {groups} groups only; on new ones expect about the spread of the folds, or worse.")
    return found


def _context(source: ReportInput) -> dict[str, Any]:
    evaluation, ok = source.evaluation, source.videos[source.videos["status"] == "ok"]
    quarantined = source.videos[source.videos["status"] != "ok"].sort_values("video_id")
    table = balance(source)
    held_out = [i for i, (_, role) in enumerate(table.columns) if role != "train"]
    action = "Labels clips" if evaluation.task == "clip" else "Labels every frame"
    return {
        "data_name": source.data_name,
        "what": f"{action} of videos like those of the data set `{source.data_name}`; trained by Kineflow.",
        "task": evaluation.task,
        "labels": evaluation.labels,
        "classes": evaluation.classes,
        "release": evaluation.release,
        "form": source.form.replace("_", " "),
        "splits": source.splits.replace("_", " "),
        "models": source.models,
        "fusion_parts": fusion_parts(source.metrics),
        "num_videos": len(ok),
        "minutes": f"{ok['duration_sec'].sum() / 60:.1f}",
        "num_clips": source.folds["clip_id"].nunique(),
        "num_groups": source.clips["group"].nunique(),
        "frames_per_sec": f"{source.frames_per_sec:g}",
        "quarantined": [(row.video_id, row.reason) for row in quarantined.itertuples()],
        "balance_columns": [table.columns[i][0] for i in held_out],
        "balance_rows": [(name, [cells[i].count for i in held_out]) for name, cells in table.rows.items()],
        "num_folds": len(evaluation.val.folds),
        "has_test": evaluation.test is not None,
        "num_test_rows": 0 if evaluation.test is None else len(evaluation.test.rows),
        "tables": [
            (name, [row.cells for row in summary_rows(source.metrics, name)])
            for name in metric_names(evaluation.task, evaluation.labels)
        ],
        "meanings": MEANINGS,
        "class_rows": released_class_table(source),
        "limitations": limitations(source),
    }
