"""How far two processes get in the time of one, by the clock on the wall; so only on an idle machine."""

import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.timing import Comparison

NUM_ROUNDS = 5


def two_processes(name: str, work: Callable[[Path], object], root: Path, *, num_times: int) -> Comparison:
    """`work(target)` done `num_times` by two processes against one; their start is not counted.

    Args:
        work: writes the file that it is given; importable, since the processes are spawned.
        num_times: even.
    """
    rounds = [(_wall_sec(work, root, num_times, 2), _wall_sec(work, root, num_times, 1)) for _ in range(NUM_ROUNDS)]
    two_sec, one_sec = zip(*rounds, strict=True)
    comparison = Comparison(f"{name} in two processes; in one", two_sec, one_sec)
    print(comparison, flush=True)
    return comparison


def _wall_sec(work: Callable[[Path], object], root: Path, num_times: int, num_processes: int) -> float:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(num_processes + 1)
    processes = [
        context.Process(
            target=_repeat, args=(work, root / f"{index}.zip", num_times // num_processes, barrier), daemon=True
        )
        for index in range(num_processes)
    ]
    for process in processes:
        process.start()
    barrier.wait()
    started = time.perf_counter()
    barrier.wait()
    elapsed = time.perf_counter() - started
    for process in processes:
        process.join()
    return elapsed


def _repeat(
    work: Callable[[Path], object], target: Path, num_times: int, barrier: "multiprocessing.synchronize.Barrier"
) -> None:
    work(target)  # a warm-up
    barrier.wait()
    for _ in range(num_times):
        work(target)
    barrier.wait()
