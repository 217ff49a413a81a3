"""Flow as channels of orientation: how much moves, and how much motion changes, in each of eight directions.

The channels are what histograms of optical flow (HOF) and motion boundary histograms (MBH) count before they are
summed over cells; a small network learns from a few dozen clips with them what it does not learn from plain flow.

Source: Laptev et al., Learning realistic human actions from movies, CVPR 2008 (HOF); Dalal et al., Human detection
using oriented histograms of flow and appearance, ECCV 2006 (MBH).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

NUM_DIRECTIONS = 8
NUM_FIELDS = 3  # the flow, and the gradients of its x and of its y
NUM_CHANNELS = NUM_FIELDS * NUM_DIRECTIONS
POOLING = 2  # pixels, in height and width
GAIN = 1.5  # brings the channels of typical clips to a standard deviation near one
_TINY = 1e-6  # of a squared length: keeps the derivative finite where nothing moves


def orientation_channels(flow_BCTHW: Tensor) -> Tensor:
    """Share the length of every vector among the directions near its own, and take means over 2 x 2 pixels.

    A vector v adds sqrt(|v|) * max(0, cos(angle))^2 to each of eight equally spaced directions, the first of which
    points along x. Differentiable.

    Args:
        flow_BCTHW: float (B, 2, T, H, W), displacements x and y in any unit; H and W at least 2.

    Returns:
        (B, 24, T, H // 2, W // 2): eight directions of the flow, then of the gradient of its x, then of its y.
    """
    if flow_BCTHW.device.type == "cpu":  # one clip at a time stays in the caches
        return torch.stack([_channels(clip_CTHW[0], clip_CTHW[1]) for clip_CTHW in flow_BCTHW])
    return _channels(flow_BCTHW[:, 0], flow_BCTHW[:, 1])


def _channels(x_THW: Tensor, y_THW: Tensor) -> Tensor:
    """(24, T, H // 2, W // 2) of one clip, or with B before for several."""
    fields = [(x_THW, y_THW), spatial_gradient(x_THW), spatial_gradient(y_THW)]
    return torch.stack([_pooled(share) for field in fields for share in _shares(*field)], dim=-4)


def spatial_gradient(values_THW: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences along x and along y, per pixel; at the border half of the one-sided difference."""
    padded = F.pad(values_THW, (1, 1, 1, 1), mode="replicate")
    along_x = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    along_y = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    return along_x, along_y


def _shares(x_THW: Tensor, y_THW: Tensor) -> list[Tensor]:
    """What each direction gets, in their order: half of them are the ways back along the axes of the other half."""
    scale_THW = (x_THW.square() + y_THW.square() + _TINY).pow(-0.75)
    forth, back = [], []
    for axis in range(NUM_DIRECTIONS // 2):
        angle = axis * 2 * math.pi / NUM_DIRECTIONS
        along_THW = x_THW * math.cos(angle) + y_THW * math.sin(angle)
        share_THW = along_THW.square() * scale_THW
        forth.append(torch.where(along_THW > 0, share_THW, 0.0))
        back.append(share_THW - forth[-1])
    return forth + back


def _pooled(values_THW: Tensor) -> Tensor:
    """`GAIN` times the means over 2 x 2 pixels."""
    height, width = (side // POOLING * POOLING for side in values_THW.shape[-2:])
    even, odd = slice(0, None, POOLING), slice(1, None, POOLING)
    whole = values_THW[..., :height, :width]
    total = whole[..., even, even] + whole[..., even, odd] + whole[..., odd, even] + whole[..., odd, odd]
    return total * (GAIN / POOLING**2)
