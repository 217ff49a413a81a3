"""Ten thousand items, and videos of any length, in bounded memory."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

import psutil
import pytest
import simplejpeg

from kineflow.parallel.session import ray_session
from kineflow.parallel.tasks import map_tasks
from kineflow.parallel.threads import num_cores
from kineflow.video.frame_store import writing_frames

NUM_ITEMS = 10_000
RESULT_BYTES = 10_000  # all results together would be 100 MB
MAX_GROWTH_MB = 40
MAX_MB = 900  # with PyTorch loaded
MAX_SLOPE_MB_PER_MIN = 1.0
FPS = 10
SIDE_PX = 112

# A process of its own for each length; VmHWM is its own peak, in KiB; ru_maxrss would be that of the tests, if higher.
COMPUTE_FLOW = """
import json, sys
from pathlib import Path
from kineflow.models.flow import compute_flow, flow_rule
rule = flow_rule("dis_fast", bound_px=20.0, weights=None)
found = compute_flow(Path(sys.argv[1]), Path(sys.argv[2]), rule=rule, jpeg_quality=None, weights=None)
print(json.dumps([found + 1, int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024]))
"""
EMBED = """
import json, sys
from pathlib import Path
import torch
from kineflow.models.frame_features import Embedder
from kineflow.stages.embed import EmbedTask, embed_into_store
torch.set_num_threads(1)
embedder = Embedder("resnet18", 64, 64, "fp32")
found = embed_into_store(EmbedTask(Path(sys.argv[1]), "key", Path(sys.argv[2]), embedder, 0))
print(json.dumps([found, int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024]))
"""


class Watched(Sequence[int]):
    """The numbers from 0, and how many of them were asked for."""

    def __init__(self, stop: int, start: int = 0) -> None:
        self.start, self.stop = start, stop
        self.num_taken = 0
        self.rest: Watched | None = None

    def __len__(self) -> int:
        return self.stop - self.start

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> "Watched": ...
    def __getitem__(self, index: int | slice) -> "int | Watched":
        if isinstance(index, slice):
            assert index.stop is None
            self.rest = Watched(self.stop, self.start + (index.start or 0))
            return self.rest
        self.num_taken += 1
        return self.start + index

    def __iter__(self) -> Iterator[int]:
        for index in range(len(self)):
            yield self[index]


@pytest.mark.soak
def test_ten_thousand_items_are_neither_in_flight_nor_in_memory_at_once() -> None:
    def block(item: int) -> bytes:
        return item.to_bytes(4, "big") * (RESULT_BYTES // 4)

    items = Watched(NUM_ITEMS)
    process = psutil.Process()
    num_done = most_in_flight = 0
    peak_mb = before_mb = 0.0
    with ray_session():
        for index, result in map_tasks(block, items, label="blocks"):
            assert int.from_bytes(result[:4], "big") == index
            num_done += 1
            if items.rest is not None:
                most_in_flight = max(most_in_flight, items.rest.num_taken - num_done)
            if num_done == 100:
                before_mb = process.memory_info().rss / 2**20
            if num_done % 50 == 0:
                peak_mb = max(peak_mb, process.memory_info().rss / 2**20)
    print(f"{most_in_flight} in flight at most; {before_mb:.0f} MB after 100 items, {peak_mb:.0f} MB at most")
    assert num_done == NUM_ITEMS
    assert 1 <= most_in_flight <= 2 * num_cores()
    assert peak_mb - before_mb < MAX_GROWTH_MB


def write_frames(path: Path, *, num_minutes: int) -> int:
    """Frames of a pattern that moves, over and over; returns their number."""
    import numpy as np

    noise = np.random.default_rng(0).integers(0, 256, (SIDE_PX // 8 + 2, SIDE_PX // 8 + 2, 3), np.uint8)
    scene = noise.repeat(8, 0).repeat(8, 1)
    jpegs = []
    for step in range(8):
        image = np.ascontiguousarray(scene[step : step + SIDE_PX, step : step + SIDE_PX])
        jpegs.append(simplejpeg.encode_jpeg(image, quality=85))
    num_frames = num_minutes * 60 * FPS
    with writing_frames(path, fps=FPS, height=SIDE_PX, width=SIDE_PX, quality=85) as writer:
        for index in range(num_frames):
            writer.append(jpegs[index % 8], source_frame=index, timestamp_sec=index / FPS)
    return num_frames


@pytest.mark.soak
@pytest.mark.parametrize("program", [COMPUTE_FLOW, EMBED], ids=["flow", "embeddings"])
def test_memory_does_not_grow_with_the_length_of_a_video(tmp_path: Path, program: str) -> None:
    peaks = {}
    for num_minutes in (5, 20):
        frames = tmp_path / f"{num_minutes}.zip"
        num_frames = write_frames(frames, num_minutes=num_minutes)
        command = [sys.executable, "-c", program, str(frames), str(tmp_path / f"{num_minutes}.out")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found, peaks[num_minutes] = json.loads(done.stdout)
        assert found == num_frames
    slope = (peaks[20] - peaks[5]) / 15
    print(f"{peaks[5]:.0f} MB at 5 minutes, {peaks[20]:.0f} MB at 20, {slope:.2f} MB a minute")
    assert max(peaks.values()) < MAX_MB
    assert slope < MAX_SLOPE_MB_PER_MIN
