"""A training that takes a second: two behaviours to be read off features of every frame."""

import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kineflow.data.dataset import Batch, ClipItem
from kineflow.data.decoded_cache import DecodedCache
from kineflow.data.preprocessing import Preprocessing
from kineflow.data.readers import StreamStore
from kineflow.data.views import Augment
from kineflow.models.classifier import Prediction
from kineflow.training.job import Job, ObjectiveConfig
from kineflow.training.model_config import ModelConfig
from kineflow.training.objectives import Loss, Objective
from kineflow.training.recipe import Recipe

NUM_VIDEOS, NUM_FRAMES, FEATURE_DIM = 12, 20, 8


def make_store(root: Path) -> StreamStore:
    """Features whose first two values, summed over time, are the two behaviours; written once."""
    if (root / "index.tsv").exists():  # a process beside this one may be reading them
        return StreamStore.of("embedding", root)
    rng = np.random.default_rng(0)
    root.mkdir(parents=True, exist_ok=True)
    lines = ["video_id\tkey\tnum_frames"]
    for video in range(NUM_VIDEOS):
        np.save(root / f"v{video}.npy", rng.normal(size=(NUM_FRAMES, FEATURE_DIM)).astype(np.float32))
        lines.append(f"v{video}\tkey{video}\t{NUM_FRAMES}")
    (root / "index.tsv").write_text("\n".join(lines) + "\n")
    return StreamStore.of("embedding", root)


def make_job(root: Path, *, epochs: int, fold: int = 0) -> Job:
    store = make_store(root / "embeddings")
    items = []
    for video in range(NUM_VIDEOS):
        features = np.load(root / "embeddings" / f"v{video}.npy")
        target = (np.cumsum(features[:, :2], axis=0) > 0).astype(np.float32)
        items.append(ClipItem(f"c{video}", f"v{video}", 0, NUM_FRAMES, target))
    preprocessing = Preprocessing(
        task="frame",
        stream="embedding",
        fps=10.0,
        frames={},
        flow=None,
        sampling="dense",
        num_frames=NUM_FRAMES,
        frame_stride=1,
        height_px=1,
        width_px=1,
        decode_height_px=1,
        decode_width_px=1,
        subtract_background=False,
        flow_scale_px=1.0,
        num_views=1,
    )
    recipe = Recipe(
        epochs=epochs,
        batch_size=4,
        optimizer="sgd",
        lr=0.02,
        weight_decay=0.0,
        schedule="cosine",
        warmup_fraction=0.0,
        label_smoothing=0.0,
        grad_clip_norm=1.0,
        ema_decay=None,
        eval_every=1,
        select="last",
        seed=1,
        precision="fp32",
        threads=1,
    )
    return Job(
        name=f"fold {fold}",
        model=ModelConfig("embedding.lstm", "frame", 2, FEATURE_DIM, 0.0, None, {"hidden_dim": 16, "num_layers": 1}),
        store=store,
        classes=("a", "b"),
        labels="independent",
        train=items[:8],
        val=items[8:],
        test=[],
        preprocessing=preprocessing,
        augment=Augment(),
        recipe=recipe,
        fold=fold,
        gpus=0.0,
        objective=ObjectiveConfig(0.0),
    )


@dataclass(frozen=True)
class Counted(ObjectiveConfig):
    """The same objective, which notes each epoch that a process begins, and may take its time."""

    log: str = ""
    pause_sec: float = 0.0

    @property
    def key(self) -> dict[str, Any]:
        return ObjectiveConfig(self.label_smoothing, self.class_weights, self.focal_gamma).key

    def make(self, job: Job, preprocessing: Preprocessing, device: torch.device, cache: DecodedCache) -> Objective:
        return _Counting(super().make(job, preprocessing, device, cache), job.fold, self.log, self.pause_sec)


class _Counting:
    def __init__(self, objective: Objective, fold: int, log: str, pause_sec: float) -> None:
        self.objective, self.fold, self.log, self.pause_sec = objective, fold, log, pause_sec
        self.labels = objective.labels
        self.begun = -1

    def __call__(self, prediction: Prediction, batch: Batch, *, epoch: int) -> Loss:
        if epoch != self.begun:
            self.begun = epoch
            with Path(self.log).open("a") as file:
                file.write(f"{self.fold} {epoch}\n")
            time.sleep(self.pause_sec)
        return self.objective(prediction, batch, epoch=epoch)


def counted(job: Job, log: Path, *, pause_sec: float = 0.0) -> Job:
    """The same training, under the same key, whose epochs are noted in `log`."""
    return replace(job, objective=Counted(0.0, log=str(log), pause_sec=pause_sec))


def epochs_begun(log: Path) -> Counter[tuple[int, int]]:
    """How often each epoch of each fold was begun: (fold, epoch)."""
    lines = log.read_text().splitlines() if log.exists() else []
    return Counter((int(fold), int(epoch)) for fold, epoch in map(str.split, lines))
