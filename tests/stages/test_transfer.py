"""A stream that starts from a registered model: what is loaded, what trains, what it may be judged by, what is told."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kineflow.registry import tracking
from kineflow.registry.lineage import Lineage
from kineflow.registry.register import register_bundle
from kineflow.stages import paths
from kineflow.training.bundle import assemble_bundle, write_bundle
from kineflow.training.precision import choose_device, choose_precision
from tests.conftest import Built
from tests.graph import change_params, copy_workspace, report_of, run_stage, run_stages

FINETUNE = {
    "head_epochs": 1,
    "head_optimizer": "adamw",
    "head_lr": 0.01,
    "top_blocks": 1,
    "top_fraction": None,
    "blocks_lr_factor": 0.5,
    "lr_decay_per_block": 1.0,
}


@pytest.fixture
def project(built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = copy_workspace(built.root, tmp_path / "workspace")
    monkeypatch.chdir(root)
    for name in ("KINEFLOW_HOME", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    return root


def register_as_of_other_data(lineage: Lineage, *, streams: tuple[str, ...] = ("rgb", "flow")) -> str:
    """Register the release model of some streams as if it had seen other videos, and return its version."""
    made = assemble_bundle([paths.MODELS / name / "release" for name in streams], Path("elsewhere"))
    other = replace(made, root=Path("other"), training_videos=("0" * 64,))
    write_bundle(other, {member.weights: made.root / member.weights for member in made.members})
    return register_bundle(other.root, model_name="other", metrics={}, lineage=lineage).version


@pytest.fixture
def lineage() -> Lineage:
    return Lineage(None, None, None, None, {}, "", None, {}, "fusion", (), ())


def test_a_registered_model_of_other_data_is_finetuned(
    project: Path, monkeypatch: pytest.MonkeyPatch, lineage: Lineage
) -> None:
    version = register_as_of_other_data(lineage)
    source = f"registry:other/{version}"
    change_params(project, streams__rgb__weights=source, streams__rgb__finetune=FINETUNE, release__stream="rgb")
    change_params(project, train__precision="auto")
    run_stages(monkeypatch, ("sync",))
    assert run_stage(monkeypatch, "train", "rgb") == 0
    notes = "\n".join(report_of(project, "train", "rgb")["notes"])
    device = choose_device(1.0)
    precision, why = choose_precision("auto", device)
    assert f"training r3d_mini.avg on {device.type} in {precision}: {why}" in notes.splitlines()
    assert f"starting from {source}" in notes and "0 dropped for their shape, 0 unused, 0 of the model's new" in notes
    assert "training pooling and head for 1 of 2 epochs, then the last 1 of 4 blocks with pooling and head" in notes
    before = torch.load("other/rgb/model_0.pt", weights_only=True)
    for fold in ("folds/0", "folds/1", "release"):
        after = torch.load(paths.MODELS / "rgb" / fold / "model_0.pt", weights_only=True)
        changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
        assert {name.split(".")[0] for name in changed} == {"backbone", "head"}
        assert {name.rpartition(".stages.")[2][0] for name in changed if name.startswith("backbone.")} == {"2"}
    assert run_stage(monkeypatch, "register") == 0
    found = tracking.client().get_model_version_by_alias("kineflow-tiny", "challenger")
    told = {name.removeprefix("kineflow.weights.rgb."): text for name, text in found.tags.items() if ".rgb." in name}
    assert told["source"] == source and told["num_new"] == told["num_dropped"] == "0"
    assert told["num_matched"] == str(len(before))
    summary = json.loads((paths.MODELS / "rgb" / "summary.json").read_text())
    assert summary["weights"]["sha256"] == told["sha256"] and paths.WEIGHTS.read_text().split()[-1] == told["sha256"]


def test_a_model_that_was_trained_on_the_judged_videos_is_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_stage(monkeypatch, "register") == 0
    change_params(project, streams__flow__weights="registry:kineflow-tiny@challenger")
    run_stages(monkeypatch, ("sync",))
    assert run_stage(monkeypatch, "train", "flow") == 3
    error = report_of(project, "train", "flow")["error"]
    assert "registry:kineflow-tiny@challenger was trained on" in error and "start from a model of other data" in error


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("registry:nobody/1", "no version '1' of the model 'nobody'"),
        ("registry:other", "write registry:NAME/VERSION or registry:NAME@ALIAS"),
        ("registry:other/1", "holds 0 models of the stream rgb"),
    ],
)
def test_versions_that_hold_no_such_model_are_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch, lineage: Lineage, source: str, message: str
) -> None:
    if source == "registry:other/1":
        register_as_of_other_data(lineage, streams=("flow",))
    change_params(project, streams__rgb__weights=source)
    assert run_stage(monkeypatch, "sync") == 2
    assert message in report_of(project, "sync")["error"]


def test_a_student_starts_as_rgb_does_and_a_changed_file_is_noticed(
    project: Path, monkeypatch: pytest.MonkeyPatch, lineage: Lineage
) -> None:
    register_as_of_other_data(lineage)
    (project / "other" / "rgb" / "model_0.pt").rename("start.pt")
    change_params(project, streams__rgb__weights="start.pt", streams__rgb__finetune=FINETUNE)
    assert run_stage(monkeypatch, "distill") == 3
    assert "streams.rgb.weights: start.pt is not in data/weights.tsv" in report_of(project, "distill")["error"]
    run_stages(monkeypatch, ("sync",))
    assert run_stage(monkeypatch, "distill") == 0
    assert any("starting from start.pt" in note for note in report_of(project, "distill")["notes"])
    Path("start.pt").write_bytes(b"")
    assert run_stage(monkeypatch, "distill") == 3
    assert "has changed since sync" in report_of(project, "distill")["error"]
    Path("start.pt").unlink()
    assert run_stage(monkeypatch, "distill") == 3
    assert "no longer on this machine" in report_of(project, "distill")["error"]
