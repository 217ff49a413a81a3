"""Repeated folds with a class left out, from the annotations to the registry and to champion and challenger."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from flows.promote import compare_and_promote
from kineflow.params import load_params
from kineflow.stages import paths
from kineflow.tables import CLIPS, read_table
from tests.conftest import Built
from tests.graph import change_params, copy_workspace, run_stages

RARE = "rest"


@pytest.fixture
def project(built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny clips, of which those of one class but one are called otherwise; RGB alone, to be quick."""
    root = copy_workspace(built.root, tmp_path / "workspace")
    monkeypatch.chdir(root)
    monkeypatch.delenv("KINEFLOW_HOME", raising=False)
    change_params(
        root,
        sample=None,
        clips__without_support="leave_out",
        splits__num_repeats=2,
        streams__flow__enabled=False,
        distill__enabled=False,
        evaluate__baselines=["majority"],
        release__stream="rgb",
        promotion__metric="video_macro_f1",
    )
    path = root / "data" / "sample" / "clips.csv"
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    one = next(row["Observation id"] for row in rows if row["Behavior"] == RARE)
    for row in rows:
        if row["Behavior"] == RARE and row["Observation id"] != one:
            row["Behavior"] = "groom"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return root


def promoted(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> tuple[dict[str, Any], Any]:
    change_params(Path(), **changes)
    run_stages(monkeypatch)
    return json.loads(paths.METRICS.read_text()), compare_and_promote(load_params(Path("params.yaml")))


def test_repeats_with_a_class_left_out_are_registered_and_compared(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics, first = promoted(monkeypatch)
    assert RARE not in metrics["classes"] and RARE not in set(read_table(paths.CLIPS, CLIPS)["label"])
    assert f"{RARE} (1 clips in 1 groups)" in "".join(
        json.loads((paths.STAGE_REPORTS / "make_splits.json").read_text())["notes"]
    )
    folds = metrics["cv"]["rgb"]["video_macro_f1"]["folds"]
    assert len(folds) == 4  # two folds, twice
    assert first.decision.promote and first.decision.reason == "the first version"
    # another challenger meets the champion on the test clips of today, of which none is of the class left out
    _, second = promoted(monkeypatch, seed=1, promotion__min_gain=0.9)
    num_test = int((read_table(paths.CLIPS, CLIPS)["group"].isin(groups_of_test())).sum())
    assert second.decision.basis == "test" and second.decision.num_clips == num_test and not second.decision.promote
    # without a test set the cross-validated scores of all repeats are compared, on the very same folds
    # (of a data set by another name: a group that was held out is never trained on under the same one)
    _, third = promoted(monkeypatch, splits__test="none", data__name="all", promotion__min_gain=-1.0)
    assert not third.decision.promote and "different folds" in third.decision.reason


def groups_of_test() -> set[str]:
    rows = csv.DictReader(io.StringIO(paths.ASSIGNMENTS.read_text()))
    return {row["group"] for row in rows if row["role"] == "test"}
