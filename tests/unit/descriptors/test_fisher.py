"""Fisher vectors against loops over the published formulas."""

import math

import numpy as np
import pytest

from kineflow.descriptors.fisher import Codebook, fisher_gradients, fit_codebook, normalised
from kineflow.errors import DataError

RNG = np.random.default_rng(0)


def mixture(num_gaussians=3, num_values=4):
    weights = RNG.dirichlet(np.ones(num_gaussians)).astype(np.float32)
    means = RNG.normal(size=(num_gaussians, num_values)).astype(np.float32)
    return weights, means, RNG.uniform(0.2, 2.0, means.shape).astype(np.float32)


def density(point, mean, variance):
    return math.prod(
        math.exp(-((x - m) ** 2) / (2 * v)) / math.sqrt(2 * math.pi * v)
        for x, m, v in zip(point.tolist(), mean.tolist(), variance.tolist(), strict=True)
    )


def test_against_loops_over_equations_17_and_18_of_sanchez_2013():
    weights, means, variances = mixture()
    points = RNG.normal(size=(6, 4)).astype(np.float32)
    to_means, to_deviations = np.zeros((3, 4)), np.zeros((3, 4))
    for point in points:
        likely = [w * density(point, m, v) for w, m, v in zip(weights.tolist(), means, variances, strict=True)]
        for k in range(3):
            posterior = likely[k] / sum(likely)
            for d in range(4):
                scaled = (float(point[d]) - float(means[k, d])) / math.sqrt(float(variances[k, d]))
                to_means[k, d] += posterior * scaled / (6 * math.sqrt(weights[k]))
                to_deviations[k, d] += posterior * (scaled**2 - 1) / (6 * math.sqrt(2 * weights[k]))
    found = fisher_gradients(points, weights, means, variances)
    assert found == pytest.approx(np.concatenate([to_means, to_deviations]).ravel(), abs=1e-5)


def test_gradients_vanish_for_what_the_mixture_itself_draws():
    weights, means, variances = mixture()
    gaussian = RNG.choice(3, 200_000, p=weights / weights.sum())
    points = (means[gaussian] + RNG.normal(size=(200_000, 4)) * np.sqrt(variances[gaussian])).astype(np.float32)
    assert np.abs(fisher_gradients(points, weights, means, variances)).max() < 0.02
    assert np.abs(fisher_gradients(points + 1, weights, means, variances)).max() > 0.2


def test_far_points_do_not_overflow():
    weights, means, variances = mixture()
    assert np.isfinite(fisher_gradients(np.full((2, 4), 300.0, np.float32), weights, means, variances)).all()


def test_signed_roots_then_length_one():
    assert normalised(np.float32([9.0, -16.0, 0.0])) == pytest.approx([0.6, -0.8, 0.0])
    assert not normalised(np.zeros(3, np.float32)).any()


def test_a_codebook_finds_what_made_the_descriptors():
    """Two blobs far apart along one of many axes, at two places."""
    descriptors = RNG.normal(0, 0.05, (600, 10)).astype(np.float32)
    place = RNG.normal(0, 0.05, (600, 3)).astype(np.float32)
    descriptors[:200, 4] += 3.0
    place[:200, 1] += 0.4
    codebook = fit_codebook(descriptors, place, num_components=2, num_gaussians=2, seed=0)
    assert np.sort(codebook.weights_G) == pytest.approx([1 / 3, 2 / 3], abs=1e-3)
    assert abs(codebook.axes_PD[0, 4]) == pytest.approx(1.0, abs=1e-3)
    assert np.sort(codebook.means_GE[:, 3]) == pytest.approx([0, 0.4], abs=0.02)
    assert np.abs(np.diff(codebook.means_GE[:, 0])) == pytest.approx([3.0], abs=0.02)
    vector = codebook.fisher_vector(descriptors[:50], place[:50])
    assert vector.shape == (codebook.num_values,) == (2 * 2 * 5,)
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-6)
    again = fit_codebook(descriptors, place, num_components=2, num_gaussians=2, seed=0)
    assert all((a == b).all() for a, b in zip(vars(codebook).values(), vars(again).values(), strict=True))


def test_a_clip_without_descriptors_has_a_vector_of_zeros():
    weights, means, variances = mixture(3, 5)
    codebook = Codebook(np.zeros(7, np.float32), np.zeros((2, 7), np.float32), weights, means, variances)
    found = codebook.fisher_vector(np.zeros((0, 7), np.float32), np.zeros((0, 3), np.float32))
    assert found.shape == (30,) and not found.any()


def test_too_few_descriptors_are_refused_with_what_to_do():
    with pytest.raises(DataError, match=r"only 5 moving descriptors .* lower streams\.fv\.num_gaussians"):
        fit_codebook(
            np.zeros((5, 8), np.float32), np.zeros((5, 3), np.float32), num_components=2, num_gaussians=6, seed=0
        )
