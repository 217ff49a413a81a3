"""Pre-training and branches from params to a fold's weights, and that clips which judge a model never enter them."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kineflow.data.decoded_cache import DecodedCache
from kineflow.data.readers import StreamStore
from kineflow.params import load_params
from kineflow.stages import paths
from kineflow.stages.fold_dataset import load_dataset
from kineflow.stages.fold_jobs import stream_jobs
from kineflow.stages.stage import StageReport
from kineflow.tables import LOGITS, read_table
from kineflow.training.job import Job, result_store, run_job
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
