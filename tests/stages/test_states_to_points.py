"""Plentiful state events first, rare point events after: as docs/how-to/pretrained.md says, in miniature."""

import csv
import json
from pathlib import Path

import pytest
import torch

from kineflow.stages import STAGES, paths
from kineflow.tables import CLIPS, read_table
from kineflow.training.bundle import read_bundle
from tests.graph import change_params, report_of, run_stage, run_stages

STATES = ["approach", "circling_left", "circling_right", "retreat"]
POINTS = ["groom", "rest"]
WITH_POINTS = ["arena3", "arena4"]  # recordings that point events are scored in
FINETUNE = {
    "head_epochs": 1,
    "head_optimizer": "adamw",
    "head_lr": 0.01,
    "top_blocks": 1,
    "top_fraction": None,
    "blocks_lr_factor": 0.1,
    "lr_decay_per_block": 1.0,
}
RGB_ALONE = {
    "data__source": "data/sample/videos",
    "clips__from": "events",
    "streams__flow__enabled": False,
    "distill__enabled": False,
    "evaluate__baselines": ["majority"],
    "release__stream": "rgb",
    "promotion__beat_baselines": False,
}


def write_point_events() -> None:
    """Of each bout of a rare behaviour in two recordings, its middle as a point event."""
    with Path("data/sample/videos.csv").open() as file:
        rows = list(csv.DictReader(file))
    points = []
    for start, stop in zip(rows[::2], rows[1::2], strict=True):
        assert (start["Behavior type"], stop["Behavior type"]) == ("START", "STOP")
        if start["Behavior"] in POINTS and start["arena"] in WITH_POINTS:
            middle_sec = (float(start["Time"]) + float(stop["Time"])) / 2
            points.append(start | {"Behavior type": "POINT", "Time": f"{middle_sec:.3f}"})
    with Path("data/points.csv").open("w") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(points)


def test_a_model_of_state_events_is_finetuned_on_point_events(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change_params(
        workspace,
        **RGB_ALONE,
        data__name="states",
        data__annotations="data/sample/videos.csv",
        clips__window_sec=0.5,
        clips__stride_sec=0.1,
        clips__states="windows",
        clips__classes=STATES,
        clips__min_frames=5,
        splits__test="named",
        splits__test_names=WITH_POINTS,
        register__model_name="states",
    )
    run_stages(monkeypatch)
    num_windows = len(read_table(paths.CLIPS, CLIPS))
    assert json.loads(paths.REGISTRATION.read_text())["name"] == "states"
    seen = read_bundle(paths.MODELS / "rgb" / "release")
    assert seen.classes == tuple(STATES) and set(seen.training_groups) == {"arena1", "arena2"}
    before = torch.load(seen.root / "model_0.pt", weights_only=True)

    write_point_events()
    change_params(
        workspace,
        data__name="points",
        data__annotations="data/points.csv",
        clips__window_sec=0.8,
        clips__stride_sec=None,
        clips__states="whole",
        clips__classes=POINTS,
        splits__test="none",
        splits__test_names=[],
        streams__rgb__weights="registry:states/1",
        streams__rgb__finetune=FINETUNE,
        register__model_name="points",
    )
    run_stages(monkeypatch)
    clips = read_table(paths.CLIPS, CLIPS)
    assert len(clips) < num_windows and set(clips["group"]) == set(WITH_POINTS) and set(clips["label"]) == set(POINTS)
    notes = "\n".join(report_of(workspace, "train", "rgb")["notes"])
    assert "starting from registry:states/1" in notes and "the last 1 of 4 blocks with pooling and head" in notes
    for fold in ("folds/0", "folds/1", "release"):
        bundle = read_bundle(paths.MODELS / "rgb" / fold)
        after = torch.load(bundle.root / "model_0.pt", weights_only=True)
        assert bundle.classes == tuple(POINTS)
        changed = {name for name, value in after.items() if not torch.equal(value, before.get(name, torch.empty(0)))}
        assert any(name.startswith("head.") for name in changed)
        assert {name.rpartition(".stages.")[2][0] for name in changed if name.startswith("backbone.")} == {"2"}
    assert set(json.loads(paths.METRICS.read_text())["classes"]) == set(POINTS)
    assert json.loads(paths.REGISTRATION.read_text())["name"] == "points"

    change_params(
        workspace,  # judged by recordings that the first model was trained on
        data__name="leaky",
        data__annotations="data/sample/videos.csv",
        clips__classes=STATES,
        clips__states="windows",
    )
    run_stages(monkeypatch, STAGES[: STAGES.index("train")])
    assert run_stage(monkeypatch, "train", "rgb") == 3
    assert "registry:states/1 was trained on" in report_of(workspace, "train", "rgb")["error"]
