"""How much memory is left, and how much was taken."""

import subprocess
import sys
from pathlib import Path

import psutil

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
