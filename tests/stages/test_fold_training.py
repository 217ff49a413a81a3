"""What training is given: negatives that it may draw anew, and the mean of fold models."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from kineflow.errors import ParamsError
from kineflow.params import only, parse_params
from kineflow.stages import make_splits, paths, train
from kineflow.stages.folds.dataset import RELEASE, load_dataset
from kineflow.stages.folds.jobs import _negative_class, _recipe
from kineflow.stages.folds.networks import resources_of
from kineflow.stages.folds.outs import mean_logits
from kineflow.stages.stage import StageReport
from kineflow.tables import EVENTS, FRAME_LABELS, VIDEOS, write_table
from kineflow.training.finetune import Finetune
from tests.unit.data.test_clips import events_table, videos_table

NA = float("nan")
MALE, CHASES = (10.0, 40.0), (15.0, 25.0)  # seconds, in every video


@pytest.fixture
def values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: Path) -> dict[str, Any]:
    """Params of task clip from events, and the tables of four recordings of a minute."""
    monkeypatch.chdir(tmp_path)
    paths.ASSIGNMENTS.parent.mkdir()
    paths.ASSIGNMENTS.write_text("dataset,group,role\n")
    videos = videos_table(**{f"v{i}": 60.0 for i in range(4)})
    filled = {name: None for name, _ in VIDEOS.columns if name not in videos}
    write_table(paths.VIDEOS, VIDEOS, videos.assign(**filled))
    rows = [(v, "male present", *MALE) for v in videos["video_id"]]
    rows += [(v, "chase", at, NA) for v in videos["video_id"] for at in CHASES]
    write_table(paths.EVENTS, EVENTS, events_table(*rows).assign(subject=None, source="x.csv:1"))
    write_table(paths.FRAME_LABELS, FRAME_LABELS, pd.DataFrame({"video_id": [], "frame": []}).astype({"frame": int}))
    made: dict[str, Any] = yaml.safe_load((repository / "params" / "tiny.yaml").read_text())
    made["splits"] |= {"test": "groups", "test_fraction": 0.25}
    negatives = {"label": "none", "ratio": 1.0, "within": ["male present"], "min_distance_sec": 2.0, "redraw": True}
    made["clips"] |= {"from": "events", "window_sec": 1.5, "negatives": negatives}
    return made


def test_training_alone_draws_negatives_anew_and_only_where_the_rule_allows(values: dict[str, Any]) -> None:
    params = parse_params(values, where="test")
    make_splits.run(only(params, make_splits.PARAMS), StageReport("make_splits"))
    keys = [key for key in train.PARAMS if not key.startswith("streams")]
    dataset = load_dataset(only(params, keys))
    # frames 100 to 400 less the chases' windows of 15 and 20 frames on both sides, less the window itself
    allowed = ((100, 108), (178, 208), (278, 385))
    trained = [item for fold in dataset.folds for item in dataset.training_clips(dataset.clips(fold, "train"))]
    negatives = [item for item in trained if item.target == dataset.classes.index("none")]
    assert negatives and {item.redraw_starts for item in negatives} == {allowed}
    assert all(any(first <= item.start <= last for first, last in allowed) for item in negatives)
    assert all(item.redraw_starts == () for item in trained if item not in negatives)
    judged = [item for fold in dataset.folds for item in dataset.clips(fold, "val")] + dataset.clips(RELEASE, "test")
    assert any(item.target == dataset.classes.index("none") for item in judged)
    assert all(item.redraw_starts == () for item in judged)


def test_a_ratio_of_negatives_knows_their_class_and_is_refused_where_there_are_none(values: dict[str, Any]) -> None:
    values["train"] |= {"negative_ratio": 0.5}
    params = parse_params(values, where="test")
    assert _negative_class(params, ("chase", "none")) == 1
    several = values | {"clips": values["clips"] | {"overlap": "keep"}, "promotion": values["promotion"]}
    several["clips"]["negatives"] = values["clips"]["negatives"] | {"label": None}
    several["promotion"] = values["promotion"] | {"metric": "video_mAP"}
    assert _negative_class(parse_params(several, where="test"), ("chase", "none")) is None
    with pytest.raises(ParamsError, match="negative_ratio and sampler: balanced both say what is drawn"):
        parse_params(values | {"train": values["train"] | {"sampler": "balanced"}}, where="test")
    with pytest.raises(ParamsError, match=r"train\.negative_ratio needs clips\.negatives"):
        parse_params(values | {"clips": values["clips"] | {"negatives": None}}, where="test")


@pytest.mark.parametrize(
    ("optimizer", "of_head", "is_read"),
    [
        ("adam", None, False),
        ("adamw", "adam", False),
        ("adamw", "sgd", True),
        ("swats", "adam", True),
        ("sgd", None, True),
    ],
)
def test_a_momentum_that_nothing_reads_makes_no_other_training(
    optimizer: str, of_head: Any, is_read: bool, values: dict[str, Any]
) -> None:
    finetune = None if of_head is None else Finetune(1, of_head, 0.1, 1, None, 1.0, 1.0)
    given: dict[str, Any] = {"classes": ("a", "b"), "negative_class": None, "epochs": 2, "lr": 0.1, "seed": 0}
    recipes = []
    for momentum in (0.5, 0.9):
        values["train"] |= {"optimizer": optimizer, "momentum": momentum}
        train_params = parse_params(values, where="test").train
        recipes.append(_recipe(train_params, **given, precision="fp32", finetune=finetune).to_json())
    one, other = recipes
    assert (one != other) == is_read
    if is_read:
        assert (one["momentum"], other["momentum"]) == (0.5, 0.9)
        assert one | {"momentum": 0.9} == other


@pytest.mark.parametrize(
    ("changes", "lr"),
    [
        ({"batch_size": 8, "accumulation": 1, "lr_batch_size": 16}, 0.05),
        ({"batch_size": 8, "accumulation": 6, "lr_batch_size": 16}, 0.3),  # a step is of 48 clips
        ({"batch_size": 8, "accumulation": 6, "lr_batch_size": None}, 0.1),
        ({"batch_size": "auto", "accumulation": 6, "lr_batch_size": 16}, 0.1),  # until a size is found
    ],
)
def test_rates_scale_with_the_clips_of_a_step(changes: dict[str, Any], lr: float, values: dict[str, Any]) -> None:
    values["train"] |= changes
    train_params = parse_params(values, where="test").train
    given: dict[str, Any] = {"classes": ("a", "b"), "negative_class": None, "epochs": 2, "lr": 0.1, "seed": 0}
    recipe = _recipe(train_params, **given, precision="fp32", finetune=None)
    assert recipe.lr == pytest.approx(lr) and recipe.accumulation == changes["accumulation"]


@pytest.mark.parametrize("labels", ["exclusive", "independent"])
def test_an_ensemble_of_folds_gives_the_mean_of_their_probabilities(labels: str) -> None:
    probs = np.array([[[0.9, 0.1], [0.2, 0.8]], [[0.5, 0.5], [0.6, 0.4]]])  # of two models, of two frames
    logits = np.log(probs) if labels == "exclusive" else np.log(probs / (1 - probs))
    tables = [
        pd.DataFrame({"model": "m", "fold": fold, "clip_id": "c", "video_id": "v", "frame": [0, 1]}).assign(
            a=of_fold[:, 0], b=of_fold[:, 1]
        )
        for fold, of_fold in enumerate(logits)
    ]
    mean = mean_logits(tables, labels)
    values_NK = mean[["a", "b"]].to_numpy(dtype=np.float64)
    odds = np.exp(values_NK)
    found = odds / odds.sum(axis=1, keepdims=True) if labels == "exclusive" else odds / (1 + odds)
    np.testing.assert_allclose(found, [[0.7, 0.3], [0.4, 0.6]], atol=1e-6)
    assert mean["fold"].tolist() == [RELEASE, RELEASE] and mean["frame"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("kept", "root"), [("s3://lab/runs/", "s3://lab/runs"), ("runs", "{cwd}/runs"), ("/shared/runs/", "/shared/runs")]
)
def test_where_trainings_are_kept_does_not_depend_on_a_workers_folder(
    values: dict[str, Any], monkeypatch: pytest.MonkeyPatch, kept: str, root: str
) -> None:
    monkeypatch.setenv("KINEFLOW_RUNS", kept)
    storage = resources_of(parse_params(values, where="params.yaml").train).run_storage
    assert storage is not None and storage.root == root.format(cwd=Path.cwd())
