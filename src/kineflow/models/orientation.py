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
    x_BTHW, y_BTHW = flow_BCTHW[:, 0], flow_BCTHW[:, 1]
    fields = [(x_BTHW, y_BTHW), spatial_gradient(x_BTHW), spatial_gradient(y_BTHW)]
    channels_BCTHW = torch.cat([_directions(*field) for field in fields], dim=1)
    return GAIN * F.avg_pool3d(channels_BCTHW, kernel_size=(1, POOLING, POOLING))


def spatial_gradient(values_BTHW: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences along x and along y, per pixel; at the border half of the one-sided difference."""
    padded = F.pad(values_BTHW, (1, 1, 1, 1), mode="replicate")
    along_x = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    along_y = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    return along_x, along_y


def _directions(x_BTHW: Tensor, y_BTHW: Tensor) -> Tensor:
    angles = torch.arange(NUM_DIRECTIONS, device=x_BTHW.device) * (2 * math.pi / NUM_DIRECTIONS)
    cos_D, sin_D = (part.to(x_BTHW.dtype).view(1, -1, 1, 1, 1) for part in (angles.cos(), angles.sin()))
    along_BDTHW = (x_BTHW.unsqueeze(1) * cos_D + y_BTHW.unsqueeze(1) * sin_D).relu()
    squared_BTHW = x_BTHW.square() + y_BTHW.square()
    return along_BDTHW.square() * (squared_BTHW + _TINY).pow(-0.75).unsqueeze(1)
