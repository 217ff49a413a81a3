"""`kineflow search` and `kineflow compare` in a real workspace: scored right, nothing trained twice, no test clip."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
import yaml
from mlflow import MlflowClient

from kineflow.evaluation import metrics
from kineflow.experiments.strategy import Halving, Strategy
from kineflow.experiments.trials import FoldScores, Trial
from kineflow.experiments.tuning import Tried
from kineflow.params import load_params
from kineflow.registry.nested_runs import PARENT_TAG
from kineflow.stages import paths
from kineflow.store import home
from kineflow.studies.search import _Memory
from tests.conftest import Built
from tests.flows.conftest import processes_in
from tests.graph import copy_workspace, run_command

METRIC = "video_top1_acc"
RATES = [0.001, 0.004]


@pytest.fixture
def root(built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the built workspace, and the current folder in it."""
    copied = copy_workspace(built.root, tmp_path / "workspace")
    monkeypatch.chdir(copied)
    for name in ("KINEFLOW_HOME", "MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    return copied


def write_space(root: Path, **changes: Any) -> Path:
    values = {
        "stream": "rgb",
        "metric": None,
        "algorithm": "grid",
        "num_trials": None,
        "num_generations": None,
        "prune": None,
        "space": {"streams.rgb.lr": {"grid": RATES}},
    }
    path = root / "space.yaml"
    path.write_text(yaml.safe_dump({"search": values | changes}))
    return path


def test_what_one_metric_pruned_is_open_again_for_another(tmp_path: Path) -> None:
    by_accuracy = Strategy({}, "random", METRIC, 4, None, Halving(1, 0.5), seed=0)
    by_f1 = replace(by_accuracy, metric="video_macro_f1")
    path, pruned = tmp_path / "memory.jsonl", Trial({"streams.rgb.lr": 0.1}, METRIC, state="pruned")
    pruned.add(FoldScores(0, "first", {METRIC: 0.5}, (), 1.0, None))
    _Memory(path, by_accuracy).trial_ended(pruned)
    assert _Memory(path, by_accuracy).tried == [Tried(pruned.changes, frozenset({"first"}))]
    assert _Memory(path, by_f1).tried == [Tried(pruned.changes, frozenset())]


@pytest.mark.parametrize("num_chars", [1, 20, 35])  # of 55; the last ends with a brace
def test_half_a_line_of_a_killed_search_is_passed_over(tmp_path: Path, num_chars: int) -> None:
    strategy = Strategy({}, "tpe", METRIC, 4, None, None, seed=0)
    path, first, second = tmp_path / "memory.jsonl", {"streams.rgb.lr": 0.1}, {"streams.rgb.lr": 0.2}
    whole = json.dumps({"changes": first, "pruned_by": None})
    path.write_text(whole + "\n" + whole[:num_chars])
    fold = FoldScores(0, "key", {METRIC: 0.5}, (), 1.0, 1)
    _Memory(path, strategy).fold_done(Trial(second, METRIC, [fold]))
    assert [one.changes for one in _Memory(path, strategy).tried] == [first, second]


def trained() -> dict[str, int]:
    """Every result of a training in the store, and when its weights were written."""
    found = (home() / "store" / "train").glob("*/*/weights.pt")
    return {path.parent.name: path.stat().st_mtime_ns for path in found}


def trials(name: str = "space") -> pd.DataFrame:
    return pd.read_csv(Path("reports/search") / name / "trials.csv").set_index("trial")


def score_by_hand(key: str) -> tuple[int, float]:
    """The fold of a result, and its accuracy on that fold's validation clips."""
    folder = home() / "store" / "train" / key[:2] / key
    logits = pd.read_parquet(folder / "logits.parquet")
    labels = pd.read_parquet(paths.CLIPS).set_index("clip_id")["label"].reindex(logits["clip_id"])
    classes = sorted(pd.read_parquet(paths.CLIPS)["label"].unique())
    right = np.array(classes)[logits[classes].to_numpy().argmax(axis=1)] == labels.to_numpy()
    return int(logits["fold"].iloc[0]), float(right.mean())


def test_a_search_scores_its_trials_and_is_not_trained_twice(root: Path) -> None:
    before = trained()
    run_command("kineflow", "search", "--space", write_space(root), cwd=root)
    new = {key: when for key, when in trained().items() if key not in before}
    table = trials()
    assert len(new) == 4 and table["state"].tolist() == ["done", "done"]  # two values, two folds

    by_hand: dict[int, list[float]] = {}
    for key in new:
        fold, score = score_by_hand(key)
        by_hand.setdefault(fold, []).append(score)
    for fold, scores in by_hand.items():
        assert sorted(scores) == pytest.approx(sorted(table[f"fold_{fold}"]), abs=1e-5)
    assert table[METRIC].tolist() == pytest.approx(table[["fold_0", "fold_1"]].mean(axis=1).tolist(), abs=1e-5)

    folds = pd.read_parquet(paths.FOLDS)
    held_out = set(folds.loc[folds["role"] == "test", "clip_id"])
    for key in new:
        seen = pd.read_parquet(home() / "store" / "train" / key[:2] / key / "logits.parquet")["clip_id"]
        assert held_out and not held_out & set(seen)
    looks = home() / "test_looks.jsonl"
    assert "search" not in (looks.read_text() if looks.is_file() else "")

    search_runs(root, table)
    out = run_command("kineflow", "search", "--space", root / "space.yaml", "--apply", cwd=root).stdout
    assert {key: when for key, when in trained().items() if key not in before} == new
    best = yaml.safe_load((root / "reports/search/space/best.yaml").read_text())
    assert load_params(root / "params.yaml").streams.rgb.lr == best["streams.rgb.lr"]
    assert "fold 1 of 2" not in out and "params.yaml: written" in out
    search_runs(root, table)  # and not written twice


def search_runs(root: Path, table: pd.DataFrame) -> None:
    """MLflow has one search with its trials, and in each its folds, with the scores of the table."""
    client = MlflowClient(f"sqlite:///{root / '.kineflow/mlflow/mlflow.db'}")
    (experiment,) = [e for e in client.search_experiments() if e.name.endswith("-search")]
    runs = client.search_runs([experiment.experiment_id])
    below: dict[str | None, list[Any]] = {}
    for run in runs:
        below.setdefault(run.data.tags.get(PARENT_TAG), []).append(run)
    (search,) = below[None]
    assert search.data.metrics[f"best_{METRIC}"] == pytest.approx(table[METRIC].max(), abs=1e-5)
    found = {run.info.run_name: run for run in below[search.info.run_id]}
    assert set(found) == set(table.index) and {run.info.status for run in runs} == {"FINISHED"}
    for name, run in found.items():
        assert float(run.data.params["streams.rgb.lr"]) == table.loc[name, "streams.rgb.lr"]
        assert run.data.metrics[METRIC] == pytest.approx(table.loc[name, METRIC], abs=1e-5)
        scores = {f.info.run_name: f.data.metrics[METRIC] for f in below[run.info.run_id]}
        assert scores == pytest.approx({f"fold {k}": table.loc[name, f"fold_{k}"] for k in (0, 1)}, abs=1e-5)
        (first, *_) = below[run.info.run_id]
        assert len(client.get_metric_history(first.info.run_id, "train_loss")) == 2  # epochs


@contextmanager
def started(root: Path, *arguments: str | Path) -> Iterator["subprocess.Popen[str]"]:
    command = [str(Path(sys.executable).with_name("kineflow")), *map(str, arguments)]
    child = subprocess.Popen(
        command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        yield child
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
        child.communicate()


def test_a_search_whose_driver_was_killed_goes_on(root: Path) -> None:
    before = trained()
    space = write_space(root, space={"streams.rgb.lr": {"grid": [*RATES, 0.007, 0.009]}})
    with started(root, "search", "--space", space) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if "fold 2 of 2" in line:
                os.kill(child.pid, signal.SIGKILL)  # no handler, no clean-up
                break
        else:
            pytest.fail("the search ended before it could be killed")
    deadline = time.monotonic() + 30
    while left := processes_in(root):
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.1)
    kept = {key: when for key, when in trained().items() if key not in before}
    assert 2 <= len(kept) < 8
    out = run_command("kineflow", "search", "--space", space, cwd=root).stdout
    assert "done" in out.splitlines()[0]  # what had finished is there before Ray is
    after = {key: when for key, when in trained().items() if key not in before}
    assert len(after) == 8 and {key: after[key] for key in kept} == kept
    table = trials()
    assert table["state"].tolist() == ["done"] * 4 and not list((home() / "checkpoints").glob("*.pt"))
    assert sorted(table["streams.rgb.lr"]) == [*RATES, 0.007, 0.009]


def trial_processes(driver: int) -> list[psutil.Process]:
    found = []
    for process in psutil.Process(driver).children(recursive=True):
        with suppress(psutil.Error):  # it has ended meanwhile
            if "ImplicitFunc" in " ".join(process.cmdline()):  # as Ray calls a trial
                found.append(process)
    return found


@pytest.mark.soak
def test_a_trial_whose_process_was_killed_is_begun_again(root: Path) -> None:
    before = trained()
    space = {"streams.rgb.lr": {"grid": RATES}, "streams.rgb.epochs": {"grid": [40]}}
    with started(root, "search", "--space", write_space(root, space=space)) as child:
        assert child.stdout is not None
        killed = False
        for line in child.stdout:
            if "fold 1 of 2" in line and not killed:
                trial_processes(child.pid)[0].kill()
                killed = True
        assert killed and child.wait() == 0
    assert len(trained()) == len(before) + 4 and trials()["state"].tolist() == ["done", "done"]


def test_tpe_prunes_goes_on_with_more_trials_and_keeps_what_it_pruned(root: Path) -> None:
    space: dict[str, Any] = {
        "algorithm": "tpe",
        "num_trials": 4,
        "prune": {"after_folds": 1, "keep": 0.3},
        "space": {
            "streams.rgb.lr": {"loguniform": [0.0005, 0.02]},
            "streams.rgb.num_frames": {"int_range": [4, 8, 4]},
            "train.grad_clip_norm": {"choice": [None, 2.0]},
        },
    }
    run_command("kineflow", "search", "--space", write_space(root, **space), cwd=root)
    first, before = trials(), trained()
    assert len(first) == 4 and {4, 8} >= set(first["streams.rgb.num_frames"])
    assert first["streams.rgb.lr"].between(0.0005, 0.02).all()
    of_fold = first[["fold_0"]].dropna()["fold_0"]
    for name in first.index[first["state"] == "pruned"]:
        assert first.loc[name, "num_folds"] == 1 and first.loc[name, "fold_0"] < of_fold.max()
    run_command("kineflow", "search", "--space", write_space(root, **space | {"num_trials": 5}), cwd=root)
    more = trials()
    assert len(more) == 5 and set(first.index) < set(more.index)
    pd.testing.assert_series_equal(more["num_folds"][first.index], first["num_folds"])
    client = MlflowClient(f"sqlite:///{root / '.kineflow/mlflow/mlflow.db'}")
    (experiment,) = [e for e in client.search_experiments() if e.name.endswith("-search")]
    runs = client.search_runs([experiment.experiment_id])
    (search,) = [run for run in runs if PARENT_TAG not in run.data.tags]  # one, with more trials below it
    below = {r.info.run_name: r for r in runs if r.data.tags.get(PARENT_TAG) == search.info.run_id}
    ends = {"done": "FINISHED", "pruned": "KILLED"}
    assert {name: run.info.status for name, run in below.items()} == more["state"].map(ends).to_dict()
    assert all(len(client.get_metric_history(run.info.run_id, METRIC)) == 1 for run in below.values())
    assert {key: when for key, when in trained().items() if key in before} == before


@pytest.mark.soak
def test_pbt_replaces_its_worst_values_and_every_score_is_of_a_whole_cross_validation(root: Path) -> None:
    space = {"streams.rgb.lr": {"loguniform": [0.0005, 0.01]}, "streams.rgb.num_frames": {"choice": [4, 8]}}
    changes: dict[str, Any] = {"algorithm": "pbt", "num_trials": 4, "num_generations": 3, "space": space}
    before = trained()
    run_command("kineflow", "search", "--space", write_space(root, **changes), cwd=root)
    table = trials()
    assert 4 <= len(table) <= 6 and set(table["state"]) == {"done"} and set(table["num_folds"]) == {2}
    assert len(trained()) == len(before) + 2 * len(table)  # what goes on unchanged is not trained again


def test_a_failed_trial_is_told_and_the_others_go_on(root: Path) -> None:
    models = {"grid": ["r3d_mini.avg", "r3d_mini.bert"]}
    space = {"streams.rgb.model": models, "streams.rgb.options.num_heads": {"grid": [4]}}  # which avg has not
    out = run_command("kineflow", "search", "--space", write_space(root, space=space), cwd=root).stdout
    table = trials().set_index("streams.rgb.model")
    assert table["state"].to_dict() == {"r3d_mini.bert": "done", "r3d_mini.avg": "failed"}
    assert "num_heads" in table.loc["r3d_mini.avg", "reason"] and "failed (" in out
    best = yaml.safe_load((root / "reports/search/space/best.yaml").read_text())
    assert best == {"streams.rgb.model": "r3d_mini.bert", "streams.rgb.options.num_heads": 4}


def test_a_comparison_uses_what_was_trained_and_says_what_it_measured(root: Path) -> None:
    before = trained()
    (root / "faster.yaml").write_text("streams.rgb.lr: 0.004\n")
    arguments = ("compare", "rgb", "faster.yaml", "r3d_mini.bert", "--seeds", "0,1")
    out = run_command("kineflow", *arguments, cwd=root).stdout
    assert "12 trainings, 2 of them already there" in out  # the folds of the stage train: as they are, seed 0
    table = pd.read_csv(root / "reports/compare/compare.csv").set_index("name")
    assert table.index.tolist() == ["rgb", "faster", "r3d_mini.bert"]
    released = json.loads((root / "metrics.json").read_text())["cv"]["rgb"][METRIC]
    after = trained()
    comparison_runs(root, table)
    run_command("kineflow", *arguments, cwd=root)
    assert trained() == after and len(after) == len(before) + 10
    comparison_runs(root, table)  # and not written twice

    one_seed = ("compare", "rgb", "--out", "reports/one")
    run_command("kineflow", *one_seed, cwd=root)
    alone = pd.read_csv(root / "reports/one/compare.csv").iloc[0]
    assert alone[f"{METRIC}_fold_mean"] == pytest.approx(released["mean"], abs=1e-5)
    logits = pd.read_parquet(root / "models/rgb/oof.parquet")
    classes = list(logits.columns[logits.columns.get_loc("frame") + 1 :])
    labels = pd.read_parquet(paths.CLIPS).set_index("clip_id")["label"].reindex(logits["clip_id"])
    values_NK = logits[classes].to_numpy(dtype=np.float64)
    probs_NK = np.exp(values_NK) / np.exp(values_NK).sum(axis=1, keepdims=True)
    truth = labels.map({name: k for k, name in enumerate(classes)}).to_numpy(dtype=np.float64)
    for name, score in metrics.scores(probs_NK, truth, task="clip").items():
        assert alone[name] == pytest.approx(score, abs=1e-4)
    summary = json.loads((root / "models/rgb/summary.json").read_text())
    assert alone["params_M"] == pytest.approx(summary["num_params"] / 1e6, rel=1e-4)
    assert alone["macs_G"] == pytest.approx(summary["macs"] / 1e9, rel=1e-4) and alone["ms_per_clip"] > 0
    difference = table.loc["faster", METRIC] - table.loc["rgb", METRIC]
    assert table.loc["faster", f"{METRIC}_difference"] == pytest.approx(difference, abs=1e-5)


def unfinished_epochs() -> list[int]:
    """How many epochs each training that is not finished has on disk."""
    found = []
    for path in (home() / "checkpoints").glob("*.pt"):
        with suppress(FileNotFoundError):  # finished meanwhile
            found.append(len(torch.load(path, weights_only=True)["curves"]))
    return found


def test_a_comparison_that_was_killed_goes_on_and_ends_where_an_undisturbed_one_does(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs = 12
    (root / "faster.yaml").write_text("streams.rgb.lr: 0.004\n")
    undisturbed = copy_workspace(root, root.parent / "undisturbed")
    before = trained()
    arguments = ("compare", "rgb", "faster.yaml", "--set", f"streams.rgb.epochs={epochs}")
    with started(root, *arguments) as child:
        deadline = time.monotonic() + 120
        while len(trained()) == len(before) or not any(3 <= done < epochs for done in unfinished_epochs()):
            assert child.poll() is None and time.monotonic() < deadline, child.communicate()
            time.sleep(0.02)
        os.killpg(child.pid, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    deadline = time.monotonic() + 30
    while left := processes_in(root):
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.1)
    kept = {key: when for key, when in trained().items() if key not in before}
    assert 1 <= len(kept) < 4 and any(done >= 3 for done in unfinished_epochs())
    assert not list((root / "reports/compare").iterdir())

    out = run_command("kineflow", *arguments, cwd=root).stdout
    assert f"4 trainings, {len(kept)} of them already there" in out
    after = {key: when for key, when in trained().items() if key not in before}
    assert len(after) == 4 and {key: after[key] for key in kept} == kept
    assert list((home() / "checkpoints").iterdir()) == []
    weights = {key: weights_of(key) for key in after}
    table = pd.read_csv(root / "reports/compare/compare.csv")

    monkeypatch.chdir(undisturbed)
    run_command("kineflow", *arguments, cwd=undisturbed)
    assert {key: weights_of(key) for key in after} == weights
    timings = ["ms_per_clip", "train_sec_per_fold"]
    wanted = pd.read_csv(undisturbed / "reports/compare/compare.csv")
    pd.testing.assert_frame_equal(table.drop(columns=timings), wanted.drop(columns=timings), check_exact=True)


def weights_of(key: str) -> bytes:
    return (home() / "store" / "train" / key[:2] / key / "weights.pt").read_bytes()


def comparison_runs(root: Path, table: pd.DataFrame) -> None:
    """MLflow has one comparison with its contenders, and in each the folds of both seeds."""
    client = MlflowClient(f"sqlite:///{root / '.kineflow/mlflow/mlflow.db'}")
    (experiment,) = [e for e in client.search_experiments() if e.name.endswith("-compare")]
    below: dict[str | None, list[Any]] = {}
    for run in client.search_runs([experiment.experiment_id]):
        assert run.info.status == "FINISHED"
        below.setdefault(run.data.tags.get(PARENT_TAG), []).append(run)
    (comparison,) = below[None]
    contenders = {run.info.run_name: run for run in below[comparison.info.run_id]}
    assert set(contenders) == set(table.index)
    assert contenders["faster"].data.params == {"streams.rgb.lr": "0.004"}
    for name, run in contenders.items():
        assert run.data.metrics[METRIC] == pytest.approx(table.loc[name, f"{METRIC}_fold_mean"], abs=1e-5)
        trainings = {one.info.run_name: one for one in below[run.info.run_id]}
        assert set(trainings) == {f"seed {seed}, fold {fold}" for seed in (0, 1) for fold in (0, 1)}
        for one in trainings.values():
            assert len(client.get_metric_history(one.info.run_id, "train_loss")) == 2  # epochs
            assert one.data.metrics["system/process_memory_megabytes"] > 50


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "r3d_mini.brt"], "unknown model 'r3d_mini.brt'"),
        (["compare", "rgb", "rgb"], "rgb is compared with itself"),
        (["compare", "rgb", "pose"], "pose is not enabled under streams in params; there are rgb, flow"),
        (["compare", "r3d_mini.avg", "--stream", "pose"], "--stream pose is not enabled under streams in params"),
        (["compare", "rgb", "--set", "streams.flow.epochs=3"], "is of another stream than rgb"),
        (["compare", "rgb", "--seeds", "0,0"], "--seeds wants whole numbers from 0, each of them once"),
        (["compare", "rgb", "--seeds", "a"], "--seeds a: write whole numbers, such as 0,1,2"),
        (["compare", "rgb", "--stream", "depth"], "--stream depth: known are rgb, flow, pose, fv"),
        (["compare", "rgb", "--set", "frames.fps=3"], "--set: frames.fps is settled before training"),
        (["compare", "rgb", "--set", "train.epoch=3"], "--set: there is no key 'train.epoch'"),
        (["compare", "rgb", "--set", "streams.rgb={}"], "--set: streams.rgb is a section of many keys; name those"),
        (["compare", "rgb", "--set", "streams.rgb.finetune.top_blocks=1"], "streams.rgb.finetune is null; write"),
        (["compare", "gone.yaml"], "gone.yaml is no YAML file that can be read"),
        (["search", "--space", "gone"], "there is no space 'gone'"),
    ],
)
def test_wrong_usage_is_one_sentence(workspace: Path, arguments: list[str], message: str) -> None:
    done = run_command("kineflow", *arguments, cwd=workspace, check=False)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1


def test_without_data_both_say_what_to_build(workspace: Path) -> None:
    for arguments in (["search"], ["compare", "rgb"]):
        done = run_command("kineflow", *arguments, cwd=workspace, check=False)
        assert done.returncode == 3 and "is not there; run the stage that makes it" in done.stderr
