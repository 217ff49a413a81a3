"""Orientation channels against values worked out by hand, and against a slow loop over pixels."""

import math

import numpy as np
import pytest
import torch

from kineflow.data import preprocessing
from kineflow.models.orientation import GAIN, NUM_CHANNELS, NUM_DIRECTIONS, POOLING, orientation_channels


def constant_flow(x: float, y: float, size: int = 4) -> torch.Tensor:
    return torch.tensor([x, y]).view(1, 2, 1, 1, 1).expand(1, 2, 1, size, size).contiguous()


def slow_channels(flow_CHW: np.ndarray) -> np.ndarray:
    """(24, H // 2, W // 2) of one image, pixel by pixel."""
    _, height, width = flow_CHW.shape

    def at(channel: int, row: int, column: int) -> float:
        return float(flow_CHW[channel, min(max(row, 0), height - 1), min(max(column, 0), width - 1)])

    out = np.zeros((NUM_CHANNELS, height // 2, width // 2))
    for row in range(height // 2 * 2):
        for column in range(width // 2 * 2):
            fields = [(at(0, row, column), at(1, row, column))]
            for channel in (0, 1):
                along_x = (at(channel, row, column + 1) - at(channel, row, column - 1)) / 2
                along_y = (at(channel, row + 1, column) - at(channel, row - 1, column)) / 2
                fields.append((along_x, along_y))
            for field, (x, y) in enumerate(fields):
                for direction in range(NUM_DIRECTIONS):
                    angle = math.atan2(y, x) - direction * 2 * math.pi / NUM_DIRECTIONS
                    share = math.sqrt(math.hypot(x, y)) * max(0.0, math.cos(angle)) ** 2
                    out[field * NUM_DIRECTIONS + direction, row // 2, column // 2] += GAIN * share / 4
    return out


def test_motion_along_x_goes_to_its_direction_and_half_to_the_two_beside_it() -> None:
    channels = orientation_channels(constant_flow(4.0, 0.0))
    assert channels.shape == (1, 24, 1, 2, 2)
    of_flow = channels[0, :8, 0, 0, 0] / GAIN
    expected = torch.tensor([2.0, 1.0, 0, 0, 0, 0, 0, 1.0])  # sqrt(4) * cos^2 of 0 and of 45 degrees
    torch.testing.assert_close(of_flow, expected, atol=1e-5, rtol=0)
    assert channels[0, 8:].abs().max() == 0  # nothing changes from place to place


def test_as_a_slow_loop_over_pixels() -> None:
    flow_CHW = np.random.default_rng(0).normal(size=(2, 7, 6)).astype(np.float32)
    expected = slow_channels(flow_CHW)
    found = orientation_channels(torch.from_numpy(flow_CHW)[None, :, None])[0, :, 0]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)


def test_a_mirrored_clip_gives_mirrored_channels() -> None:
    flow = torch.randn(1, 2, 3, 8, 10, generator=torch.Generator().manual_seed(0))
    mirrored = flow.flip(-1) * torch.tensor([-1.0, 1.0]).view(1, 2, 1, 1, 1)
    plain, other = orientation_channels(flow).flip(-1), orientation_channels(mirrored)
    opposite = [(4 - direction) % 8 for direction in range(8)]  # x changes its sign
    torch.testing.assert_close(other[:, :8], plain[:, opposite])
    # the gradient of -x(mirrored): its x part keeps its sign, its y part changes it
    torch.testing.assert_close(other[:, 8:16], plain[:, [8 + (-direction) % 8 for direction in range(8)]])
    torch.testing.assert_close(other[:, 16:], plain[:, [16 + direction for direction in opposite]])


def test_derivatives_are_finite_and_right() -> None:
    flow = torch.randn(1, 2, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert torch.autograd.gradcheck(orientation_channels, flow.requires_grad_())
    still = torch.zeros(1, 2, 1, 4, 4, requires_grad=True)
    orientation_channels(still).sum().backward()
    assert still.grad is not None
    assert torch.isfinite(still.grad).all()


@pytest.mark.parametrize("size", [(2, 2), (5, 3)])
def test_odd_sizes_lose_their_last_row_and_column(size: tuple[int, int]) -> None:
    height, width = size
    assert orientation_channels(torch.zeros(1, 2, 1, height, width)).shape[-2:] == (height // 2, width // 2)


def test_what_the_data_say_of_it_without_torch_is_true() -> None:
    assert preprocessing.ORIENTATION_CHANNELS == NUM_CHANNELS
    assert preprocessing.ORIENTATION_POOLING == POOLING
