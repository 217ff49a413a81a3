import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kineflow.errors import DataError, DecodeError, KineflowError
from kineflow.parallel import tasks
from kineflow.parallel.session import ray_session
from kineflow.parallel.tasks import map_tasks
from kineflow.parallel.threads import ONE_THREAD, num_cores


@pytest.fixture(scope="module")
def session() -> Iterator[None]:
    with ray_session():
        yield


def tens(item: int) -> int:
    return item * 10


def test_few_items_stay_in_this_process() -> None:
    def pid(_: int) -> int:
        return os.getpid()

    assert dict(map_tasks(pid, [1, 2], label="pid")) == {0: os.getpid(), 1: os.getpid()}
    assert "ray" not in sys.modules or not sys.modules["ray"].is_initialized()


def test_ray_starts_only_when_the_rest_is_long_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(tasks, "ray_is_on", lambda: False)
    # By hand: 2 s for weight 1, weight 9 left = 18 s, on two slots 9 s would be saved; the start costs 6.
    assert tasks._pays([1.0] * 10, 1, 2.0, 2)
    assert not tasks._pays([1.0] * 10, 1, 1.0, 2)  # 4.5 s
    assert not tasks._pays([1.0] * 10, 1, 2.0, 1)  # one slot saves nothing
    assert not tasks._pays([1.0] * 10, 0, 0.0, 2)  # nothing known yet
    assert not tasks._pays([1.0] * 10, 8, 1000.0, 2)  # two items left
    assert tasks._pays([1.0, 99.0, 1.0, 1.0], 1, 0.2, 2)  # 20.2 s left by weight


def test_the_lightest_items_come_first_here_and_the_heaviest_on_ray(session: None) -> None:
    def begun(_: int) -> float:
        time.sleep(0.05)
        return time.monotonic()

    num_slots = tasks.num_workers()
    items = list(range(6 * num_slots))
    found = dict(map_tasks(begun, items, label="begun", weights=[1.0 + item for item in items]))
    by_start = sorted(found, key=found.__getitem__)
    assert by_start.index(0) >= 3 * num_slots  # twice as many as run are in flight
    assert by_start.index(items[-1]) < 3 * num_slots
    here = [index for index, _ in map_tasks(tens, [0, 1], label="tens", weights=[5.0, 1.0])]
    assert here == [1, 0]


def test_an_error_is_raised_or_comes_back_as_a_value() -> None:
    def fail(item: int) -> int:
        if item == 1:
            raise DecodeError("no")
        return item

    with pytest.raises(DecodeError):
        list(map_tasks(fail, [0, 1], label="fail"))
    outcome = dict(map_tasks(fail, [0, 1], label="fail", catch=DataError))
    assert outcome[0] == 0
    assert isinstance(outcome[1], DecodeError)
    with pytest.raises(ValueError, match="1 weights for 2 items"):
        list(map_tasks(fail, [0, 1], label="fail", weights=[1.0]))


def test_all_items_come_back_with_their_index_from_worker_processes(session: None) -> None:
    def square(item: int) -> tuple[int, int]:
        return item * item, os.getpid()

    outcome = dict(map_tasks(square, list(range(20)), label="square"))
    assert {index: value for index, (value, _) in outcome.items()} == {item: item * item for item in range(20)}
    assert os.getpid() not in {pid for _, pid in outcome.values()}


def test_workers_use_one_library_thread_whatever_this_process_uses(session: None) -> None:
    def threads(_: int) -> tuple[int, str | None]:
        import cv2

        return cv2.getNumThreads(), os.environ.get("OMP_NUM_THREADS")

    assert {value for _, value in map_tasks(threads, [0, 1, 2], label="threads")} == {(1, "1")}


IMPORTS_IN_ITS_TASK = """
import os, sys
from kineflow.parallel.tasks import map_tasks
def threads(_):
    import cv2, torch
    return torch.get_num_threads(), cv2.getNumThreads()
assert not {"torch", "cv2"} & set(sys.modules)
found = list(map_tasks(threads, [0, 1], label="threads"))
import cv2, torch
print([value for _, value in found], torch.get_num_threads(), cv2.getNumThreads())
"""


@pytest.mark.skipif(num_cores() < 2, reason="one core has one thread anyway")
def test_a_library_that_a_task_imports_has_one_thread_from_the_first_item_on() -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ONE_THREAD}
    command = [sys.executable, "-c", IMPORTS_IN_ITS_TASK]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    cores = num_cores()
    assert done.stdout.splitlines()[-1] == f"[(1, 1), (1, 1)] {cores} {cores}"


def test_errors_cross_the_process_border_with_their_type(session: None) -> None:
    def fail(item: int) -> int:
        if item == 2:
            raise DecodeError("clip 2 is broken")
        return item

    outcome = dict(map_tasks(fail, [0, 1, 2, 3], label="fail", catch=DecodeError))
    assert str(outcome[2]) == "clip 2 is broken"
    with pytest.raises(DecodeError, match="clip 2"):
        list(map_tasks(fail, [0, 1, 2, 3], label="fail"))


def test_a_task_whose_worker_dies_is_tried_once_more(session: None, tmp_path: Path) -> None:
    def die_once(item: int) -> int:
        marker = tmp_path / str(item)
        if item == 1 and not marker.exists():
            marker.touch()
            os._exit(9)
        return item

    assert dict(map_tasks(die_once, [0, 1, 2], label="die")) == {0: 0, 1: 1, 2: 2}


def test_a_task_that_kills_every_worker_is_an_error(session: None) -> None:
    def die(item: int) -> int:
        if item == 1:
            os._exit(9)
        return item

    with pytest.raises(KineflowError, match="died twice"):
        list(map_tasks(die, [0, 1, 2], label="die"))
    outcome = dict(map_tasks(die, [0, 1, 2], label="die", catch=KineflowError))
    assert isinstance(outcome.pop(1), KineflowError)
    assert outcome == {0: 0, 2: 2}


def test_leaving_early_cancels_what_runs(session: None, tmp_path: Path) -> None:
    def slow(item: int) -> int:
        if item == 0:
            return item
        time.sleep(5)
        (tmp_path / str(item)).touch()
        return item

    started = time.monotonic()
    for _index, _ in map_tasks(slow, list(range(8)), label="slow"):
        break
    assert time.monotonic() - started < 4
    time.sleep(6)
    assert list(tmp_path.iterdir()) == []
