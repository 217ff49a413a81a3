"""How much memory is left, and how much was taken."""

import platform
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from kineflow.parallel.memory import available_bytes, total_bytes

GROW = """
import numpy as np
from kineflow.parallel.memory import peak_bytes
before = peak_bytes()
taken = np.ones(200 * 2**20, np.uint8)
held = peak_bytes()
del taken
print(held - before, peak_bytes() - held)
"""

TAKE_AND_FREE = """
import resource
import numpy as np
before = None
for _ in range(6):
    blocks = [np.ones(2**21, np.uint8) for _ in range(32)]  # each too small for huge pages
    del blocks
    before = before or resource.getrusage(resource.RUSAGE_SELF).ru_minflt
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def limit(root: Path, names: tuple[str, str, str], most: str) -> Path:
    for name, text in zip(
        names, (most, str(5 * 2**20), "cache 0\ninactive_file 1048576\ntotal_inactive_file 2097152"), strict=True
    ):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


def test_a_container_has_less_than_its_machine(tmp_path: Path) -> None:
    second = ("memory.max", "memory.current", "memory.stat")
    first = ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat")
    assert available_bytes(limit(tmp_path / "2", second, str(8 * 2**20))) == 4 * 2**20  # 8 - 5, and 1 of files
    assert available_bytes(limit(tmp_path / "1", first, str(8 * 2**20))) == 5 * 2**20  # 8 - 5, and 2 of files
    assert available_bytes(limit(tmp_path / "full", second, str(2**20))) == 0
    assert total_bytes(tmp_path / "2") == 8 * 2**20 and total_bytes(tmp_path / "full") == 2**20
    machine = psutil.virtual_memory().total
    for root in (
        tmp_path / "none",
        limit(tmp_path / "max", second, "max"),
        limit(tmp_path / "huge", first, str(2**62)),
    ):
        assert 0 < available_bytes(root) < machine == total_bytes(root)


def test_the_most_that_was_held_stays_known() -> None:
    grow = subprocess.run([sys.executable, "-c", GROW], capture_output=True, text=True, check=True)
    held, more = map(int, grow.stdout.split())
    assert 199 * 2**20 < held < 260 * 2**20 and abs(more) < 2**21  # pages are counted in lots


def num_page_faults(start: str) -> int:
    """Of a process that takes and frees large blocks again and again."""
    program = start + TAKE_AND_FREE
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told what to keep")
def test_freed_memory_is_used_again() -> None:
    given_back = num_page_faults("")
    kept = num_page_faults("from kineflow.parallel.memory import reuse_freed_memory; reuse_freed_memory()")
    assert given_back > 20_000  # 64 MB in pages of 4 kB, five times
    assert kept < given_back / 10
