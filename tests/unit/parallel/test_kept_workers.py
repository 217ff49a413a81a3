"""Workers that keep what they loaded: on a core, and on a GPU that each holds (Ray counts GPUs, also where none is)."""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from kineflow.errors import KineflowError
from kineflow.models.frame_features import Embedder
from kineflow.parallel.session import ray_session
from kineflow.parallel.tasks import map_tasks
from kineflow.stages import embed
from kineflow.store import ResultStore
from kineflow.video.frame_store import writing_frames

NUM_VIDEOS = 8
EMBEDDER = Embedder("resnet10_tiny", 48, 48, "fp32")


@pytest.fixture(scope="module", params=["cores", "gpus"])
def session(request: pytest.FixtureRequest) -> Iterator[str]:
    """Two workers: on two cores of a machine without a GPU, or on the two GPUs that Ray is told of."""
    num_gpus = {"cores": 0, "gpus": 2}[request.param]
    ray.init(
        address="local",
        num_cpus=2,
        num_gpus=num_gpus,
        include_dashboard=False,
        log_to_driver=False,
        _node_ip_address="127.0.0.1",
        object_store_memory=100 * 2**20,
    )
    with ray_session():
        yield request.param
    ray.shutdown()


@pytest.fixture
def tasks(tmp_path: Path) -> list[embed.EmbedTask]:
    """The frames of some short videos, to be embedded."""
    return [make_task(tmp_path, number) for number in range(NUM_VIDEOS)]


def make_task(root: Path, number: int) -> embed.EmbedTask:
    import simplejpeg

    path = root / f"{number}.zip"
    noise = np.random.default_rng(number)
    with writing_frames(path, fps=10.0, height=48, width=48, quality=95) as writer:
        for index in range(40):
            jpeg = simplejpeg.encode_jpeg(noise.integers(0, 256, (48, 48, 3), np.uint8), quality=95)
            writer.append(jpeg, source_frame=index, timestamp_sec=index / 10)
    return embed.EmbedTask(path, f"{number:02d}key", root / "store", EMBEDDER, 0)


def results(tasks: list[embed.EmbedTask]) -> list[np.ndarray]:
    return [np.load(ResultStore(task.store_root).path(task.key)) for task in tasks]


def logged(log: Path, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`function` after a line in `log`: the number of the item and the process."""

    def call(task: Any) -> Any:
        with log.open("a") as file:
            file.write(f"{task.key[:2]} {os.getpid()}\n")
        time.sleep(0.2)
        return function(task)

    return call


def test_a_model_is_loaded_once_for_each_worker_not_for_each_video(session: str, tasks: list[embed.EmbedTask]) -> None:
    def embed_and_count(task: embed.EmbedTask) -> tuple[int, int, int]:
        from kineflow.stages import embed

        num_frames = embed.embed_into_store(task)
        return num_frames, os.getpid(), embed._backbone.cache_info().misses

    found = dict(map_tasks(embed_and_count, tasks, label="embed", num_gpus=1.0))
    assert {num_frames for num_frames, _, _ in found.values()} == {40}
    pids = {pid for _, pid, _ in found.values()}
    assert os.getpid() not in pids
    assert 1 <= len(pids) <= 2
    assert {misses for _, _, misses in found.values()} == {1}


def test_each_worker_holds_a_gpu_of_its_own_where_there_are_any(session: str) -> None:
    def where(_: int) -> tuple[int, str | None]:
        time.sleep(0.3)
        return os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES")

    found = {place for _, place in map_tasks(where, list(range(8)), label="where", num_gpus=1.0)}
    devices = sorted(str(device) for _, device in found)
    assert devices == (["0", "1"] if session == "gpus" else ["None"] * len(found))


def test_a_killed_worker_costs_its_video_once_more_and_changes_nothing(
    session: str, tasks: list[embed.EmbedTask], tmp_path: Path
) -> None:
    for task in tasks:
        embed.embed_into_store(task)
    wanted = results(tasks)
    for task in tasks:
        ResultStore(task.store_root).path(task.key).unlink()
    log = tmp_path / "log"
    log.touch()
    killer = threading.Thread(target=kill_at, args=(log, "03"))
    killer.start()
    found = dict(map_tasks(logged(log, embed.embed_into_store), tasks, label="embed", num_gpus=1.0))
    killer.join()
    assert found == dict.fromkeys(range(NUM_VIDEOS), 40)
    begun = Counter(line.split()[0] for line in log.read_text().splitlines())
    assert begun == {f"{number:02d}": 2 if number == 3 else 1 for number in range(NUM_VIDEOS)}
    for before, after in zip(wanted, results(tasks), strict=True):
        np.testing.assert_array_equal(before, after)


def kill_at(log: Path, key: str) -> None:
    """Kill the process that begins the item `key`."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for line in log.read_text().splitlines():
            if line.startswith(key):
                os.kill(int(line.split()[1]), signal.SIGKILL)
                return
        time.sleep(0.01)


def test_an_item_that_kills_every_worker_is_an_error_and_the_others_are_done(session: str) -> None:
    def die(item: int) -> int:
        if item == 1:
            os._exit(9)
        return item

    found = dict(map_tasks(die, [0, 1, 2, 3, 4], label="die", num_gpus=1.0, catch=KineflowError))
    assert "died twice" in str(found.pop(1))
    assert found == {0: 0, 2: 2, 3: 3, 4: 4}


def test_leaving_early_ends_the_workers_that_hold_a_gpu(session: str) -> None:
    def pid(item: int) -> int:
        time.sleep(0.1 if item == 0 else 60)
        return os.getpid()

    started = time.monotonic()
    for _index, _pid in map_tasks(pid, list(range(4)), label="pid", num_gpus=1.0):
        break
    assert time.monotonic() - started < 30
    assert dict(map_tasks(lambda item: item, [0, 1, 2], label="again", num_gpus=1.0)) == {0: 0, 1: 1, 2: 2}
