"""The memory layout in which convolutions run fastest."""

import torch
from torch import nn

from kineflow.models.classifier import VideoClassifier


def use_channels_last(model: VideoClassifier) -> VideoClassifier:
    """Store the kernels channels-last, in place; clips may keep their layout.

    Measured on a CPU with one thread, forward and backward take 5 to 25 percent less under bf16 autocast and 5
    to 40 percent less in float32. Values, names and shapes in the state dict stay, but its kernels are no longer
    contiguous, which safetensors refuses to save: call `.contiguous()` on them first.

    Returns:
        The model.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv3d):
            module.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        elif isinstance(module, nn.Conv2d):
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model
