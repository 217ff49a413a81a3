"""A training that takes a second: two behaviours to be read off features of every frame."""

from pathlib import Path

import numpy as np

from kineflow.data.dataset import ClipItem
from kineflow.data.preprocessing import Preprocessing
from kineflow.data.readers import StreamStore
from kineflow.data.views import Augment
from kineflow.training.job import Job, ObjectiveConfig
from kineflow.training.model_config import ModelConfig
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
