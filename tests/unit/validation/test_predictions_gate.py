"""Each rule of the gate `predictions` against tables that break it, and nothing else."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from kineflow.validation.catalogue import catalogue
from kineflow.validation.gate import GateResult, run_gate
from kineflow.validation.prediction_facts import prediction_facts, probability_facts, rows_fit
from kineflow.validation.prediction_rules import prediction_rules
from tests.unit.validation.documented import documented_failure

Case = dict[str, pd.DataFrame | NDArray[np.float64]]
CLIPS = ["a#0-20", "b#0-20", "c#0-20"]


def good_case() -> Case:
    """Two folds of two clips and one, as a model predicts them."""
    expected = pd.DataFrame({"fold": [0, 0, 1], "clip_id": CLIPS, "video_id": ["a", "b", "c"], "frame": -1})
    logits = expected.assign(model="rgb", frame=pd.array([None] * 3, "Int64"), groom=[1.0, 0.0, 2.0], rest=[0.0, 1, 0])
    return {"expected": expected, "logits": logits, "probs": np.array([[0.7, 0.3], [0.3, 0.7], [0.9, 0.1]])}


def broken_by(change: Callable[[Case], None], labels: str = "exclusive") -> GateResult:
    case = good_case()
    change(case)
    expected, logits, probs_NK = case["expected"], case["logits"], case["probs"]
    assert isinstance(expected, pd.DataFrame) and isinstance(logits, pd.DataFrame) and isinstance(probs_NK, np.ndarray)
    clips, models = probability_facts(labels, {"rgb": probs_NK}, expected)
    facts = {"predictions": prediction_facts({"rgb": logits}, expected), "probabilities": clips, "models": models}
    return run_gate("predictions", prediction_rules(labels=labels), facts, docs_dir=None)


def add_row(fold: int, clip_id: str) -> Callable[[Case], None]:
    def change(case: Case) -> None:
        logits = case["logits"]
        assert isinstance(logits, pd.DataFrame)
        row = logits.iloc[:1].assign(fold=fold, clip_id=clip_id, video_id=clip_id[0])
        case["logits"] = pd.concat([logits, row], ignore_index=True)

    return change


def add_nameless_row(case: Case) -> None:
    logits = case["logits"]
    assert isinstance(logits, pd.DataFrame)
    case["logits"] = pd.concat([logits, logits.iloc[:1].assign(video_id=None)], ignore_index=True)


def drop_row(case: Case) -> None:
    case["logits"] = case["logits"][1:]


def diverge(case: Case) -> None:
    case["logits"].loc[2, "rest"] = np.nan  # type: ignore[union-attr]


def set_probs(*rows: tuple[float, float]) -> Callable[[Case], None]:
    def change(case: Case) -> None:
        case["probs"] = np.array(rows)

    return change


BROKEN: list[tuple[str, Callable[[Case], None], str]] = [
    ("prediction_of_scored_clip", add_row(1, "a#0-20"), "rgb: clip a#0-20 of fold 1 (rows: not to be scored)"),
    ("prediction_of_scored_clip", add_row(-1, "d#0-20"), "rgb: clip d#0-20 of test (rows: not to be scored)"),
    ("prediction_of_scored_clip", add_nameless_row, "rgb: clip a#0-20 of fold 0 (rows: not to be scored)"),
    ("clip_predicted", drop_row, "rgb: clip a#0-20 of fold 0 (missing: 1)"),
    ("clip_predicted_once", add_row(0, "a#0-20"), "rgb: clip a#0-20 of fold 0 (repeated: 1)"),
    ("prediction_finite", diverge, "rgb: clip c#0-20 of fold 1 (not finite: 1)"),
    ("probabilities_in_range", set_probs((1.1, -0.1), (0, 1), (0, 1)), "rgb: clip a#0-20 of fold 0 (out of range: 1)"),
    ("probabilities_in_range", set_probs((np.nan, 1), (0, 1), (0, 1)), "rgb: clip a#0-20 of fold 0 (out of range: 1)"),
    ("probabilities_sum_to_one", set_probs((1, 0), (0.5, 0.4), (0, 1)), "rgb: clip b#0-20 of fold 0 (sum error: 0.1)"),
    ("predictions_vary", set_probs((0.5, 0.5), (0.5, 0.5), (0.5005, 0.4995)), "model rgb (largest spread: 0.0005)"),
]  # fmt: skip
FIRST_CASES = {name: change for name, change, _ in reversed(BROKEN)}


@pytest.mark.parametrize(("name", "change", "example"), BROKEN, ids=[row[0] for row in BROKEN])
def test_a_broken_rule_names_what_breaks_it(name: str, change: Callable[[Case], None], example: str) -> None:
    result = broken_by(change)
    broken = {found.rule.name: found for found in (*result.failures, *result.warnings)}
    assert set(broken) == {name}
    assert broken[name].examples[0] == example
    if change is FIRST_CASES[name]:
        assert broken[name].sentence == documented_failure("predictions", name)


@pytest.mark.parametrize("task", ["clip", "frame"])
def test_good_predictions_pass(task: str) -> None:
    result = broken_by(lambda case: None, task)
    assert result.warnings == result.failures == ()
    assert all(found.num_checked for found in result.results)


def test_probabilities_of_behaviours_need_not_sum_to_one() -> None:
    assert broken_by(set_probs((0.9, 0.9), (0.1, 0.1), (0.5, 0.9)), "independent").failures == ()


def test_every_rule_is_broken_by_a_test() -> None:
    assert {row[0] for row in BROKEN} == {rule.name for rule in catalogue()["predictions"]}


def test_frames_of_a_clip_are_counted() -> None:
    """Task frame: of 5 frames of a clip, one is missing, one is there three times, and two belong to no clip."""
    expected = pd.DataFrame({"fold": 0, "clip_id": "a#0-5", "video_id": "a", "frame": range(5)})
    frames = [0, 1, 2, 2, 2, 3, 7, 8]
    logits = pd.DataFrame(
        {"fold": 0, "clip_id": "a#0-5", "video_id": "a", "frame": frames, "model": "rgb", "rear": 0.0}
    )
    (row,) = prediction_facts({"rgb": logits}, expected).itertuples(index=False)
    assert (row.rows, row.num_missing, row.num_repeated, row.num_not_finite) == ("not to be scored", 1, 2, 0)
    assert not rows_fit(prediction_facts({"rgb": logits}, expected))
    assert rows_fit(prediction_facts({"rgb": expected.assign(model="rgb", rear=0.0)}, expected))
