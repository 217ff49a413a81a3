"""`kill -9` in extraction, flow and pose: nothing is half-written, and the next run goes on to the same bytes."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pandas as pd
import psutil
import pytest
import yaml

from kineflow.stages import paths
from kineflow.stages.source_manifest import Source, write_sources
from kineflow.store import file_sha256
from kineflow.tables import VIDEOS, write_table
from kineflow.video.probe import probe
from tests.stages.test_extract_flow import keypoints_csv

NUM_VIDEOS = 12
STAGES = (
    ("extract_frames", "frames", paths.FRAMES),
    ("compute_flow", "flow", paths.FLOW),
    ("compute_pose", "pose", paths.POSE),
)
# The stage as `kineflow stage NAME` runs it; with --ray, on workers from the first item on.
RUN_STAGE = """
import sys
from contextlib import nullcontext
from kineflow.parallel.session import ray_session
from kineflow.stages import stage
with ray_session() if "--ray" in sys.argv else nullcontext():
    code = stage.main(sys.argv[1])
sys.exit(code)
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KINEFLOW_HOME", raising=False)
    values = yaml.safe_load((repository / "params" / "tiny.yaml").read_text())
    # Frames large enough that a video takes a good tenth of a second, so that a kill finds one under way.
    values["frames"] |= {"height_px": 480, "width_px": 640}
    values["pose"]["path"], values["streams"]["pose"]["enabled"] = "keypoints", True
    Path("params.yaml").write_text(yaml.safe_dump(values))
    rows, sources = [], []
    for index in range(NUM_VIDEOS):
        path = Path("videos") / f"{index:02d}.mp4"
        path.parent.mkdir(exist_ok=True)
        write_noise(path, seed=index)
        info = probe(path)
        row = {column: getattr(info, column, None) for column, _ in VIDEOS.columns}
        row |= {"video_id": path.name, "uri": str(path), "sha256": file_sha256(path), "num_bytes": path.stat().st_size}
        rows.append(row | {"group": path.name, "status": "ok", "reason": None})
        keypoints = Path("keypoints") / f"{path.stem}.csv"
        keypoints_csv(keypoints, [(10.0 + 3 * frame, 2.0 * index) for frame in range(info.num_frames)])
        sources.append(Source("pose", keypoints.name, keypoints.stat().st_size, file_sha256(keypoints)))
    write_sources(paths.SOURCES, sources)
    write_table(paths.VIDEOS, VIDEOS, pd.DataFrame(rows))
    return tmp_path


def write_noise(path: Path, *, seed: int) -> None:
    noise = np.random.default_rng(seed)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(10))
        stream.width, stream.height = 96, 64
        for _ in range(20):
            image = noise.integers(0, 256, (64, 96, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


def start(stage: str, *options: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", RUN_STAGE, stage, *options]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def finished(kind: str) -> list[Path]:
    """Results that are whole, by their place in the store."""
    return [path for path in Path(".kineflow/store", kind).glob("??/*") if not path.name.startswith(".")]


def contents(out: Path) -> dict[str, str]:
    files = sorted(path for path in out.rglob("*") if path.is_file())
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def kill_after(num_results: int, process: "subprocess.Popen[bytes]", kind: str) -> None:
    """Kill the stage a moment after so many results are there, with everything it started left to itself."""
    deadline = time.monotonic() + 60
    while len(finished(kind)) < num_results and time.monotonic() < deadline:
        assert process.poll() is None, "the stage ended before it could be killed"
        time.sleep(0.005)
    time.sleep(random.Random(num_results).uniform(0, 0.1))
    children = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert psutil.wait_procs(children, timeout=20)[1] == []


@pytest.mark.parametrize("options", [(), ("--ray",)], ids=["in_process", "on_ray"])
def test_killed_stages_leave_nothing_half_written_and_go_on(
    project: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    for stage, kind, out in STAGES:
        for num_results in (2, 6) if not options else (4,):
            process = start(stage, *options)
            kill_after(num_results, process, kind)
            assert process.returncode == -signal.SIGKILL
            assert not (out / "index.tsv").exists()
        done_before = {path: path.stat().st_mtime_ns for path in finished(kind)}
        assert len(done_before) < NUM_VIDEOS
        assert start(stage).wait(timeout=120) == 0
        untouched = {path: path.stat().st_mtime_ns for path in done_before}
        assert untouched == done_before
        assert len(finished(kind)) == NUM_VIDEOS
    resumed = [contents(out) for _, _, out in STAGES]
    monkeypatch.setenv("KINEFLOW_HOME", str(project / "clean"))
    for stage, _, _ in STAGES:
        assert start(stage).wait(timeout=120) == 0
    assert [contents(out) for _, _, out in STAGES] == resumed


def test_what_a_killed_run_left_is_swept_once_it_is_old(project: Path) -> None:
    process = start("extract_frames")
    kill_after(1, process, "frames")
    left = list(Path(".kineflow/store/frames").glob("*/.partial-*"))
    hour_ago = time.time() - 3600
    for path in [part for workdir in left for part in (workdir, *workdir.rglob("*"))]:
        os.utime(path, (hour_ago, hour_ago))
    fresh = Path(".kineflow/store/frames/00/.partial-alive")
    fresh.mkdir(parents=True, exist_ok=True)
    assert start("extract_frames").wait(timeout=120) == 0
    assert list(Path(".kineflow/store/frames").glob("*/.partial-*")) == [fresh]
