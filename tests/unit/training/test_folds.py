"""What Ray is asked for, on any machine, and what it then does: Ray counts GPUs, also where it is only told of one."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import ray
import torch

from kineflow.training.folds import Resources, collectives, scaling, task_options
from tests.jobs import make_job

CPU, GPU = torch.device("cpu"), torch.device("cuda")
RESOURCES = Resources(threads=1, workers=1, max_failures=2, cache_bytes=0)


def test_half_a_gpu_is_asked_for_where_there_is_one(tmp_path: Path) -> None:
    job = replace(make_job(tmp_path, epochs=1), gpus=0.5)
    assert task_options(job, RESOURCES, GPU) == {"num_cpus": 1, "num_gpus": 0.5, "max_retries": 2}
    assert task_options(job, RESOURCES, CPU) == {"num_cpus": 1, "num_gpus": 0.0, "max_retries": 2}


@pytest.mark.filterwarnings("ignore")
def test_so_does_each_data_parallel_worker(tmp_path: Path) -> None:
    job, two = replace(make_job(tmp_path, epochs=1), gpus=0.5), replace(RESOURCES, workers=2)
    on_gpu, on_cpu = scaling(job, two, GPU), scaling(job, two, CPU)
    assert (on_gpu.num_workers, on_gpu.use_gpu, on_gpu.resources_per_worker) == (2, True, {"CPU": 1, "GPU": 0.5})
    assert (on_cpu.num_workers, on_cpu.use_gpu, on_cpu.resources_per_worker) == (2, False, {"CPU": 1})


@pytest.mark.parametrize(("gpus", "device", "backend"), [(1.0, GPU, "nccl"), (0.5, GPU, "gloo"), (1.0, CPU, "gloo")])
def test_workers_that_share_a_gpu_do_not_use_nccl(
    tmp_path: Path, gpus: float, device: torch.device, backend: str
) -> None:
    assert collectives(replace(make_job(tmp_path, epochs=1), gpus=gpus), device) == backend


@pytest.fixture
def one_gpu() -> Iterator[None]:
    ray.init(
        address="local",
        num_cpus=4,
        num_gpus=1,
        include_dashboard=False,
        log_to_driver=False,
        _node_ip_address="127.0.0.1",
        object_store_memory=100 * 2**20,
    )
    yield
    ray.shutdown()


def test_two_trainings_share_a_gpu_and_the_third_waits(tmp_path: Path, one_gpu: None) -> None:
    options = task_options(replace(make_job(tmp_path, epochs=1), gpus=0.5), RESOURCES, GPU)

    def hold(_: int) -> tuple[list[int], float, float]:
        started = time.time()
        time.sleep(1.0)
        return [int(number) for number in ray.get_gpu_ids()], started, time.time()

    task = ray.remote(hold).options(**options)
    held = sorted(ray.get([task.remote(number) for number in range(3)]), key=lambda found: found[1])
    assert [gpus for gpus, _, _ in held] == [[0], [0], [0]]
    first_end = min(end for _, _, end in held)
    assert held[1][1] < first_end <= held[2][1]
