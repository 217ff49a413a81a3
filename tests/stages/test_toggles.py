"""Each stream, each task, the student and each release form gives a valid graph and a valid report.

The stages run in this process on a copy of the built workspace, so what a toggle leaves alone is not made again.
"""

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch

from kineflow.errors import DataError
from kineflow.evaluation.metrics import METRICS
from kineflow.inference.predict import label_videos
from kineflow.models.registry import create_model
from kineflow.params import STREAM_NAMES, load_params
from kineflow.registry.compare import read_test_data, score_on_test
from kineflow.stages import STAGES, paths
from kineflow.store import home
from kineflow.training.bundle import read_bundle
from tests.conftest import Built
from tests.graph import change_params, copy_workspace, dvc, run_stages

VOID_TAGS = frozenset(("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"))
AFTER_FRAMES = STAGES[STAGES.index("compute_flow") :]
LONG_VIDEOS = {
    "task": "frame",
    "data__source": "data/sample/videos",
    "data__annotations": "data/sample/videos.csv",
    "clips__window_sec": 1.6,
    "streams__flow__model": "resnet10_tiny.lstm",
    "streams__flow__options": {"hidden_dim": 16, "num_layers": 1},
    "promotion__metric": "frame_macro_f1",
}


class Page(HTMLParser):
    """What a page shows and loads; open tags must be closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.loads: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "srcset", "data")]
        if tag not in VOID_TAGS:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID_TAGS:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID_TAGS:
            return
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.words += re.findall(r"\w+", data)


@pytest.fixture
def project(built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = copy_workspace(built.root, tmp_path / "workspace")
    monkeypatch.chdir(root)
    monkeypatch.delenv("KINEFLOW_HOME", raising=False)
    return root


def check_outs(
    *, streams: list[str], with_test: bool = True, task: str = "clip", labels: str | None = None
) -> dict[str, Any]:
    """Hold metrics, report and disabled outs against the streams that are enabled, in their order."""
    labels = labels or ("exclusive" if task == "clip" else "independent")
    metrics: dict[str, Any] = json.loads(paths.METRICS.read_text())
    names = set(METRICS[task, labels])  # type: ignore[index]
    assert metrics["task"] == task and metrics["labels"] == labels
    assert list(metrics["cv"]) == streams
    for stream in streams:
        assert set(metrics["cv"][stream]) == names
        for name, value in metrics["cv"][stream].items():
            assert len(value["folds"]) == 2 and (value["mean"] >= 0 or name == "frame_top1_acc"), (stream, name)
    if with_test:
        assert list(metrics["test"]) == streams
    else:
        assert metrics["test"] is None
    for network in (*STREAM_NAMES, "student"):
        assert paths.is_disabled(paths.MODELS / network) == (network not in streams)
        if network not in streams:
            assert [path.name for path in (paths.MODELS / network).iterdir()] == [paths.DISABLED]
    check_report(streams)
    return metrics


def check_report(streams: list[str]) -> None:
    text = paths.REPORT_HTML.read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert set(streams) <= {word.lower() for word in page.words}
    assert [load for load in page.loads if not load.startswith(("#", "data:"))] == []
    outside = re.findall(r"(?:url\(|@import)\s*[\"']?(?!data:|#)[^)\"';]+", text)
    assert outside == []
    assert paths.MODEL_CARD.read_text().startswith("#")


def registered() -> dict[str, Any]:
    values: dict[str, Any] = json.loads(paths.REGISTRATION.read_text())
    return values


def test_rgb_only(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change_params(project, streams__flow__enabled=False, distill__enabled=False, release__stream="rgb")
    run_stages(monkeypatch, AFTER_FRAMES)
    metrics = check_outs(streams=["rgb"])
    assert set(metrics["baselines"]) == {"majority", "metadata", "hof"}  # hof is a baseline of its own: flow is made
    assert not paths.is_disabled(paths.FLOW)
    change_params(project, evaluate__baselines=["majority"])
    run_stages(monkeypatch, AFTER_FRAMES[:-1])
    assert paths.is_disabled(paths.FLOW)
    assert set(check_outs(streams=["rgb"])["baselines"]) == {"majority"}


def test_flow_only(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change_params(project, streams__rgb__enabled=False, distill__enabled=False, release__stream="flow")
    run_stages(monkeypatch, AFTER_FRAMES[:-1])
    check_outs(streams=["flow"])


def test_without_student_by_dvc(project: Path) -> None:
    """By DVC itself: what the toggle leaves alone is not run, and the graph is complete afterwards."""
    change_params(project, distill__enabled=False)
    output = dvc(project, "repro", "evaluate")
    assert "Running stage 'train@" not in output and "Running stage 'extract_frames'" not in output
    check_outs(streams=["rgb", "flow", "fusion"])


def test_student_is_released(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = registered()
    change_params(project, release__stream="student")
    run_stages(monkeypatch, ("evaluate", "register"))
    check_outs(streams=["rgb", "flow", "fusion", "student"])
    assert registered()["digest"] != before["digest"]


def test_fold_ensemble_of_best_epochs_without_test(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = registered()
    change_params(project, release__form="fold_ensemble", train__select="best", splits__test="none", data__name="all")
    run_stages(monkeypatch, AFTER_FRAMES)
    check_outs(streams=["rgb", "flow", "fusion", "student"], with_test=False)
    weights = [path.name for path in (paths.MODELS / "rgb" / "release").glob("*.pt")]
    assert sorted(weights) == ["model_0.pt", "model_1.pt"]
    assert registered()["digest"] != before["digest"]


def test_refit_for_the_median_best_epoch(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change_params(project, train__select="best", distill__enabled=False)
    run_stages(monkeypatch, ("train", "distill", "evaluate"))
    check_outs(streams=["rgb", "flow", "fusion"])
    summary = json.loads((paths.MODELS / "rgb" / "summary.json").read_text())
    assert summary["release"]["epochs"] == min(fold["best_epoch"] for fold in summary["folds"])


def test_frame_task_with_both_streams_and_student(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rgb = {"streams__rgb__model": "resnet10_tiny.lstm", "streams__rgb__options": {"hidden_dim": 16, "num_layers": 1}}
    change_params(project, **LONG_VIDEOS, **rgb)
    run_stages(monkeypatch)
    check_outs(streams=["rgb", "flow", "fusion", "student"], task="frame")
    change_params(project, splits__test="none", data__name="all", release__form="fold_ensemble")
    run_stages(monkeypatch, AFTER_FRAMES[:-1])
    check_outs(streams=["rgb", "flow", "fusion", "student"], task="frame", with_test=False)


def test_frame_task_on_frozen_embeddings(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change_params(
        project,
        **LONG_VIDEOS | {"promotion__metric": "frame_mAP"},
        embed__enabled=True,
        embed__precision="bf16",
        distill__enabled=False,
        streams__rgb__model="embedding.lstm",
        streams__rgb__options={"hidden_dim": 16, "num_layers": 1},
        evaluate__baselines=["majority", "embedding"],
    )
    run_stages(monkeypatch)
    metrics = check_outs(streams=["rgb", "flow", "fusion"], task="frame")
    assert len(list(paths.EMBEDDINGS.glob("*.npy"))) == 4
    assert (
        metrics["baselines"]["embedding"]["frame_mAP"]["mean"] > metrics["baselines"]["majority"]["frame_mAP"]["mean"]
    )
    # from the video file on, by the backbone that the bundle holds
    assert score_of_promotion("frame_mAP") == pytest.approx(metrics["test"]["fusion"]["frame_mAP"], abs=1e-5)
    with pytest.raises(DataError, match="saved without its backbone, so it cannot label new videos"):
        label_videos(paths.MODELS / "rgb" / "folds" / "0", [next(Path("data/sample/videos").glob("*.mp4"))])


def test_frame_task_without_flow(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change_params(
        project,
        **{key: value for key, value in LONG_VIDEOS.items() if "flow" not in key},
        streams__flow__enabled=False,
        distill__enabled=False,
        evaluate__baselines=["majority", "metadata"],
        release__stream="rgb",
    )
    run_stages(monkeypatch)
    check_outs(streams=["rgb"], task="frame")


def test_frames_of_one_behaviour_in_two_phases(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The head alone, then the top of the backbone with it, on pixels; one class, yes or no."""
    with Path("data/sample/videos.csv").open() as file:
        rows = list(csv.DictReader(file))
    with Path("data/groom.csv").open("w") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(row for row in rows if row["Behavior"] == "groom")
    options = {"hidden_dim": 16, "num_layers": 1}
    torch.manual_seed(5)
    start = create_model("resnet10_tiny.lstm", num_classes=1, in_channels=3, task="frame", options=options)
    torch.save(start.state_dict(), "start.pt")
    finetune = {
        "head_epochs": 1,
        "head_optimizer": "adamw",
        "head_lr": 0.01,
        "top_blocks": 1,
        "top_fraction": None,
        "blocks_lr_factor": 0.5,
        "lr_decay_per_block": 1.0,
    }
    change_params(
        project,
        **{key: value for key, value in LONG_VIDEOS.items() if "flow" not in key},
        streams__flow__enabled=False,
        streams__rgb__model="resnet10_tiny.lstm",
        streams__rgb__options=options,
        streams__rgb__weights="start.pt",
        streams__rgb__finetune=finetune,
        train__class_weights="balanced",
        distill__enabled=False,
        evaluate__baselines=["majority"],
        release__stream="rgb",
    )
    change_params(project, data__annotations="data/groom.csv")
    run_stages(monkeypatch)
    assert check_outs(streams=["rgb"], task="frame")["classes"] == ["groom"]
    for fold in ("folds/0", "folds/1", "release"):
        trained = torch.load(paths.MODELS / "rgb" / fold / "model_0.pt", weights_only=True)
        changed = {name for name, value in start.state_dict().items() if not torch.equal(value, trained[name])}
        assert {"head", "pooling", "backbone"} == {name.split(".")[0] for name in changed}
        of_backbone = {name for name in changed if name.startswith("backbone.")}
        assert {name for name in of_backbone if not name.startswith("backbone.network.stages.2.")} == set()


