"""What the machines of a session have room for: Ray waits without end for what none of them will ever have."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kineflow.errors import OutOfReachError, ParamsError
from kineflow.parallel.session import ray_is_on
from kineflow.parallel.threads import num_cores


@dataclass(frozen=True)
class Machine:
    """What one machine gives to all that runs on it."""

    num_cores: int
    num_gpus: int

    def num_places(self, *, threads: int, gpus: float) -> int:
        """Processes of so many threads, each with so much of a GPU, that it has room for at a time."""
        by_cores = self.num_cores // threads
        if gpus == 0:
            return by_cores
        by_gpus = self.num_gpus * int(1 / gpus) if gpus <= 1 else int(self.num_gpus / gpus)
        return min(by_cores, by_gpus)


def machines() -> list[Machine]:
    """Those of the Ray session that is open, or this one."""
    if ray_is_on():
        import ray

        offers = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        return [Machine(int(offer.get("CPU", 0)), int(offer.get("GPU", 0))) for offer in offers]
    import torch

    return [Machine(num_cores(), torch.cuda.device_count())]


def num_places(among: Sequence[Machine], *, threads: int, gpus: float) -> int:
    """Processes of so many threads, each with so much of a GPU, that all machines together have room for."""
    return sum(machine.num_places(threads=threads, gpus=gpus) for machine in among)


def threads_with_room(
    threads: int, among: Sequence[Machine], *, say: Callable[[str], None], workers: int = 1, gpus: float = 0.0
) -> int:
    """The threads that each process of a training can have: as many as wanted, or the most there is room for.

    Args:
        threads: wanted of each.
        say: told where there are fewer.
        workers: processes that have to run at a time.
        gpus: of a GPU, for each.

    Raises:
        ParamsError: there is no room for so many workers, or GPUs, whatever their threads.
        OutOfReachError: no machine offers anything.
    """
    most = max((machine.num_cores for machine in among), default=0)
    if not most:
        raise OutOfReachError("no machine of the Ray cluster offers a core; start one that does, and run again")
    for possible in range(min(threads, most), 0, -1):
        if num_places(among, threads=possible, gpus=gpus) >= workers:
            break
    else:
        raise ParamsError(_refusal(among, workers=workers, gpus=gpus))
    if possible < threads:
        say(f"train.threads_per_fold: {threads} is more than there is ({_told(among)}); each process has {possible}")
    return possible


def _refusal(among: Sequence[Machine], *, workers: int, gpus: float) -> str:
    places = num_places(among, threads=1, gpus=gpus)
    if places:
        return f"train.workers_per_fold: there is room for {places} at a time and not for {workers} ({_told(among)})"
    return f"train.gpus_per_fold: {gpus:g} is more than any machine has ({_told(among)})"


def _told(among: Sequence[Machine]) -> str:
    cores, gpus = (max(values) for values in zip(*((one.num_cores, one.num_gpus) for one in among), strict=True))
    text = f"cores: {cores}, GPUs: {gpus}"
    return text if len(among) == 1 else f"{len(among)} machines; the most of one: {text}"
