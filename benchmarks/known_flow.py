"""Pairs of frames whose flow is known exactly: a frame warped by a smooth field, for the benchmark and the tests."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

# Largest displacement in x and in y at 320x240, in pixels.
MOTIONS_PX = (("small", 1.0), ("medium", 4.0), ("large", 12.0))
NOISE_LEVELS = 2.0  # standard deviation of the noise of each frame, of 255
FIELD_PERIOD = 0.2  # of the field's waves, as a fraction of the image's width per radian
BORDER_PX = 8  # what leaves the image is unknown to every method


@dataclass(frozen=True)
class KnownPair:
    """Two gray frames and the flow from the first to the second: before(p) = after(p + flow(p)).

    Attributes:
        before, after: uint8 (H, W).
        flow: float32 (H, W, 2), x then y, in pixels.
    """

    before: NDArray[np.uint8]
    after: NDArray[np.uint8]
    flow: NDArray[np.float32]


def texture(seed: int, *, height: int, width: int) -> NDArray[np.float32]:
    """A natural-looking gray image in 0..255: detail at every size, as strong as its size."""
    random = np.random.default_rng(seed)
    canvas = np.zeros((height, width), np.float32)
    for sigma in (1.5, 3.0, 6.0, 12.0):
        noise = cv2.GaussianBlur(random.standard_normal(canvas.shape).astype(np.float32), (0, 0), sigma)
        canvas += noise / noise.std()
    return np.clip(128 + 28 * canvas, 0, 255)


def smooth_field(amplitude_px: float, *, height: int, width: int, phase: float = 0.0) -> NDArray[np.float32]:
    """A field (height, width, 2) that turns and stretches, at most `amplitude_px` in x and in y."""
    y, x = np.mgrid[:height, :width].astype(np.float32) / (FIELD_PERIOD * width)
    field: NDArray[np.float32] = np.stack([np.sin(y + phase) * np.cos(x), np.cos(x + y / 2 + phase)], axis=-1)
    return (amplitude_px * field).astype(np.float32)


def warped_pair(
    canvas: NDArray[np.float32], flow: NDArray[np.float32], *, noise_levels: float = 0.0, seed: int = 0
) -> KnownPair:
    """The middle of `canvas`, and what it looked like before it moved by `flow`.

    Args:
        canvas: gray (H + 2 margins, W + 2 margins), 0..255; a margin at least as wide as the largest displacement
            brings real pixels in at the border.
        flow: (H, W, 2).
        noise_levels: standard deviation of independent noise on both frames.
    """
    height, width, _ = flow.shape
    top, left = (canvas.shape[0] - height) // 2, (canvas.shape[1] - width) // 2
    y, x = np.mgrid[:height, :width].astype(np.float32)
    canvas = canvas.astype(np.float32)
    before = cv2.remap(
        canvas, x + left + flow[..., 0], y + top + flow[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
    )
    after = canvas[top : top + height, left : left + width]
    random = np.random.default_rng(seed)
    noisy = [
        image + random.normal(0, noise_levels, image.shape) if noise_levels else image for image in (before, after)
    ]
    before_8bit, after_8bit = (np.clip(np.rint(image), 0, 255).astype(np.uint8) for image in noisy)
    return KnownPair(before_8bit, after_8bit, flow)


def known_sequence(
    canvas: NDArray[np.float32], amplitude_px: float, *, height: int, width: int, num_pairs: int, first: int = 0
) -> Iterator[KnownPair]:
    """Noisy pairs, numbered from `first`, whose fields drift from one to the next, as those of a video do."""
    for number in range(first, first + num_pairs):
        flow = smooth_field(amplitude_px, height=height, width=width, phase=0.1 * number)
        yield warped_pair(canvas, flow, noise_levels=NOISE_LEVELS, seed=number)


def endpoint_error_px(found: NDArray[np.float32], wanted: NDArray[np.float32], *, border_px: int = BORDER_PX) -> float:
    """Mean distance between two flows, away from the border."""
    inner = (slice(border_px, -border_px), slice(border_px, -border_px))
    return float(np.linalg.norm(found[inner] - wanted[inner], axis=-1).mean())
