"""The cores of this process, and one thread for each numerical library: one process for each core does better."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"), "1"
)  # for libraries that are imported later


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_library_threads(torch_threads: int, cv2_threads: int) -> None:
    """For libraries that are imported already: they do not look at the environment again."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(torch_threads)
    if cv2 := sys.modules.get("cv2"):
        cv2.setNumThreads(cv2_threads)


@contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """Environment variables while the context holds; processes that are started in it inherit them."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
