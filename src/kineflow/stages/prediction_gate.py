"""The gate between the models and their scores: what is scored are probabilities of the right clips, each once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kineflow.evaluation.fusion import Fusion, fit_fusion, fuse
from kineflow.evaluation.predictions import Examples, Predictions, read_predictions
from kineflow.params import Params
from kineflow.stages import paths
from kineflow.stages.stage import StageReport
from kineflow.store import home
from kineflow.tables import LOGITS, read_table
from kineflow.validation.catalogue import rule_names
from kineflow.validation.gate import open_gate, run_gate
from kineflow.validation.prediction_facts import prediction_facts, probability_facts, rows_fit
from kineflow.validation.prediction_rules import prediction_rules
from kineflow.validation.rules import with_severities


@dataclass(frozen=True)
class Checked:
    """Predictions that the gate let through.

    Args:
        cv, on_test: by model, the fusion among them; `on_test` is empty without a test set.
        fusion: how the streams are fused; None if there is one.
    """

    cv: dict[str, Predictions]
    on_test: dict[str, Predictions]
    fusion: Fusion | None


def read_checked_predictions(
    params: Params,
    report: StageReport,
    names: Sequence[str],
    *,
    val: Examples,
    test: Examples | None,
    groups_N: NDArray[np.object_],
) -> Checked:
    """The predictions of every model and of their fusion; write reports/gates/predictions.json if they are fit.

    Args:
        names: of the models.
        val, test: the rows to be scored.
        groups_N: of the rows of `val`.

    Raises:
        GateError: a rule of severity `stop` is broken.
        DataError: a file is missing, or its classes are not those of the examples.
        ParamsError: `validation.severity` names an unknown rule.
    """
    examples = {"oof": val} if test is None else {"oof": val, "test": test}  # by the file that holds their logits
    rules = prediction_rules(labels=params.labels)
    rules = with_severities(rules, params.validation.severity, known_names=rule_names())
    of_rows = pd.concat(
        prediction_facts(
            {name: read_table(paths.MODELS / name / f"{file}.parquet", LOGITS) for name in names}, of_file.window_rows
        )
        for file, of_file in examples.items()
    )
    # what does not fit its rows cannot be read as probabilities of them: then the rules on rows say why
    read = _read(params, names, examples, groups_N) if rows_fit(of_rows) else None
    scored = [] if read is None else [(read.cv, val), (read.on_test, test)]
    of_probs = [
        probability_facts(params.labels, {name: of_model.probs_NK for name, of_model in found.items()}, of_file.rows)
        for found, of_file in scored
        if of_file is not None
    ]
    none = probability_facts(params.labels, {}, pd.DataFrame({"fold": [], "clip_id": []}))
    facts = {
        "predictions": of_rows.reset_index(drop=True),
        "probabilities": pd.concat([none[0], *(clips for clips, _ in of_probs)], ignore_index=True),
        "models": pd.concat([none[1], *(models for _, models in of_probs)], ignore_index=True),
    }
    result = run_gate("predictions", rules, facts, docs_dir=home() / "data_docs")
    for line in result.summary():
        report.note(line)
    open_gate(result, paths.GATE_PREDICTIONS)
    if read is None:  # a rule that only warns lets nothing through that does not fit
        read = _read(params, names, examples, groups_N)
    return read


def _read(
    params: Params, names: Sequence[str], examples: Mapping[str, Examples], groups_N: NDArray[np.object_]
) -> Checked:
    """Each file's streams in their order, their fusion after them, the student last."""
    read = {
        file: {name: read_predictions(paths.MODELS / name / f"{file}.parquet", name, of_file) for name in names}
        for file, of_file in examples.items()
    }
    cv, on_test = read["oof"], read.get("test", {})
    streams = params.streams.enabled
    if len(streams) < 2:
        return Checked(cv, on_test, None)
    fusion = fit_fusion([cv[name] for name in streams], groups_N, rule=params.evaluate.fusion)
    cv = _in_order(cv, fusion.out_of_fold)
    if on_test:
        on_test = _in_order(on_test, fuse([on_test[name] for name in streams], fusion.weights))
    return Checked(cv, on_test, fusion)


def _in_order(read: Mapping[str, Predictions], fused: Predictions) -> dict[str, Predictions]:
    student = {"student": read["student"]} if "student" in read else {}
    return {name: of_model for name, of_model in read.items() if name != "student"} | {"fusion": fused} | student
