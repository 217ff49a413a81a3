"""What the machine is busy with, sampled while something runs."""

import time

import psutil
import pytest

from kineflow.progress.machine import MachineWatch


def test_even_the_shortest_block_has_a_sample() -> None:
    before = time.time()
    with MachineWatch() as watched:
        pass
    (sample,) = watched.samples
    memory = psutil.virtual_memory()
    assert before <= sample["time"] + 0.01 and sample["time"] - 0.01 <= time.time()
    assert sample["process_memory_megabytes"] == pytest.approx(psutil.Process().memory_info().rss / 1e6, rel=0.1)
    assert 0 < sample["system_memory_usage_megabytes"] * 1e6 < memory.total
    assert 0 <= sample["cpu_utilization_percentage"] <= 100


def test_work_is_seen() -> None:
    with MachineWatch() as watched:
        until = time.process_time() + 0.3
        while time.process_time() < until:
            pass
    assert watched.samples[0]["cpu_utilization_percentage"] > 50 / psutil.cpu_count()


def test_a_long_block_has_no_more_samples_than_allowed_and_they_stay_even() -> None:
    with MachineWatch(every_sec=0.01, max_samples=8) as watched:
        time.sleep(0.8)
    times = [sample["time"] for sample in watched.samples[:-1]]
    assert 4 <= len(watched.samples) <= 8
    assert times == sorted(times) and times[0] > times[-1] - 0.8
