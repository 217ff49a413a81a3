"""Soft orientations against hand-computed values and a slow reference."""

import math

import numpy as np
import pytest
import torch

from kineflow.descriptors.orientations import gradient, mirrored_directions, soft_orientations
from kineflow.models.orientation import GAIN, orientation_channels


def field(*vectors):
    return np.array([vectors], np.float32)


def test_a_vector_along_a_direction_is_shared_with_its_neighbours():
    found = soft_orientations(field([4.0, 0.0]))[0, 0]
    # sqrt(4) cos^2 of 0, 45 and 90 degrees
    assert found == pytest.approx([2, 1, 0, 0, 0, 0, 0, 1], abs=1e-6)


def test_a_vector_between_two_directions():
    angle = math.radians(180 + 22.5)
    found = soft_orientations(field([9 * math.cos(angle), 9 * math.sin(angle)]))[0, 0]
    near, far = 3 * math.cos(math.radians(22.5)) ** 2, 3 * math.cos(math.radians(67.5)) ** 2
    assert found == pytest.approx([0, 0, 0, far, near, near, far, 0], abs=1e-5)


def test_against_a_slow_reference_and_the_same_sum_at_every_angle():
    rng = np.random.default_rng(0)
    vectors = rng.normal(0, 3, (5, 7, 2)).astype(np.float32)
    vectors[0, 0] = 0
    found = soft_orientations(vectors)
    for y in range(5):
        for x in range(7):
            length = math.hypot(*vectors[y, x])
            for o in range(8):
                angle = math.atan2(vectors[y, x, 1], vectors[y, x, 0]) - o * math.pi / 4
                wanted = math.sqrt(length) * max(0.0, math.cos(angle)) ** 2
                assert found[y, x, o] == pytest.approx(wanted, abs=1e-5)
    assert found.sum(axis=-1) == pytest.approx(2 * np.sqrt(np.hypot(*np.moveaxis(vectors, -1, 0))), abs=1e-5)


@pytest.mark.parametrize(("axis", "sign"), [("x", [-1, 1]), ("y", [1, -1])])
def test_negating_an_axis_permutes_the_directions(axis, sign):
    vectors = np.random.default_rng(1).normal(size=(3, 4, 2)).astype(np.float32)
    found = soft_orientations(vectors * np.array(sign, np.float32))
    assert found == pytest.approx(soft_orientations(vectors)[..., mirrored_directions(negates=axis)], abs=1e-6)


def test_gradients_of_a_ramp():
    y, x = np.mgrid[0:5, 0:6].astype(np.float32)
    found = gradient(3 * x - 2 * y)
    assert found[1:-1, 1:-1, 0] == pytest.approx(np.full((3, 4), 3.0))
    assert found[1:-1, 1:-1, 1] == pytest.approx(np.full((3, 4), -2.0))


def test_a_networks_channels_of_orientation_are_the_same_counts() -> None:
    """`kineflow.models.orientation` works on a device and averages 2 x 2 pixels; inside the borders they agree."""
    flow_HW2 = np.random.default_rng(4).normal(size=(10, 12, 2)).astype(np.float32)
    fields = [flow_HW2, gradient(flow_HW2[..., 0].copy()), gradient(flow_HW2[..., 1].copy())]
    counted_HWC = np.concatenate([soft_orientations(field) for field in fields], axis=-1)
    averaged_HWC = counted_HWC.reshape(5, 2, 6, 2, -1).mean(axis=(1, 3))
    given = torch.from_numpy(flow_HW2).permute(2, 0, 1)[None, :, None]
    channels_CHW = orientation_channels(given)[0, :, 0].numpy() / GAIN
    inside = (slice(1, -1), slice(1, -1))
    np.testing.assert_allclose(channels_CHW.transpose(1, 2, 0)[inside], averaged_HWC[inside], atol=1e-4)