def test_clips_with_several_labels_with_both_streams_and_student(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_params(project, clips__overlap="keep", train__class_weights="balanced", promotion__metric="video_mAP")
    run_stages(monkeypatch, AFTER_FRAMES)
    metrics = check_outs(streams=["rgb", "flow", "fusion", "student"], labels="independent")
    assert score_of_promotion("video_mAP") == pytest.approx(metrics["test"]["fusion"]["video_mAP"], abs=1e-5)


def test_frames_of_one_class_with_both_streams_and_student(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rgb = {"streams__rgb__model": "resnet10_tiny.lstm", "streams__rgb__options": {"hidden_dim": 16, "num_layers": 1}}
    exclusive = {"clips__frame_labels": "exclusive", "clips__stride_sec": 0.8, "train__class_weights": "balanced"}
    exclusive |= {"release__form": "fold_ensemble", "evaluate__fusion": "validation"}
    change_params(project, **LONG_VIDEOS, **rgb, **exclusive)
    run_stages(monkeypatch)
    metrics = check_outs(streams=["rgb", "flow", "fusion", "student"], task="frame", labels="exclusive")
    weights = {stream: part["weight"] for stream, part in metrics["fusion"]["streams"].items()}
    assert weights["rgb"] != weights["flow"]
    assert read_bundle(home() / "release" / "bundle").stream_weights == weights
    assert metrics["classes"] == sorted(set(metrics["classes"]), key=lambda name: (name != "background", name))
    score = score_of_promotion("frame_log_loss")  # of windows that overlap, by a weighed ensemble of both streams
    assert score == pytest.approx(metrics["test"]["fusion"]["frame_log_loss"], abs=1e-5)


def score_of_promotion(metric: str) -> float | None:
    """What a promotion finds for the release bundle on the test clips of today, from the video files on."""
    params = load_params(Path("params.yaml"))
    data = read_test_data(
        params.task,
        labels=params.labels,
        videos=paths.VIDEOS,
        clips=paths.CLIPS,
        folds=paths.FOLDS,
        frame_labels=paths.FRAME_LABELS,
        only_supported=False,
        frames=paths.FRAMES,
        frames_per_sec=params.frames.fps,
    )
    (score,) = score_on_test(data, [home() / "release" / "bundle"], metric, min_clips=1)
    assert score.incomparable is None
    return score.value
