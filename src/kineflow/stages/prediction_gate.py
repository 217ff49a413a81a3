"""The gate between the models and their scores: what is scored are probabilities of the right clips, each once."""

from collections.abc import Mapping, Sequence

import pandas as pd

from kineflow.evaluation.fusion import fuse_equal
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


def read_checked_predictions(
    params: Params, report: StageReport, names: Sequence[str], examples: Mapping[str, Examples]
) -> dict[str, dict[str, Predictions]]:
    """The predictions of every model and of their fusion; write reports/gates/predictions.json if they are fit.

    Args:
        names: of the models.
        examples: the rows to be scored, by the name of the models' file that holds their logits.

    Returns:
        predictions by model, for each of `examples`.

    Raises:
        GateError: a rule of severity `stop` is broken.
        DataError: a file is missing, or its classes are not those of the examples.
        ParamsError: `validation.severity` names an unknown rule.
    """
    rules = prediction_rules(labels=params.labels)
    rules = with_severities(rules, params.validation.severity, known_names=rule_names())
    of_rows = pd.concat(
        prediction_facts(
            {name: read_table(paths.MODELS / name / f"{file}.parquet", LOGITS) for name in names}, of_file.window_rows
        )
        for file, of_file in examples.items()
    )
    # what does not fit its rows cannot be read as probabilities of them: then the rules on rows say why
    read = _read(params, names, examples if rows_fit(of_rows) else {})
    of_probs = [
        probability_facts(
            params.labels, {name: of_model.probs_NK for name, of_model in read[file].items()}, examples[file].rows
        )
        for file in read
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
    return read or _read(params, names, examples)  # a rule that only warns lets nothing through that does not fit


def _read(params: Params, names: Sequence[str], examples: Mapping[str, Examples]) -> dict[str, dict[str, Predictions]]:
    return {
        file: _with_fusion(
            params,
            {name: read_predictions(paths.MODELS / name / f"{file}.parquet", name, of_file) for name in names},
        )
        for file, of_file in examples.items()
    }


def _with_fusion(params: Params, read: dict[str, Predictions]) -> dict[str, Predictions]:
    """The streams in their order, their fusion after them, the student last."""
    student = read.pop("student", None)
    if len(params.streams.enabled) > 1:
        read["fusion"] = fuse_equal([read[name] for name in params.streams.enabled])
    return read | ({"student": student} if student else {})
