"""From a batch of a data set to the input of a model: the one way of training, evaluation and prediction.

Batches leave the workers as small integers; what they are worth, and how clips are turned, differenced and mixed, is
worked out here, once for a batch, on the device.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kineflow.data.dataset import Batch
from kineflow.data.mixing import Mixing
from kineflow.data.preprocessing import Preprocessing
from kineflow.models.orientation import orientation_channels


def model_input(batch: Batch, preprocessing: Preprocessing, device: torch.device) -> Tensor:
    """The batch as float32 (B, C, T, H, W) on `device`, laid out as `use_channels_last` lays out the kernels.

    By the rule of each sample (see `ClipPixels`); then without its mean over time where the background is subtracted,
    or as the difference from frame to frame, then moved by its warp, as orientations where those are wanted, then
    mixed. Frames that pad a sample play no part in its mean and its differences. Features are float already, and are
    mixed at most.
    """
    pixels_BTHWC = torch.from_numpy(batch.pixels_BTHWC).to(device, non_blocking=True)
    if not pixels_BTHWC.is_floating_point():
        pixels_BTHWC = _normalised(pixels_BTHWC, batch, preprocessing)
        if preprocessing.input == "difference":
            pixels_BTHWC = _differences(pixels_BTHWC, batch.num_frames)
        if batch.warp_B23 is not None:
            pixels_BTHWC = _warped(pixels_BTHWC, torch.from_numpy(batch.warp_B23).to(device, non_blocking=True))
    if preprocessing.input == "orientation":
        pixels_BTHWC = orientation_channels(pixels_BTHWC.permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1)
    if batch.mixing is not None:
        pixels_BTHWC = _mixed(pixels_BTHWC, batch.mixing)
    return pixels_BTHWC.permute(0, 4, 1, 2, 3).contiguous(memory_format=torch.channels_last_3d)


def clip_lengths(batch: Batch, preprocessing: Preprocessing, device: torch.device) -> Tensor | None:
    """The frames of each clip before padding, int64 (B,), which a model of padded clips is told; else None."""
    num_frames = batch.num_frames
    if batch.mixing is not None:  # with the clip before it, see `_mixed`
        num_frames = np.maximum(num_frames, np.roll(num_frames, 1))
    if preprocessing.short_clips == "loop" or (num_frames == num_frames.max()).all():
        return None
    return torch.from_numpy(num_frames).to(device, torch.int64, non_blocking=True)


def _normalised(pixels_BTHWC: Tensor, batch: Batch, preprocessing: Preprocessing) -> Tensor:
    num_samples, num_frames, height, width, num_channels = pixels_BTHWC.shape
    values_BTHWC = pixels_BTHWC.to(torch.float32)
    rows = values_BTHWC.view(num_samples, num_frames * height, -1)  # as long as vector units like them
    scale, shift = (
        torch.from_numpy(by_channel).to(rows.device, non_blocking=True).repeat(1, width).unsqueeze(1)
        for by_channel in (batch.scale_BC, batch.shift_BC)
    )
    rows.mul_(scale)
    if batch.matrix_BCC is not None:
        matrix_BCC = torch.from_numpy(batch.matrix_BCC).to(rows.device, non_blocking=True)
        rows = torch.bmm(rows.view(num_samples, -1, num_channels), matrix_BCC).view_as(rows)
    rows.add_(shift).clamp_(*preprocessing.value_range)
    values_BTHWC = rows.view_as(values_BTHWC)
    if preprocessing.subtract_background:
        for values_THWC, length in zip(values_BTHWC, batch.num_frames, strict=True):
            values_THWC -= values_THWC[: int(length)].mean(dim=0)
    return values_BTHWC


def _differences(values_BTHWC: Tensor, num_frames: np.ndarray) -> Tensor:
    """Each frame taken from the next; a clip's last as the one before it, and a clip of one frame has none."""
    differences_BTHWC = torch.zeros_like(values_BTHWC)
    differences_BTHWC[:, :-1] = values_BTHWC[:, 1:] - values_BTHWC[:, :-1]
    for differences_THWC, length in zip(differences_BTHWC, num_frames, strict=True):
        last = int(length) - 1
        differences_THWC[last:] = differences_THWC[last - 1] if last > 0 else 0
    return differences_BTHWC


def _warped(values_BTHWC: Tensor, warp_B23: Tensor) -> Tensor:
    """Every clip moved by its warp, all of its frames alike; bilinear, and 0 outside: no light, no motion."""
    num_samples, num_frames, height, width, num_channels = values_BTHWC.shape
    grid_BHW2 = F.affine_grid(warp_B23, [num_samples, 1, height, width], align_corners=False)
    images_BNHW = values_BTHWC.permute(0, 1, 4, 2, 3).reshape(num_samples, -1, height, width)
    moved_BNHW = F.grid_sample(images_BNHW, grid_BHW2, mode="bilinear", padding_mode="zeros", align_corners=False)
    return moved_BNHW.view(num_samples, num_frames, num_channels, height, width).permute(0, 1, 3, 4, 2)


def _mixed(values_BTHWC: Tensor, mixing: Mixing) -> Tensor:
    others_BTHWC = values_BTHWC.roll(1, dims=0)
    if mixing.box is None:
        return torch.lerp(others_BTHWC, values_BTHWC, mixing.share)
    _, _, height, width, _ = values_BTHWC.shape
    top, left, rows, columns = (round(part * size) for part, size in zip(mixing.box, (height, width) * 2, strict=True))
    inside = (slice(None), slice(None), slice(top, top + rows), slice(left, left + columns))
    mixed_BTHWC = values_BTHWC.clone()
    mixed_BTHWC[inside] = others_BTHWC[inside]
    return mixed_BTHWC
