"""Pre-training and branches from params to a fold's weights, and that clips which judge a model never enter them."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from kineflow.data.decoded_cache import DecodedCache
from kineflow.data.readers import StreamStore
from kineflow.errors import ParamsError
from kineflow.params import load_params
from kineflow.stages import paths
from kineflow.stages.folds.dataset import load_dataset
from kineflow.stages.folds.jobs import stream_jobs
from kineflow.stages.stage import StageReport
from kineflow.tables import LOGITS, read_table
from kineflow.training.job import Job
from kineflow.training.result import result_store
from kineflow.training.run import run_job
from tests.conftest import Built
from tests.graph import change_params, copy_workspace

SELF_SUPERVISION = {
    "direction_weight": 2.0,
    "tracking_weight": 25.0,
    "patch_fraction": 0.33,
    "num_past": 1,
    "gap": 2,
    "branch_after": "stages.0",
    "pretrain_epochs": 2,
}


@pytest.fixture
def job(built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """The first fold of stream rgb, as the stage trains it."""
    root = copy_workspace(built.root, tmp_path / "workspace")
    monkeypatch.chdir(root)
    monkeypatch.delenv("KINEFLOW_HOME", raising=False)
    branches = SELF_SUPERVISION | {"branch_after": "stem"}
    change_params(root, streams__rgb__self_supervision=branches, release__form="fold_ensemble")
    params = load_params(Path("params.yaml"))
    return stream_jobs(params, load_dataset(params), "rgb", StageReport("train"))[0]


def with_other_pictures(store: StreamStore, videos: Sequence[str], out: Path) -> StreamStore:
    """The same store, but that each of `videos` shows what the next one of its length does."""
    shutil.copytree(store.root, out)
    by_length: dict[int, list[str]] = {}
    for video in sorted(videos):
        by_length.setdefault(store.num_frames[video], []).append(video)
    for alike in by_length.values():
        for video, other in zip(alike, [*alike[1:], alike[0]], strict=True):
            (out / f"{video}.zip").unlink()
            shutil.copyfile(store.root / f"{other}.zip", out / f"{video}.zip")
    return replace(store, root=out.resolve())


def train(job: Job, home: Path) -> dict[str, Any]:
    """What the pre-training and the whole training of a fold left."""
    results = result_store(home)
    (home / "checkpoints").mkdir(parents=True)
    run_job(job, "fold", results, home / "checkpoints", DecodedCache(home / "decoded", 0))
    folder = next(home.rglob("weights.pt")).parent
    return {
        "pretrained": torch.load(home / "checkpoints" / "fold.pretrain.pt", weights_only=True)["model"],
        "weights": torch.load(folder / "weights.pt", weights_only=True),
        "logits": read_table(folder / "logits.parquet", LOGITS)[list(job.classes)].to_numpy(),
    }


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


def test_what_judges_a_fold_never_enters_its_training_nor_what_comes_before_it(job: Job, tmp_path: Path) -> None:
    trained = {item.video_id for item in job.train}
    judged = {item.video_id for item in (*job.val, *job.test)}
    groups = load_dataset(load_params(Path("params.yaml"))).groups
    assert job.val and job.test and job.self_supervision is not None and job.self_supervision.pretrain_epochs == 2
    assert {groups[video] for video in trained}.isdisjoint({groups[video] for video in judged})
    plain = train(job, tmp_path / "plain")
    other_judges = replace(job, store=with_other_pictures(job.store, sorted(judged), tmp_path / "judges"))
    found = train(other_judges, tmp_path / "other judges")
    assert same(plain["pretrained"], found["pretrained"]) and same(plain["weights"], found["weights"])
    assert not np.array_equal(plain["logits"], found["logits"])  # they are other pictures
    other_clips = replace(job, store=with_other_pictures(job.store, sorted(trained), tmp_path / "clips"))
    found = train(other_clips, tmp_path / "other clips")
    assert not same(plain["pretrained"], found["pretrained"])  # these it does learn from


def test_the_stage_pretrains_every_fold_and_keeps_the_classifier_alone(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kineflow.stages.stage import main

    monkeypatch.setattr("kineflow.stages.stage.die_with_parent", lambda: None)
    before = torch.load(paths.MODELS / "rgb" / "folds" / "0" / "model_0.pt", weights_only=True)
    assert main("train", "rgb") == 0
    after = torch.load(paths.MODELS / "rgb" / "folds" / "0" / "model_0.pt", weights_only=True)
    assert list(after) == list(before) and not same(after, before)
    job.model.build(seed=0).load_state_dict(after)
    history = json.loads((paths.MODELS / "rgb" / "history.json").read_text())
    for training in history:
        assert [epoch["epoch"] for epoch in training["pretraining"]] == [0, 1]
        for epoch in training["curves"]:
            parts = [epoch[f"train_loss_{name}"] for name in ("labels", "direction", "tracking")]
            assert epoch["train_loss"] == pytest.approx(sum(parts))
    curves = pd.read_csv(paths.MODELS / "rgb" / "curves.csv")
    assert (curves["train_loss_labels"] > 0).all()
    assert (curves["train_loss_labels"] != curves["train_loss"]).all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": "nope.avg"}, "streams.rgb.model: unknown model 'nope.avg'"),
        ({"options": {"foo": 1}}, "streams.rgb.options: r3d_mini.avg has no option 'foo'"),
        ({"branch_after": "nonsense"}, "streams.rgb.self_supervision: branch_after: r3d_mini.avg has no layer"),
        ({"num_past": 9}, "streams.rgb.self_supervision: num_past: 9 steps of gap: 2"),
        ({"model": "resnet18.avg"}, "streams.rgb.self_supervision: the backbone of resnet18.avg does not read clips"),
    ],
)
def test_what_no_model_can_be_is_refused_by_its_key_before_anything_else(
    job: Job, changes: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = SELF_SUPERVISION | {key: value for key, value in changes.items() if key in SELF_SUPERVISION}
    of_stream = {f"streams__rgb__{key}": value for key, value in changes.items() if key not in SELF_SUPERVISION}
    change_params(Path.cwd(), streams__rgb__self_supervision=given, **of_stream)
    params = load_params(Path("params.yaml"))
    capsys.readouterr()
    with pytest.raises(ParamsError) as caught:
        stream_jobs(params, load_dataset(params), "rgb", StageReport("train"))
    assert str(caught.value).startswith(said) and capsys.readouterr().out == ""
