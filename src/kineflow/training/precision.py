"""Device, precision and memory layout: chosen by what the machine has."""

from contextlib import AbstractContextManager
from typing import Literal

import torch

from kineflow.models.classifier import VideoClassifier
from kineflow.models.layout import cpu_bf16_units, use_channels_last
from kineflow.training.recipe import Precision


def choose_device(gpus: float) -> torch.device:
    """The GPU where there is one and a fold may use it, else the CPU."""
    return torch.device("cuda") if gpus > 0 and torch.cuda.is_available() else torch.device("cpu")


def choose_precision(wanted: Literal["auto"] | Precision, device: torch.device) -> tuple[Precision, str]:
    """The precision to train in, and why, with the memory layout that goes with it (see `use_channels_last`).

    `auto` takes bf16 where the device multiplies it in hardware: GPUs that say so, CPUs with AMX or AVX512-BF16.
    """
    if wanted != "auto":
        return wanted, "as params say"
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16", f"{torch.cuda.get_device_name(device)} multiplies bf16, fastest channels-last"
        return "fp32", f"{torch.cuda.get_device_name(device)} has no bf16 units"
    units = cpu_bf16_units()
    if units:
        return "bf16", f"the processor has {units}, fastest channels-last"
    return "fp32", "the processor has no bf16 units; 3D kernels are fastest contiguous, those in groups channels-last"


def lay_out(model: VideoClassifier, device: torch.device, precision: Precision) -> VideoClassifier:
    """Store the kernels of `model` in the layout in which it runs fastest there, in place; return the model."""
    return use_channels_last(model, everywhere=device.type == "cuda" or precision != "fp32")


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[None]:
    """Run matrix products and convolutions in `precision`."""
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=precision != "fp32")
