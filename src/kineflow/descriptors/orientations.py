"""How much of a field of vectors points in which of eight directions.

A vector v adds sqrt(|v|) cos^2(a) to every direction that is less than 90 degrees away, a being the angle between them.
So a vector that turns slowly moves smoothly from one direction to the next, and long vectors do not drown short ones.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

NUM_DIRECTIONS = 8  # direction o points at o times 45 degrees, from x (right) towards y (down)

Floats = NDArray[np.float32]


def soft_orientations(field_HW2: Floats) -> Floats:
    """Share of each pixel in each direction.

    Args:
        field_HW2: x then y.

    Returns:
        float32 (H, W, 8), not negative; the shares of a vector sum to 2 sqrt(|v|) whatever its angle.
    """
    x_HW, y_HW = field_HW2[..., 0], field_HW2[..., 1]
    length_HW = np.hypot(x_HW, y_HW)
    weight_HW = np.divide(1.0, length_HW * np.sqrt(length_HW), out=np.zeros_like(length_HW), where=length_HW > 1e-6)
    shares_HWO = np.empty((*field_HW2.shape[:-1], NUM_DIRECTIONS), np.float32)
    half = NUM_DIRECTIONS // 2
    for o in range(half):
        angle = o * 2 * math.pi / NUM_DIRECTIONS
        along_HW = np.float32(math.cos(angle)) * x_HW + np.float32(math.sin(angle)) * y_HW
        signed_HW = along_HW * np.abs(along_HW) * weight_HW  # the opposite direction has what is negative here
        np.maximum(signed_HW, 0, out=shares_HWO[..., o])
        np.maximum(-signed_HW, 0, out=shares_HWO[..., o + half])
    return shares_HWO


def gradient(image_HW: Floats) -> Floats:
    """Central differences, float32 (H, W, 2), x then y, in units of the image per pixel; zero at the borders."""
    half = 0.5  # of the distance between the two neighbours
    x_HW = cv2.Sobel(image_HW, cv2.CV_32F, 1, 0, ksize=1, scale=half)
    y_HW = cv2.Sobel(image_HW, cv2.CV_32F, 0, 1, ksize=1, scale=half)
    return np.stack([x_HW, y_HW], axis=-1)


def mirrored_directions(*, negates: str) -> list[int]:
    """Which direction each one comes from in a field whose `x` or `y` was negated."""
    turn = {"x": NUM_DIRECTIONS // 2, "y": 0}[negates]
    return [(turn - o) % NUM_DIRECTIONS for o in range(NUM_DIRECTIONS)]
