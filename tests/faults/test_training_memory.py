"""A training reads any number of clips through the decoded cache in bounded memory, with a bounded number of files."""

import json
import resource
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import simplejpeg
import torch

from kineflow.data.dataset import Batch, ClipItem
from kineflow.data.decoded_cache import DecodedCache
from kineflow.data.preprocessing import Preprocessing
from kineflow.data.readers import StreamStore
from kineflow.data.views import Augment
from kineflow.models.classifier import Prediction
from kineflow.training.job import Job, ObjectiveConfig
from kineflow.training.model_config import ModelConfig
from kineflow.training.objectives import Objective
from kineflow.training.result import result_store
from kineflow.training.run import run_job
from kineflow.video.frame_store import writing_frames
from tests.jobs import make_job
from tests.unit.data.test_preprocessing import make

NUM_FRAMES, SIDE_PX, EPOCHS, BATCH_SIZE = 8, 32, 2, 20
WARM_UP_CLIPS = 200  # what libraries set up once
MAX_FILES = 1024  # the usual limit
MAX_GROWTH_MB = 100

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc says how much memory is the process's own")


@dataclass(frozen=True)
class Measured(ObjectiveConfig):
    """The same objective, which notes the memory of its process at every batch."""

    log: str = ""

    def make(self, job: Job, preprocessing: Preprocessing, device: torch.device, cache: DecodedCache) -> Objective:
        return _Measuring(super().make(job, preprocessing, device, cache), Path(self.log))


class _Measuring:
    def __init__(self, objective: Objective, log: Path) -> None:
        self.objective, self.labels, self.log = objective, objective.labels, log

    def __call__(self, prediction: Prediction, batch: Batch, *, epoch: int) -> torch.Tensor:
        with self.log.open("a") as file:
            file.write(json.dumps(memory_of_this_process()) + "\n")
        return self.objective(prediction, batch, epoch=epoch)


def memory_of_this_process() -> dict[str, float]:
    """In MB: what is its own, and what it maps of files, whose pages the system takes back as it likes."""
    lines = [line.split() for line in Path("/proc/self/status").read_text().splitlines()]
    found = {
        name.rstrip(":"): int(value) / 1024
        for name, value, *_ in (line for line in lines if len(line) > 1)
        if name in ("RssAnon:", "RssFile:")
    }
    return found | {"files": psutil.Process().num_fds()}


def write_videos(root: Path, count: int) -> StreamStore:
    """Videos of noise, each of its own."""
    root.mkdir()
    rng = np.random.default_rng(0)
    jpegs = [
        simplejpeg.encode_jpeg(rng.integers(0, 256, (SIDE_PX, SIDE_PX, 3), np.uint8), quality=90) for _ in range(64)
    ]
    rows = ["video_id\tkey\tnum_frames"]
    for video in range(count):
        with writing_frames(root / f"v{video}.zip", fps=10.0, height=SIDE_PX, width=SIDE_PX, quality=90) as writer:
            for index in range(NUM_FRAMES):
                writer.append(jpegs[(video + index) % 64], source_frame=index, timestamp_sec=index / 10)
        rows.append(f"v{video}\tkey{video}\t{NUM_FRAMES}")
    (root / "index.tsv").write_text("\n".join(rows) + "\n")
    return StreamStore.of("rgb", root)


def train(root: Path, count: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    base = make_job(root, epochs=EPOCHS)
    size: dict[str, Any] = dict.fromkeys(("height_px", "width_px", "decode_height_px", "decode_width_px"), 16)
    job = replace(
        base,
        model=ModelConfig("r3d_mini.avg", "clip", 2, 3, 0.0, None, {}),
        store=StreamStore.of("rgb", root / "frames"),
        labels="exclusive",
        train=[ClipItem(f"c{video}", f"v{video}", 0, NUM_FRAMES, video % 2) for video in range(count)],
        val=[],
        preprocessing=make(num_frames=NUM_FRAMES, **size),
        augment=Augment(flip=True, brightness=0.1, amplitude=0.0),
        recipe=replace(base.recipe, batch_size=BATCH_SIZE),
        objective=Measured(0.0, log=str(root / "memory.jsonl")),
    )
    run_job(job, job.key, result_store(root), root / "checkpoints", DecodedCache(root / "decoded", 10**9))


@pytest.mark.parametrize("count", [1_200, pytest.param(10_000, marks=pytest.mark.soak)])
def test_two_epochs_do_not_grow_a_worker(tmp_path: Path, count: int) -> None:
    write_videos(tmp_path / "frames", count)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(train, tmp_path, count).result()
    seen = [json.loads(line) for line in (tmp_path / "memory.jsonl").read_text().splitlines()]
    assert len(seen) == EPOCHS * count // BATCH_SIZE
    assert len(list((tmp_path / "decoded").glob("*.npy"))) == count  # through the cache
    before, later = seen[WARM_UP_CLIPS // BATCH_SIZE], seen[WARM_UP_CLIPS // BATCH_SIZE :]
    most = {name: max(sample[name] for sample in later) for name in before}
    print(f"{count} clips, {EPOCHS} epochs: {before} after {WARM_UP_CLIPS}, at most {most}")
    assert most["RssAnon"] - before["RssAnon"] < MAX_GROWTH_MB * min(1.0, count / 5_000)
    assert most["files"] < MAX_FILES / 2  # a student's teacher reads videos too
    shutil.rmtree(tmp_path / "frames")
