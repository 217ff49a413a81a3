"""Untrimmed recordings of one room through every stage: as frames, of both kinds of labels, and as clips of their
intervals, with one label and with several. Groups are recordings. Epochs are few, so scores say nothing."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from kineflow.data.clips import label_columns
from kineflow.data.frame_labels import BACKGROUND, behaviours
from kineflow.inference.predict import label_videos
from kineflow.stages import STAGES, paths
from kineflow.tables import CLIPS, FOLDS, FRAME_LABELS, LOGITS, read_table
from tests.conftest import make_workspace
from tests.graph import report_of, run_stages

pytestmark = [pytest.mark.soak, pytest.mark.filterwarnings("ignore")]
SOURCE_FPS, FPS, NUM_RECORDINGS = 25.0, 5.0, 13


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Path:
    """A workspace whose frames are extracted once; the per-frame table of one recording is partly unlabelled."""
    source = shared_data / "fir_ceiling"
    if not source.is_dir():
        pytest.skip("the recordings of ../shared/data/fir_ceiling are not beside the repository")
    root = make_workspace(tmp_path_factory.mktemp("fir") / "workspace", "tiny")
    (root / "in").mkdir()
    for video in sorted((source / "videos").glob("*.mp4")):
        (root / "in" / video.name).symlink_to(video)
    (root / "per_frame").mkdir()
    tables = sorted((source / "per_frame").glob("*.csv"))
    for table in tables:
        (root / "per_frame" / table.name).write_text(table.read_text())
    lines = tables[0].read_text().splitlines()
    unlabelled = ",".join(["-1"] * len(lines[0].split(",")))
    lines[1:501] = [unlabelled] * 500
    (root / "per_frame" / tables[0].name).write_text("\n".join(lines) + "\n")
    intervals: dict[str, list[dict[str, Any]]] = {}
    with (source / "intervals.tsv").open(newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            segment = [max(0, int(row["start_frame"])) / SOURCE_FPS, int(row["end_frame"]) / SOURCE_FPS]
            intervals.setdefault(row["recording"], []).append({"label": row["label"], "segment": segment})
    database = {name: {"annotations": annotations} for name, annotations in intervals.items()}
    (root / "intervals.json").write_text(json.dumps({"database": database}))
    return root


def write_params(repository: Path, task: str, **sections: dict[str, Any]) -> None:
    values = yaml.safe_load((repository / "params" / "tiny.yaml").read_text())
    values |= {"task": task, "sample": None}
    per_frame = {"annotations": "per_frame", "format": "frame_csv"}
    of_intervals = {"annotations": "intervals.json", "format": "activitynet"}
    values["data"] = {"name": "fir", "source": "in", "group_from": "video", "keep": "reference"}
    values["data"] |= per_frame if task == "frame" else of_intervals
    values["frames"] |= {"fps": FPS, "height_px": 32, "width_px": 32}
    values["clips"] |= {"without_support": "leave_out", "min_frames": 2}
    values["splits"] |= {"num_folds": 3, "test": "none", "test_fraction": 0.0}
    values["validation"]["min_clips_per_class"] = 4
    values["streams"]["flow"]["enabled"] = False
    values["streams"]["rgb"] |= {"epochs": 1, "height_px": 16, "width_px": 16, "subtract_background": False}
    values["train"]["class_weights"] = "balanced"
    values["distill"]["enabled"] = False
    values["evaluate"]["baselines"] = ["majority", "metadata"]
    values["release"]["stream"] = "rgb"
    if task == "frame":
        values["streams"]["rgb"] |= {"model": "resnet10_tiny.lstm", "options": {"hidden_dim": 16, "num_layers": 1}}
    for section, changes in sections.items():
        values[section] |= changes
    Path("params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))


def build(monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Any], list[str]]:
    """Run every stage; metrics.json, and what make_splits says it left out."""
    run_stages(monkeypatch, STAGES)
    metrics: dict[str, Any] = json.loads(paths.METRICS.read_text())
    assert json.loads(paths.REGISTRATION.read_text())["name"] == "kineflow-tiny"
    notes = report_of(Path(), "make_splits")["notes"]
    return metrics, [note for note in notes if note.startswith("warning: left out")]


def groups_do_not_cross() -> None:
    rows = read_table(paths.FOLDS, FOLDS).merge(read_table(paths.CLIPS, CLIPS), on="clip_id")
    assert (rows.groupby(["fold", "group"])["role"].nunique() == 1).all()
    assert set(rows["fold"]) == {0, 1, 2} and rows["group"].nunique() == NUM_RECORDINGS


@pytest.mark.parametrize("labels", ["independent", "exclusive"])
def test_as_frames(room: Path, repository: Path, monkeypatch: pytest.MonkeyPatch, labels: str) -> None:
    monkeypatch.chdir(room)
    write_params(
        repository,
        "frame",
        clips={"window_sec": 4.0, "stride_sec": 2.0, "frame_labels": labels},
        promotion={"metric": "frame_macro_f1"},
    )
    metrics, left_out = build(monkeypatch)
    groups_do_not_cross()
    shown = set(behaviours(read_table(paths.FRAME_LABELS, FRAME_LABELS)))
    assert left_out == ["warning: left out, for they have no support: stand (0 frames in 0 groups)"]
    learned = {*(shown - {"stand"}), *([BACKGROUND] if labels == "exclusive" else [])}
    assert set(metrics["classes"]) == learned and metrics["labels"] == labels
    assert metrics["baselines"]["majority"]["frame_macro_f1"]["mean"] < 0.5
    # the first 500 frames of the first recording, 100 of those extracted, have no label and so no target
    first = sorted(path.name for path in (room / "in").iterdir())[0]
    table = read_table(paths.FRAME_LABELS, FRAME_LABELS)
    assert table.loc[(table["video_id"] == first) & (table["frame"] < 500), sorted(shown)].isna().all(axis=None)
    video = room / "in" / first
    said = label_videos(paths.MODELS / "rgb" / "release", [video])
    assert said["frame"].tolist() == list(range(len(said)))
    assert ("label" in said) == (labels == "exclusive")
    sums = said[metrics["classes"]].sum(axis=1)
    assert np.allclose(sums, 1.0, atol=1e-6) == (labels == "exclusive")


@pytest.mark.parametrize("overlap", ["drop", "keep"])
def test_as_clips_of_intervals(room: Path, repository: Path, monkeypatch: pytest.MonkeyPatch, overlap: str) -> None:
    monkeypatch.chdir(room)
    negatives = {"label": None if overlap == "keep" else "none", "ratio": 0.3, "within": [], "redraw": True}
    write_params(
        repository,
        "clip",
        clips={
            "from": "events",
            "window_sec": 2.0,
            "states": "windows",
            "overlap": overlap,
            "negatives": negatives | {"min_distance_sec": 1.0},
        },
        validation={"min_clips_per_class": 30},
        promotion={"metric": "video_mAP" if overlap == "keep" else "video_macro_f1"},
    )
    metrics, left_out = build(monkeypatch)
    groups_do_not_cross()
    clips = read_table(paths.CLIPS, CLIPS)
    assert left_out and {"event", "negative"} == set(clips["origin"])
    classes = label_columns(clips) if overlap == "keep" else sorted(clips["label"].unique())
    assert metrics["classes"] == classes and ("none" in classes) == (overlap == "drop")
    assert metrics["labels"] == ("independent" if overlap == "keep" else "exclusive")
    logits = read_table(paths.MODELS / "rgb" / "oof.parquet", LOGITS)
    assert sorted(logits["clip_id"]) == sorted(clips["clip_id"])
