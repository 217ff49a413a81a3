"""From a batch of a data set to the input of a model: the one way of training, evaluation and prediction.

Batches leave the workers as small integers; what they are worth is worked out here, once for a batch, on the device.
"""

import torch
from torch import Tensor

from kineflow.data.dataset import Batch
from kineflow.data.preprocessing import Preprocessing


def model_input(batch: Batch, preprocessing: Preprocessing, device: torch.device) -> Tensor:
    """The batch as float32 (B, C, T, H, W) on `device`, laid out as `use_channels_last` lays out the kernels.

    pixels * scale + shift, by the sample and the channel, kept inside the range of `preprocessing`; where the
    background is subtracted, without its mean over time (frames that pad a sample do not count). Features are float
    already, and stay as they are.
    """
    pixels_BTHWC = torch.from_numpy(batch.pixels_BTHWC).to(device, non_blocking=True)
    if not pixels_BTHWC.is_floating_point():
        pixels_BTHWC = _normalised(pixels_BTHWC, batch, preprocessing)
    return pixels_BTHWC.permute(0, 4, 1, 2, 3).contiguous(memory_format=torch.channels_last_3d)


def clip_lengths(batch: Batch, preprocessing: Preprocessing, device: torch.device) -> Tensor | None:
    """The frames of each clip before padding, int64 (B,), which a model of padded clips is told; else None."""
    num_frames = batch.num_frames
    if preprocessing.short_clips == "loop" or (num_frames == num_frames.max()).all():
        return None
    return torch.from_numpy(num_frames).to(device, torch.int64, non_blocking=True)


def _normalised(pixels_BTHWC: Tensor, batch: Batch, preprocessing: Preprocessing) -> Tensor:
    num_samples, num_frames, height, width, _ = pixels_BTHWC.shape
    values_BTHWC = pixels_BTHWC.to(torch.float32)
    rows = values_BTHWC.view(num_samples, num_frames * height, -1)  # as long as vector units like them
    scale, shift = (
        torch.from_numpy(by_channel).to(rows.device, non_blocking=True).repeat(1, width).unsqueeze(1)
        for by_channel in (batch.scale_BC, batch.shift_BC)
    )
    rows.mul_(scale).add_(shift).clamp_(*preprocessing.value_range)
    if preprocessing.subtract_background:
        for values_THWC, length in zip(values_BTHWC, batch.num_frames, strict=True):
            values_THWC -= values_THWC[: int(length)].mean(dim=0)
    return values_BTHWC
