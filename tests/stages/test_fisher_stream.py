"""The stream fv through the whole graph: trained, evaluated, registered, a teacher, and labelling new videos."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import psutil
import pytest

from kineflow.descriptors.cells import CellRule, Scale
from kineflow.inference.predict import label_videos
from kineflow.stages import STAGES, paths
from kineflow.stages.folds.fisher_job import MAX_OPEN_VIDEOS, cells_by_video
from kineflow.store import ResultStore, home
from kineflow.tables import CLIPS, LOGITS, read_table
from tests.conftest import Built
from tests.graph import change_params, contents, copy_workspace, report_of, run_command, run_stage, run_stages

AFTER_FRAMES = STAGES[STAGES.index("compute_flow") :]
ONLY_FV = {
    "streams__fv__enabled": True,
    "streams__rgb__enabled": False,
    "streams__flow__enabled": False,
    "distill__enabled": False,
    "release__stream": "fv",
    "evaluate__baselines": ["majority"],
}


def test_thousands_of_videos_do_not_use_up_file_descriptors(tmp_path: Path) -> None:
    keys = {f"v{video}": f"{video:04d}" for video in range(2 * MAX_OPEN_VIDEOS)}
    store = ResultStore(tmp_path)
    for key in keys.values():
        with store.writing(key) as folder:
            folder.mkdir()
            np.save(folder / "scale_0.npy", np.zeros((3, 2, 2, 32), np.float16))
    described = SimpleNamespace(cells=CellRule(112, (Scale(8, 5),), track=False))
    job = SimpleNamespace(cells_root=tmp_path, cells=keys, described=described)
    cells_of = cells_by_video(job)  # type: ignore[arg-type]
    before = psutil.Process().num_fds()
    assert {cells_of(video).num_flows for video in keys} == {3}
    assert psutil.Process().num_fds() - before <= MAX_OPEN_VIDEOS


@pytest.fixture
def project(built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = copy_workspace(built.root, tmp_path / "workspace")
    monkeypatch.chdir(root)
    monkeypatch.delenv("KINEFLOW_HOME", raising=False)
    return root


def metrics() -> dict:
    return json.loads(paths.METRICS.read_text())


def test_it_stands_alone_and_two_runs_are_the_same_to_the_byte(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change_params(project, **ONLY_FV)
    run_stages(monkeypatch, AFTER_FRAMES)
    assert list(metrics()["cv"]) == ["fv"] and metrics()["test"]["fv"]["video_top1_acc"] >= 0
    assert not paths.is_disabled(paths.FLOW)  # nothing but fv asks for it
    assert "Learning curves" not in paths.REPORT_HTML.read_text()  # fv has none
    summary = json.loads((paths.MODELS / "fv" / "summary.json").read_text())
    assert summary["num_params"] > 0 and summary["macs"] > 0 and len(summary["folds"]) == 2
    weights = sorted(path.name for path in (paths.MODELS / "fv" / "release").iterdir())
    assert weights == ["bundle.json", "model_0.safetensors"]
    bundle = home() / "release" / "bundle"
    parity(bundle, paths.MODELS / "fv" / "test.parquet")

    before = contents(project, "models/fv")
    assert run_stage(monkeypatch, "train", "fv") == 0
    assert report_of(project, "train", "fv")["skipped"] == 3  # two folds and the release model
    assert not list((home() / "progress").iterdir())  # the news of a training that is done
    (project / ".kineflow" / "store" / "fisher").rename(project / "away")
    (project / ".kineflow" / "store" / "cells").rename(project / "cells_away")
    assert run_stage(monkeypatch, "train", "fv") == 0
    after = contents(project, "models/fv")
    timed = ("models/fv/summary.json", "models/fv/history.json")  # say how long it took
    assert {name: value for name, value in after.items() if name not in timed} == {
        name: value for name, value in before.items() if name not in timed
    }


def test_streams_and_their_fusion_are_compared_as_evaluate_scored_them(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_params(
        project,
        streams__fv__enabled=True,
        streams__flow__enabled=False,
        distill__enabled=False,
        evaluate__baselines=["majority"],
        evaluate__fusion="validation",
    )
    run_stages(monkeypatch, AFTER_FRAMES)
    out = run_command("kineflow", "compare", "fv", "rgb", "fusion", cwd=project).stdout
    assert "4 trainings, 4 of them already there" in out  # two folds of each stream
    table = pd.read_csv("reports/compare/compare.csv").set_index("name")
    assert table["stream"].tolist() == ["fv", "rgb", "fusion"]
    assert table["model"].tolist() == ["fisher.svm", "r3d_mini.avg", "r3d_mini.avg + fisher.svm"]
    for name, row in table.iterrows():
        for metric, scored in metrics()["cv"][name].items():
            assert row[f"{metric}_fold_mean"] == pytest.approx(scored["mean"], abs=1e-5), (name, metric)
    for cost in ("params_M", "macs_G", "ms_per_clip", "train_sec_per_fold"):
        assert table[cost].min() > 0 and table.loc["fusion", cost] == pytest.approx(table[cost][:2].sum(), rel=1e-4)

    (project / "coarser.yaml").write_text("streams.fv.num_gaussians: 2\n")
    seeds = ("compare", "fv", "coarser.yaml", "--stream", "fv", "--seeds", "0,1")
    assert "8 trainings, 2 of them already there" in run_command("kineflow", *seeds, cwd=project).stdout
    assert "8 trainings, 8 of them already there" in run_command("kineflow", *seeds, cwd=project).stdout
    sizes = pd.read_csv("reports/compare/compare.csv").set_index("name")["params_M"]
    assert sizes["coarser"] < sizes["fv"]


def parity(bundle: Path, logits: Path) -> None:
    """What `kineflow predict` says of the video files is what training said of the test clips."""
    table = read_table(logits, LOGITS)
    classes = LOGITS.extra_columns([str(name) for name in table.columns])
    folder = Path("data") / "sample" / "clips"
    said = label_videos(bundle, [folder / video_id for video_id in table["video_id"]])
    probs_NK = np.exp(table[classes].to_numpy(np.float64))
    assert said[classes].to_numpy() == pytest.approx(probs_NK / probs_NK.sum(axis=1, keepdims=True), abs=1e-5)
    assert said["label"].nunique() > 1


def test_it_is_fused_registered_and_teaches(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teaches = {"distill__teacher": "fv", "distill__feature_weight": 0.0, "distill__prob_weight": 1.0}
    weighed = {"evaluate__fusion": "validation", "release__form": "fold_ensemble"}
    change_params(project, streams__fv__enabled=True, splits__num_folds=3, **weighed, **teaches)
    run_stages(monkeypatch, AFTER_FRAMES)
    assert list(metrics()["cv"]) == ["rgb", "flow", "fv", "fusion", "student"]
    made = json.loads((home() / "release" / "bundle" / "bundle.json").read_text())
    members, weights = made["members"], made["stream_weights"]
    assert list(weights) == ["rgb", "flow", "fv"] and sum(weights.values()) == pytest.approx(1, abs=2e-6)
    assert weights == {name: part["weight"] for name, part in metrics()["fusion"]["streams"].items()}
    assert [(member["stream"], member["kind"]) for member in members] == [
        *[("rgb", "network")] * 3,
        *[("flow", "network")] * 3,
        *[("fv", "fisher")] * 3,
    ]
    student = json.loads((paths.MODELS / "student" / "summary.json").read_text())
    assert student["objective"] == "taught"
    taught = read_table(paths.MODELS / "fv" / "teacher.parquet", LOGITS)
    clips = read_table(paths.CLIPS, CLIPS).set_index("clip_id")
    folds = pd.read_parquet(paths.FOLDS)
    for fold, rows in taught.groupby("fold"):
        trained = folds[(folds["fold"] == fold) & (folds["role"] == "train")]
        assert set(rows["clip_id"]) == set(trained["clip_id"]) <= set(clips.index)
    report = paths.REPORT_HTML.read_text()
    assert "fisher.svm" in report and "fisher.svm" in paths.MODEL_CARD.read_text()


def test_task_frame_slides_windows(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long_videos = {
        "task": "frame",
        "data__source": "data/sample/videos",
        "data__annotations": "data/sample/videos.csv",
        "clips__window_sec": 1.6,
        "promotion__metric": "frame_macro_f1",
        "streams__fv__window_sec": 1.0,
    }
    change_params(project, **ONLY_FV, **long_videos)
    run_stages(monkeypatch)
    assert metrics()["task"] == "frame" and list(metrics()["cv"]) == ["fv"]
    table = read_table(paths.MODELS / "fv" / "test.parquet", LOGITS)
    classes = LOGITS.extra_columns([str(name) for name in table.columns])
    video_id = table["video_id"].iloc[0]
    of_video = table[table["video_id"] == video_id].sort_values("frame")
    said = label_videos(home() / "release" / "bundle", [Path("data/sample/videos") / video_id])
    assert said["frame"].tolist() == of_video["frame"].tolist()
    trained = 1 / (1 + np.exp(-of_video[classes].to_numpy(np.float64)))
    assert said[classes].to_numpy() == pytest.approx(trained, abs=1e-5)


def test_a_killed_run_goes_on(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change_params(project, **ONLY_FV)
    run_stages(monkeypatch, AFTER_FRAMES[:5])
    results = project / ".kineflow" / "store" / "fisher"
    command = [sys.executable, "-c", "from kineflow.cli import main; main()", "stage", "train", "--stream", "fv"]
    child = subprocess.Popen(command, cwd=project, env=os.environ | {"OMP_NUM_THREADS": "1"})
    give_up = time.monotonic() + 120
    while not list(results.glob("*/*/result.json")) and child.poll() is None and time.monotonic() < give_up:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    finished = [path.parent.name for path in results.glob("??/*/result.json") if "partial" not in str(path)]
    assert finished
    before = {path: path.stat().st_mtime_ns for path in results.glob("??/*/weights.safetensors")}
    assert run_stage(monkeypatch, "train", "fv") == 0
    assert report_of(project, "train", "fv")["skipped"] >= len(finished)
    assert all(path.stat().st_mtime_ns == changed for path, changed in before.items())  # none is done twice
    assert (paths.MODELS / "fv" / "summary.json").is_file()
