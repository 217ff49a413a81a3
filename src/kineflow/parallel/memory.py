"""Memory of the machine and of this process."""

import ctypes
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
KEPT_BYTES = 2**30
MOST_BEFORE_2_35_BYTES = 32 * 2**20  # that older glibc takes for a block

CGROUP_ROOT = Path("/sys/fs/cgroup")
# A container's own limits, of control groups version 2 and 1: the most, what is taken, and what of that is file cache.
CGROUPS = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
)


def total_bytes(cgroup_root: Path = CGROUP_ROOT) -> int:
    """Memory of the machine, or of a container that has less."""
    return min([psutil.virtual_memory().total, *(limit for limit, _ in _limits(cgroup_root))])


def available_bytes(cgroup_root: Path = CGROUP_ROOT) -> int:
    """Memory that this process and others that it starts may still take, of the machine and of a container."""
    left = (max(0, limit - taken) for limit, taken in _limits(cgroup_root))
    return min([psutil.virtual_memory().available, *left])


def _limits(cgroup_root: Path) -> Iterator[tuple[int, int]]:
    """The limits of a container, each with what is taken of it, but for file cache that may go."""
    for most, taken, cached in CGROUPS:
        try:
            limit = int((cgroup_root / most).read_text())
            used = int((cgroup_root / taken).read_text())
            stat = (cgroup_root / most).with_name("memory.stat").read_text()
        except (OSError, ValueError):  # not there, or `max`: no limit
            continue
        of_files = dict(line.split() for line in stat.splitlines()).get(cached, "0")
        yield limit, used - int(of_files)


def peak_bytes() -> int:
    """The most memory that this process has held at a time."""
    if sys.platform == "linux":  # getrusage counts what the parent held when it forked
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024
    else:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def reuse_freed_memory() -> None:
    """Let this process keep the memory that it frees, until it ends, and use it again; without glibc nothing happens.

    By itself glibc gives large blocks back at once, and a training's next step waits while the kernel clears as many
    new pages (docs/decisions/2026-11-22-training-keeps-the-memory-that-it-frees.md). Free memory above 1 GiB at the end
    of the heap is still given back.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:  # musl has none
        took_it = mallopt(M_MMAP_THRESHOLD, KEPT_BYTES) or mallopt(M_MMAP_THRESHOLD, MOST_BEFORE_2_35_BYTES)
        if took_it:  # the other alone would make it worse
            mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
