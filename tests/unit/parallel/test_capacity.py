"""What machines have room for, by hand; that Ray counts alike is shown where trainings wait for one another."""

import pytest
import ray

from kineflow.errors import OutOfReachError, ParamsError
from kineflow.parallel.capacity import Machine, machines, num_places, threads_with_room
from kineflow.parallel.session import ray_session
from kineflow.parallel.threads import num_cores

LAPTOP = Machine(num_cores=2, num_gpus=0)
SERVER = Machine(num_cores=16, num_gpus=2)
DRIVER = Machine(num_cores=0, num_gpus=0)  # joined a cluster to start things there


@pytest.mark.parametrize(
    ("machine", "threads", "gpus", "places"),
    [
        (LAPTOP, 1, 0.0, 2),
        (LAPTOP, 2, 0.0, 1),
        (LAPTOP, 3, 0.0, 0),
        (LAPTOP, 1, 1.0, 0),
        (SERVER, 4, 0.0, 4),
        (SERVER, 1, 1.0, 2),
        (SERVER, 1, 0.5, 4),
        (SERVER, 1, 0.6, 2),  # two halves of two GPUs are no GPU
        (SERVER, 8, 0.25, 2),
        (SERVER, 1, 2.0, 1),
        (SERVER, 1, 3.0, 0),
    ],
)
def test_a_machine_has_room_for(machine: Machine, threads: int, gpus: float, places: int) -> None:
    assert machine.num_places(threads=threads, gpus=gpus) == places


def test_machines_together_have_room_for_what_each_has_room_for() -> None:
    assert num_places([LAPTOP, LAPTOP, SERVER, DRIVER], threads=2, gpus=0.0) == 1 + 1 + 8
    assert num_places([LAPTOP, LAPTOP], threads=4, gpus=0.0) == 0  # no process spreads over machines


@pytest.mark.parametrize(
    ("among", "threads", "workers", "gpus", "possible"),
    [
        ([LAPTOP], 1, 1, 0.0, 1),
        ([LAPTOP], 8, 1, 0.0, 2),
        ([LAPTOP], 1_000_000, 1, 0.0, 2),
        ([LAPTOP], 8, 2, 0.0, 1),
        ([LAPTOP, DRIVER, LAPTOP], 8, 2, 0.0, 2),
        ([SERVER, DRIVER], 8, 4, 0.5, 4),
        ([SERVER, LAPTOP], 16, 1, 1.0, 16),
    ],
)
def test_too_many_threads_are_fewer_and_that_is_said(
    among: list[Machine], threads: int, workers: int, gpus: float, possible: int
) -> None:
    said: list[str] = []
    assert threads_with_room(threads, among, say=said.append, workers=workers, gpus=gpus) == possible
    assert len(said) == (possible < threads)
    assert all(f"train.threads_per_fold: {threads} " in line and line.endswith(f" has {possible}") for line in said)


@pytest.mark.parametrize(
    ("among", "workers", "gpus", "error", "told"),
    [
        ([LAPTOP], 3, 0.0, ParamsError, r"train.workers_per_fold: .* 2 at a time and not for 3 \(cores: 2, GPUs: 0\)"),
        ([SERVER], 5, 0.5, ParamsError, r"train.workers_per_fold: .* 4 at a time and not for 5"),
        ([SERVER, LAPTOP], 1, 3.0, ParamsError, r"train.gpus_per_fold: 3 is .* \(2 machines; .* cores: 16, GPUs: 2\)"),
        ([DRIVER], 1, 0.0, OutOfReachError, "no machine of the Ray cluster offers a core"),
    ],
)
def test_what_never_has_room_is_refused(
    among: list[Machine], workers: int, gpus: float, error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        threads_with_room(1, among, say=print, workers=workers, gpus=gpus)


def test_machines_are_those_of_the_session() -> None:
    assert [machine.num_cores for machine in machines()] == [num_cores()]
    with ray_session():
        assert [machine.num_cores for machine in machines()] == [num_cores()]
        assert sum(machine.num_cores for machine in machines()) == ray.cluster_resources()["CPU"]
