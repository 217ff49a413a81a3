"""The memory layout in which convolutions run fastest."""

import platform
from functools import cache
from pathlib import Path

import torch
from torch import nn

from kineflow.models.classifier import VideoClassifier


def use_channels_last(model: VideoClassifier, *, everywhere: bool) -> VideoClassifier:
    """Store kernels channels-last where that is faster, in place; clips come channels-last either way.

    Values, names and shapes in the state dict stay, but such kernels are no longer contiguous, which safetensors
    refuses to save: call `.contiguous()` on them first.

    Args:
        everywhere: as bf16 and GPUs like it. In float32 on a CPU the kernels of 3D convolutions without groups are
            better left contiguous (docs/decisions/2026-11-21-channels-last-by-precision.md).

    Returns:
        The model.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv3d) and (everywhere or module.groups > 1):
            module.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        elif isinstance(module, nn.Conv2d):
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


@cache
def cpu_bf16_units() -> str:
    """What the processor multiplies bf16 with, `AMX bf16 units` or `AVX512-BF16`; empty where it has nothing."""
    if platform.system() != "Linux":
        return ""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = next((set(line.split()) for line in lines if line.startswith("flags")), set[str]())
    units = {"amx_bf16": "AMX bf16 units", "avx512_bf16": "AVX512-BF16"}
    return next((name for flag, name in units.items() if flag in flags), "")
