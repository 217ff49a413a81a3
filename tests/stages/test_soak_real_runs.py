"""Whole runs at their real size, over three seeds: the sample, and real clips. `make soak` prints the scores."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from kineflow.sample.spec import MOTION_PAIRS
from kineflow.stages import paths
from kineflow.stages.stage import main as run_stage
from kineflow.tables import CLIPS, LOGITS, read_table

pytestmark = [pytest.mark.soak, pytest.mark.filterwarnings("ignore")]
STAGES = [
    "sync",
    "ingest",
    "validate_raw",
    "extract_frames",
    "compute_flow",
    "compute_pose",
    "embed",
    "make_splits",
    "validate_dataset",
]


def change(preset: str, repository: Path, **changes) -> None:
    """Write params.yaml from a preset; keys hold dots as double underscores."""
    values = yaml.safe_load((repository / "params" / f"{preset}.yaml").read_text())
    for key, value in changes.items():
        *parents, last = key.split("__")
        section = values
        for parent in parents:
            section = section[parent]
        section[last] = value
    Path("params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))


def run(*stages: str) -> None:
    for stage in stages:
        name, _, stream = stage.partition("@")
        assert run_stage(name, stream or None) == 0, stage


def pair_accuracy(oof: Path, pair: tuple[str, str]) -> float:
    """Share of the clips of two classes that a model tells apart, when asked between these two only."""
    logits = read_table(oof, LOGITS).merge(read_table(paths.CLIPS, CLIPS)[["clip_id", "label"]], on="clip_id")
    of_pair = logits[logits["label"].isin(pair)]
    said = np.where(of_pair[pair[0]] > of_pair[pair[1]], *pair)
    return float((said == of_pair["label"]).mean())


def test_the_sample_needs_motion_and_motion_solves_it(workspace, repository):
    fused, stills = [], []
    for seed in range(3):
        change(
            "sample",
            repository,
            seed=seed,
            sample__seed=seed,
            sample__folder=f"data/sample{seed}",
            data__source=f"data/sample{seed}/clips",
            data__annotations=f"data/sample{seed}/clips.csv",
            data__name=f"sample{seed}",
            distill__enabled=False,
        )
        run(*STAGES, "train@rgb", "train@flow", "distill", "evaluate")
        fused.append(json.loads(paths.METRICS.read_text())["cv"]["fusion"]["video_top1_acc"]["mean"])
        # the same protocol with a model that sees one frame
        values = yaml.safe_load(Path("params.yaml").read_text())
        values["streams"]["rgb"] |= {
            "model": "resnet10_tiny.none",
            "subtract_background": False,
            "height_px": 64,
            "width_px": 64,
        }
        Path("params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
        run("train@rgb")
        stills.append([pair_accuracy(paths.MODELS / "rgb" / "oof.parquet", pair) for pair in MOTION_PAIRS])
        print(f"seed {seed}: fused {fused[-1]:.3f}; one frame on the pairs {np.round(stills[-1], 3).tolist()}")
    print(f"fused {np.mean(fused):.3f}; one frame on the pairs {np.mean(stills, axis=0).round(3).tolist()}")
    assert min(fused) >= 0.90
    assert np.abs(np.mean(stills, axis=0) - 0.5).max() <= 0.10


def test_real_clips_of_people(workspace, repository, shared_data):
    (Path("data") / "ut_interaction").symlink_to(shared_data / "ut_interaction")
    scores = []
    for seed in range(3):
        change("ut_interaction", repository, seed=seed)
        run(*STAGES, "train@rgb", "train@flow", "distill", "evaluate")
        metrics = json.loads(paths.METRICS.read_text())
        scores.append(metrics["cv"]["fusion"]["video_top1_acc"]["mean"])
        print(f"seed {seed}: { {name: round(cv['video_top1_acc']['mean'], 3) for name, cv in metrics['cv'].items()} }")
    mean = float(np.mean(scores))
    print(f"fused, mean of three seeds: {mean:.3f}")
    assert mean >= 0.80


def test_bf16_trains_as_well_as_fp32(workspace, repository):
    """Both on the same folds of the sample, with the same seeds: what differs is within what seeds differ by."""
    scores = {"fp32": [], "bf16": []}
    for seed in range(3):
        for precision, found in scores.items():
            change(
                "sample",
                repository,
                seed=seed,
                train__precision=precision,
                streams__flow__enabled=False,
                distill__enabled=False,
                release__stream="rgb",
            )
            run(*STAGES, "train@rgb", "evaluate")
            rgb = json.loads(paths.METRICS.read_text())["cv"]["rgb"]
            found.append((rgb["video_top1_acc"]["mean"], rgb["video_log_loss"]["mean"]))
            print(f"seed {seed} {precision}: top-1 {found[-1][0]:.3f}, log loss {found[-1][1]:.3f}", flush=True)
    for fp32, bf16 in zip(np.transpose(scores["fp32"]), np.transpose(scores["bf16"]), strict=True):
        noise = np.sqrt((fp32.var(ddof=1) + bf16.var(ddof=1)) / len(fp32))
        print(f"fp32 {fp32.mean():.3f}, bf16 {bf16.mean():.3f}, standard error of the difference {noise:.3f}")
        assert abs(bf16.mean() - fp32.mean()) <= max(2 * noise, 0.02)
