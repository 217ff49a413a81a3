"""The operators of detectors without torchvision's compiled ones, for where these do not load.

torchvision has no suppression of its own then, and an alignment that needs a C++ compiler at run time.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from kineflow.models.torchvision_compat import declare_missing_torchvision_ops


def provide_region_ops() -> None:
    """Make torchvision's detectors work beside a CPU build of torch; more calls do nothing."""
    if declare_missing_torchvision_ops():
        return
    from torchvision.ops import boxes, poolers

    boxes.nms = nms  # its detectors look the names up there
    poolers.roi_align = roi_align


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """The boxes that overlap no better one by more than a threshold.

    Args:
        boxes: float (N, 4), x1, y1, x2, y2.
        scores: float (N,); of equal ones the first is better.
        iou_threshold: of the intersection over the union.

    Returns:
        int64, the places of those that are kept, the best first.
    """
    order_N = torch.argsort(scores, descending=True, stable=True)
    x1, y1, x2, y2 = boxes[order_N].double().cpu().numpy().T
    areas_N = (x2 - x1) * (y2 - y1)
    kept: list[int] = []
    left_N = np.arange(len(areas_N))
    while len(left_N):
        best, others_N = left_N[0], left_N[1:]
        kept.append(int(best))
        width_N = np.minimum(x2[best], x2[others_N]) - np.maximum(x1[best], x1[others_N])
        height_N = np.minimum(y2[best], y2[others_N]) - np.maximum(y1[best], y1[others_N])
        shared_N = np.maximum(0.0, width_N) * np.maximum(0.0, height_N)
        left_N = others_N[shared_N <= iou_threshold * (areas_N[best] + areas_N[others_N] - shared_N)]
    return order_N[torch.tensor(kept, dtype=torch.int64, device=order_N.device)]


def roi_align(
    input: Tensor, rois_K5: Tensor, output_size: tuple[int, int], spatial_scale: float, sampling_ratio: int
) -> Tensor:
    """Features of regions: the mean of bilinear samples in each cell of a grid over each region.

    Args:
        input: float (1, C, H, W); one image.
        rois_K5: float (K, 5): the image's number, and x1, y1, x2, y2 in pixels of the image.
        output_size: (height, width) of the grid.
        spatial_scale: of the features to the image.
        sampling_ratio: samples along each side of a cell, above 0.

    Returns:
        float (K, C, height, width).

    Source: He et al. 2017, Mask R-CNN, section 3; not aligned by half a pixel, as torchvision's detectors want it.
    """
    assert len(input) == 1 and sampling_ratio > 0
    _, num_channels, height, width = input.shape
    rows, columns = (size * sampling_ratio for size in output_size)
    x1, y1, x2, y2 = (rois_K5[:, 1:] * spatial_scale).T[..., None]
    x_KX = x1 + (x2 - x1).clamp(min=1) * (torch.arange(columns, device=input.device) + 0.5) / columns
    y_KY = y1 + (y2 - y1).clamp(min=1) * (torch.arange(rows, device=input.device) + 0.5) / rows
    # grid_sample counts from -1, the first pixel's centre, to 1, the last one's; here these are 0 and the size less one
    grid_KYX2 = torch.stack(
        torch.broadcast_tensors(
            x_KX[:, None, :] * (2 / max(1, width - 1)) - 1, y_KY[:, :, None] * (2 / max(1, height - 1)) - 1
        ),
        dim=-1,
    )
    samples_1CSX = functional.grid_sample(
        input, grid_KYX2.reshape(1, -1, columns, 2), mode="bilinear", padding_mode="border", align_corners=True
    )
    num_rows, num_columns = output_size
    cells = samples_1CSX.reshape(num_channels, len(rois_K5), num_rows, sampling_ratio, num_columns, sampling_ratio)
    return cells.mean(dim=(3, 5)).transpose(0, 1)
