"""What the machine is busy with while something runs: sampled by a thread, and bounded however long that takes."""

import os
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import psutil

EVERY_SEC = 5.0
MAX_SAMPLES = 400  # then every second one is dropped, and they are taken half as often


class MachineWatch:
    """Samples the machine for the block, the last time at its end.

    Attributes:
        samples: each with the `time` in seconds since 1970, and values under MLflow's names of system metrics
            (percentages, and megabytes of 1e6 bytes).
    """

    def __init__(self, *, every_sec: float = EVERY_SEC, max_samples: int = MAX_SAMPLES) -> None:
        self.samples: list[dict[str, float]] = []
        self._every_sec = every_sec
        self._max_samples = max_samples
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="machine-watch", daemon=True)
        self._process = psutil.Process(os.getpid())
        self._gpus: list[Any] = []

    def __enter__(self) -> Self:
        psutil.cpu_percent()  # the share is that since the last call
        self._gpus = _gpus()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._sample()

    def _watch(self) -> None:
        while not self._over.wait(self._every_sec):
            self._sample()
            if len(self.samples) >= self._max_samples:
                self.samples = self.samples[1::2]
                self._every_sec *= 2

    def _sample(self) -> None:
        memory = psutil.virtual_memory()
        values = {
            "time": time.time(),
            "cpu_utilization_percentage": psutil.cpu_percent(),
            "system_memory_usage_megabytes": memory.used / 1e6,
            "system_memory_usage_percentage": memory.percent,
            "process_memory_megabytes": self._process.memory_info().rss / 1e6,
        }
        for index, gpu in enumerate(self._gpus):
            values |= _gpu_values(index, gpu)
        self.samples.append({name: round(value, 2) for name, value in values.items()})


def _gpus() -> list[Any]:
    """NVIDIA's devices, as far as its driver says; none without one."""
    import pynvml

    try:
        pynvml.nvmlInit()
        return [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return []


def _gpu_values(index: int, gpu: Any) -> dict[str, float]:
    import pynvml

    values: dict[str, float] = {}
    with suppress(pynvml.NVMLError):  # some devices do not tell
        memory = pynvml.nvmlDeviceGetMemoryInfo(gpu)
        values[f"gpu_{index}_memory_usage_megabytes"] = memory.used / 1e6
        values[f"gpu_{index}_utilization_percentage"] = pynvml.nvmlDeviceGetUtilizationRates(gpu).gpu
    return values
