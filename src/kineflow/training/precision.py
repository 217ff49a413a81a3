"""Device, precision and memory layout: chosen by what the machine has."""

import platform
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

import torch

from kineflow.training.recipe import Precision


def choose_device(gpus: float) -> torch.device:
    """The GPU where there is one and a fold may use it, else the CPU."""
    return torch.device("cuda") if gpus > 0 and torch.cuda.is_available() else torch.device("cpu")


def choose_precision(wanted: Literal["auto"] | Precision, device: torch.device) -> tuple[Precision, str]:
    """The precision to train in, and why.

    `auto` takes bf16 where the device multiplies it in hardware: GPUs that say so, CPUs with AMX or AVX512-BF16.
    """
    if wanted != "auto":
        return wanted, "as params say"
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16", f"{torch.cuda.get_device_name(device)} multiplies bf16"
        return "fp32", f"{torch.cuda.get_device_name(device)} has no bf16 units"
    flags = _cpu_flags()
    if "amx_bf16" in flags:
        return "bf16", "the processor has AMX bf16 units"
    if "avx512_bf16" in flags:
        return "bf16", "the processor has AVX512-BF16"
    return "fp32", "the processor has no bf16 units"


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[None]:
    """Run matrix products and convolutions in `precision`."""
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=precision != "fp32")


def _cpu_flags() -> set[str]:
    if platform.system() != "Linux":
        return set()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return set(line.split())
    return set()
