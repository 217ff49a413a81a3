"""The decoded cache under trainings that fill it at once, that are killed, and a hand that deletes it meanwhile."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kineflow.data.dataset import ClipItem
from kineflow.data.decoded_cache import DecodedCache
from kineflow.data.readers import StreamStore
from kineflow.data.views import Augment
from kineflow.training.job import Job
from kineflow.training.model_config import ModelConfig
from kineflow.training.result import result_store
from kineflow.training.run import run_job
from tests.jobs import make_job
from tests.unit.data.test_preprocessing import make
from tests.unit.video.test_dct_scale import frame_store, smooth

NUM_VIDEOS, NUM_FRAMES, HEIGHT, WIDTH = 8, 16, 64, 80
EPOCHS = 9  # of 4 frames a clip: every frame is read twice and more
BYTES_OF_VIDEO = NUM_FRAMES * 24 * 30 * 3
SMALL, LARGE = 3 * BYTES_OF_VIDEO, 10**9


def rgb_job(root: Path) -> Job:
    """A small training on JPEGs; the second half of the videos is bright."""
    store_dir = root / "frames"
    if not store_dir.exists():
        store_dir.mkdir(parents=True)
        rows = ["video_id\tkey\tnum_frames"]
        for video in range(NUM_VIDEOS):
            dim = 1 if video >= NUM_VIDEOS // 2 else 2
            images = [
                (smooth(HEIGHT, WIDTH, seed=100 * video + i) * 255 / dim).astype(np.uint8) for i in range(NUM_FRAMES)
            ]
            frame_store(store_dir / f"v{video}.zip", images).close()
            rows.append(f"v{video}\tkey{video}\t{NUM_FRAMES}")
        (store_dir / "index.tsv").write_text("\n".join(rows) + "\n")
    items = [ClipItem(f"c{v}", f"v{v}", 0, NUM_FRAMES, int(v >= NUM_VIDEOS // 2)) for v in range(NUM_VIDEOS)]
    base = make_job(root, epochs=EPOCHS)
    return replace(
        base,
        name="rgb",
        model=ModelConfig("r3d_mini.avg", "clip", 2, 3, 0.0, None, {}),
        store=StreamStore.of("rgb", store_dir),
        classes=("dim", "bright"),
        labels="exclusive",
        train=items[::2] + items[1:6:2],
        val=items[1::2],
        preprocessing=make(height_px=16, width_px=16, decode_height_px=20, decode_width_px=20),
        augment=Augment(flip=True, crop_scale_min=0.8, brightness=0.1, amplitude=0.0, time_jitter=0.2),
    )


def train(root: Path, home: Path, *, cache_bytes: int, cache_root: Path | None = None) -> Path:
    """Train in this process, and return the folder of the result."""
    job = rgb_job(root)
    cache = DecodedCache(cache_root or home / "decoded", cache_bytes)
    run_job(job, job.key, result_store(home), home / "checkpoints", cache)
    return result_store(home).path(job.key)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "weights.pt", weights_only=True)


def assert_same(found: Path, expected: Path) -> None:
    other = weights(expected)
    for name, value in weights(found).items():
        assert torch.equal(value, other[name]), name
    assert (found / "logits.parquet").read_bytes() == (expected / "logits.parquet").read_bytes()


TRAIN = """
import sys
from pathlib import Path
from tests.faults.test_decoded_cache import train
root, home, cache, cache_bytes = sys.argv[1:]
train(Path(root), Path(home), cache_bytes=int(cache_bytes), cache_root=Path(cache))
"""


def start(repository: Path, root: Path, home: Path, cache: Path, *, cache_bytes: int) -> subprocess.Popen:
    arguments = [str(root), str(home), str(cache), str(cache_bytes)]
    return subprocess.Popen([sys.executable, "-c", TRAIN, *arguments], cwd=repository, start_new_session=True)


@pytest.mark.parametrize("cache_bytes", [SMALL, LARGE])
def test_weights_do_not_depend_on_the_cache(tmp_path, cache_bytes):
    without = train(tmp_path, tmp_path / "without", cache_bytes=0)
    home = tmp_path / "with"
    assert_same(train(tmp_path, home, cache_bytes=cache_bytes), without)
    num_files = len(list((home / "decoded").iterdir()))
    assert num_files == NUM_VIDEOS if cache_bytes == LARGE else 0 < num_files < NUM_VIDEOS
    filled = train(tmp_path, tmp_path / "again", cache_bytes=cache_bytes, cache_root=home / "decoded")
    assert_same(filled, without)


def test_trainings_at_once_in_a_cache_that_is_deleted_meanwhile(tmp_path, repository):
    without = train(tmp_path, tmp_path / "without", cache_bytes=0)
    cache = tmp_path / "decoded"
    sizes = (SMALL, LARGE)  # the small one pushes out what the large one keeps
    running = [
        start(repository, tmp_path, tmp_path / f"home{i}", cache, cache_bytes=size) for i, size in enumerate(sizes)
    ]
    num_deleted = 0
    while any(process.poll() is None for process in running):
        if cache.exists() and len(list(cache.iterdir())) > 1:
            shutil.rmtree(cache, ignore_errors=True)
            num_deleted += 1
        time.sleep(0.002)
    assert [process.returncode for process in running] == [0, 0]
    assert num_deleted > 0, "nothing was deleted while it was in use, so nothing was shown"
    for i in range(len(sizes)):
        job = rgb_job(tmp_path)
        assert_same(result_store(tmp_path / f"home{i}").path(job.key), without)


def test_a_training_killed_while_it_fills_the_cache_ends_with_the_same_weights(tmp_path, repository):
    without = train(tmp_path, tmp_path / "without", cache_bytes=0)
    home, cache = tmp_path / "home", tmp_path / "decoded"
    process = start(repository, tmp_path, home, cache, cache_bytes=LARGE)
    while process.poll() is None and not (cache.exists() and any(cache.iterdir())):
        time.sleep(0.0005)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it finished before it was killed: nothing was shown"
    assert len(list(cache.glob("*.npy"))) < NUM_VIDEOS
    for path in cache.glob("*.npy"):  # what is there is whole
        assert np.load(path).shape == (NUM_FRAMES, 24, 30, 3)
    (cache / ".partial-half").write_bytes(b"half")
    resumed = train(tmp_path, home, cache_bytes=LARGE, cache_root=cache)
    assert_same(resumed, without)
    assert json.loads((resumed / "result.json").read_text())["device"] == "cpu"
