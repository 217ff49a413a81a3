"""Every way to make folds, from the tables through training to the report."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from kineflow.stages import paths
from kineflow.stages.stage import main
from kineflow.tables import CLIPS, FOLDS, LOGITS, read_table
from tests.graph import report_of, run_stages
from tests.stages.test_splits_gates import Bench, error_of

NUM_GROUPS = 6  # of Bench, each with a clip of groom and one of rest


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: Path) -> Bench:
    """A workspace of twelve videos of noise, and a network that is shown them once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KINEFLOW_HOME", raising=False)
    monkeypatch.setattr("kineflow.stages.stage.die_with_parent", lambda: None)  # this process is pytest's
    values = yaml.safe_load((repository / "params" / "tiny.yaml").read_text())
    values["streams"]["flow"]["enabled"] = False
    values["streams"]["rgb"] |= {"epochs": 1, "num_frames": 4, "height_px": 8, "width_px": 8}
    values["distill"]["enabled"] = False
    values["evaluate"]["baselines"] = ["majority"]
    values["release"]["stream"] = "rgb"
    return Bench(values)


def several_times(bench: Bench) -> None:
    bench.params["splits"] |= {"num_folds": 2, "num_repeats": 3, "test": "none"}


def one_left_out(bench: Bench) -> None:
    bench.params["splits"] |= {"kind": "leave_one_group_out", "test": "none"}


def by_hand(bench: Bench) -> None:
    bench.params["splits"] |= {"kind": "file", "test": "file"}
    paths.FOLD_FILE.write_text("group,fold,role\ng0,0,\ng1,0,\ng2,1,\ng3,1,\ng4,,test\ng5,0,\n")


def official(bench: Bench) -> None:
    bench.params["splits"] |= {"kind": "official", "test": "official", "num_folds": 2}
    bench.videos["official_role"] = "train"
    bench.videos.loc[:2, "official_role"] = "test"  # both videos of g0, and one of g1


def official_without_test(bench: Bench) -> None:
    official(bench)
    bench.videos["official_role"] = bench.videos["official_role"].replace("test", "val")


def named(bench: Bench) -> None:
    bench.params["splits"] |= {"test": "named", "test_names": ["g2", "g4/rest.mp4"], "num_folds": 2}


@pytest.mark.parametrize(
    ("change", "num_folds", "num_repeats", "test_groups"),
    [
        (several_times, 6, 3, set()),
        (one_left_out, 6, 1, set()),
        (by_hand, 2, 1, {"g4"}),
        (official, 2, 1, {"g0", "g1"}),
        (official_without_test, 2, 1, {"g0", "g1"}),
        (named, 2, 1, {"g2", "g4"}),
    ],
    ids=["repeats", "leave-one-group-out", "file", "official", "official without test", "named"],
)
def test_every_kind_of_folds_is_trained_and_scored(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Bench], None],
    num_folds: int,
    num_repeats: int,
    test_groups: set[str],
) -> None:
    change(bench)
    metrics = build(bench, monkeypatch)
    rows = read_table(paths.FOLDS, FOLDS).merge(read_table(paths.CLIPS, CLIPS), on="clip_id")
    assert set(rows.loc[rows["role"] == "test", "group"]) == test_groups
    development = rows[rows["role"] != "test"]
    assert (development.groupby(["fold", "group"])["role"].nunique() == 1).all()
    validated = development[development["role"] == "val"]
    assert (validated.groupby("clip_id").size() == num_repeats).all()
    assert set(validated["clip_id"]) == set(development["clip_id"])
    # each of them is judged, in each repeat by a model that did not see its group
    oof = read_table(paths.MODELS / "rgb" / "oof.parquet", LOGITS)
    assert keys_of(oof) == keys_of(validated)
    assert len(metrics["cv"]["rgb"]["video_top1_acc"]["folds"]) == num_folds
    assert len(metrics["baselines"]["majority"]["video_top1_acc"]["folds"]) == num_folds
    assert (metrics["test"] is None) == (not test_groups)
    text = paths.REPORT_HTML.read_text()
    assert all(f"fold {fold}<" in text for fold in range(num_folds))


def test_official_groups_in_test_and_training_are_told_and_never_in_training_and_validation(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    official(bench)
    build(bench, monkeypatch)
    rows = read_table(paths.FOLDS, FOLDS).merge(read_table(paths.CLIPS, CLIPS), on="clip_id")
    of_g1 = rows[rows["group"] == "g1"]
    assert {"test", "train", "val"} == set(of_g1["role"])  # groom is tested on, rest is developed on
    assert (of_g1[of_g1["role"] != "test"].groupby("fold")["role"].nunique() == 1).all()
    (warning,) = (note for note in report_of(Path(), "validate_dataset")["notes"] if "test_group_held_out" in note)
    assert "warn" in warning and "group g1 (in test and in development)" in warning
    assert "test_group_held_out is broken" in paths.REPORT_HTML.read_text()


def test_two_behaviours_in_one_frame_are_refused_before_anything_is_extracted(bench: Bench) -> None:
    bench.use_task_frame()
    bench.params["clips"]["frame_labels"] = "exclusive"
    bench.frame_labels["groom"] = bench.frame_labels["rear"].where(bench.frame_labels["frame"] == 7, 0)
    bench.write_tables()
    assert main("validate_raw") == 3
    assert error_of("validate_raw").startswith("g0/groom.mp4: frame 7 shows rear and groom; correct its labels")
    bench.frame_labels = bench.frame_labels.drop(columns="groom")
    bench.write_tables()
    assert main("validate_raw") == 0


def build(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    bench.write_tables()
    bench.write_stores()
    run_stages(monkeypatch, ("validate_raw", "make_splits", "validate_dataset", "train", "distill", "evaluate"))
    metrics: dict[str, Any] = json.loads(paths.METRICS.read_text())
    return metrics


def keys_of(rows: pd.DataFrame) -> list[tuple[int, str]]:
    return sorted(zip(rows["fold"], rows["clip_id"], strict=True))
