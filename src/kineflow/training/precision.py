"""Device, precision and memory format: chosen by what the machine has."""

import platform
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from kineflow.training.recipe import Precision


def choose_device(gpus: float) -> torch.device:
    """The GPU where there is one and a fold may use it, else the CPU."""
    return torch.device("cuda") if gpus > 0 and torch.cuda.is_available() else torch.device("cpu")


def choose_precision(wanted: Literal["auto", "fp32", "bf16"], device: torch.device) -> tuple[Precision, str]:
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
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def memory_format(precision: Precision) -> torch.memory_format:
    """Channels-last-3d with bf16, where it is faster; the plain format with fp32, where it can be slower."""
    return torch.channels_last_3d if precision == "bf16" else torch.contiguous_format


def to_format(module: nn.Module, precision: Precision) -> nn.Module:
    """Lay out the 3D and 2D convolution weights as `memory_format` says."""
    if precision == "bf16":
        for parameter in module.parameters():
            if parameter.ndim == 5:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
            elif parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return module


def to_device(clips_BCTHW: Tensor, device: torch.device, precision: Precision) -> Tensor:
    """Move a batch of clips, in the memory format of `precision`."""
    return clips_BCTHW.to(device, non_blocking=True).contiguous(memory_format=memory_format(precision))


def _cpu_flags() -> set[str]:
    if platform.system() != "Linux":
        return set()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return set(line.split())
    return set()
