"""Fisher vectors: how the descriptors of a clip differ from a mixture of Gaussians that fits all clips.

Sources: Perronnin et al. 2010 (improved Fisher kernel: power and L2 normalisation), Sanchez et al. 2013 (equations 17
and 18; the gradient to the mixture weights is left out), Sanchez et al. 2012 (the place appended to each descriptor).
"""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kineflow.errors import DataError

MIN_VARIANCE = 1e-4  # added to each: a Gaussian never shrinks to a point
MAX_EM_STEPS = 30

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Codebook:
    """Principal components of descriptors, and a mixture of G Gaussians over P of them and the place (E = P + 3).

    Args:
        centre_D, axes_PD: a descriptor becomes axes (descriptor - centre).
        weights_G: of the Gaussians; sum to 1.
        means_GE, variances_GE: of the Gaussians, whose covariances are diagonal.
    """

    centre_D: Floats
    axes_PD: Floats
    weights_G: Floats
    means_GE: Floats
    variances_GE: Floats

    @property
    def num_values(self) -> int:
        """Of a Fisher vector."""
        return 2 * self.means_GE.size

    def points(self, descriptors_ND: Floats, place_N3: Floats) -> Floats:
        """The descriptors as the mixture sees them, (N, E)."""
        reduced_NP = (descriptors_ND - self.centre_D) @ self.axes_PD.T
        return np.concatenate([reduced_NP, place_N3], axis=1)

    def fisher_vector(self, descriptors_ND: Floats, place_N3: Floats) -> Floats:
        """The normalised Fisher vector of the descriptors of one clip, float32 (2 G E,); zeros without any."""
        if not len(descriptors_ND):
            return np.zeros(self.num_values, np.float32)
        gradients = fisher_gradients(
            self.points(descriptors_ND, place_N3), self.weights_G, self.means_GE, self.variances_GE
        )
        return normalised(gradients)


def fit_codebook(
    descriptors_ND: Floats, place_N3: Floats, *, num_components: int, num_gaussians: int, seed: int
) -> Codebook:
    """Principal components by an eigendecomposition, then a mixture by expectation maximisation from k-means.

    Raises:
        DataError: there are fewer descriptors than Gaussians, or than components.
    """
    from sklearn.decomposition import PCA
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    num_components = min(num_components, descriptors_ND.shape[1])
    needed = max(num_gaussians, num_components)
    if len(descriptors_ND) < needed:
        raise DataError(
            f"only {len(descriptors_ND)} moving descriptors in all training clips, and the params of the stream fv ask "
            f"for {needed} components or Gaussians; lower streams.fv.num_gaussians and num_components, or its scales"
        )
    pca = PCA(num_components, svd_solver="covariance_eigh").fit(descriptors_ND)
    centre_D, axes_PD = pca.mean_.astype(np.float32), pca.components_.astype(np.float32)
    points_NE = np.concatenate([(descriptors_ND - centre_D) @ axes_PD.T, place_N3], axis=1)
    mixture = GaussianMixture(
        num_gaussians, covariance_type="diag", reg_covar=MIN_VARIANCE, max_iter=MAX_EM_STEPS, random_state=seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a codebook need not be the very best mixture
        mixture.fit(points_NE.astype(np.float64))
    return Codebook(
        centre_D,
        axes_PD,
        mixture.weights_.astype(np.float32),
        mixture.means_.astype(np.float32),
        mixture.covariances_.astype(np.float32),
    )


def fisher_gradients(points_NE: Floats, weights_G: Floats, means_GE: Floats, variances_GE: Floats) -> Floats:
    """Mean gradients of the log likelihood to the means and to the deviations, in units of the Fisher information.

    Returns:
        float32 (2 G E,): G x E of the means, then G x E of the deviations.
    """
    posteriors_NG = _posteriors(points_NE, weights_G, means_GE, variances_GE)
    num_points = len(points_NE)
    sum_G1 = posteriors_NG.sum(axis=0)[:, None]
    first_GE = posteriors_NG.T @ points_NE
    second_GE = posteriors_NG.T @ np.square(points_NE)
    to_means_GE = (first_GE - sum_G1 * means_GE) / np.sqrt(variances_GE)
    squares_GE = second_GE - 2 * means_GE * first_GE + sum_G1 * np.square(means_GE)
    to_deviations_GE = squares_GE / variances_GE - sum_G1
    root_G1 = np.sqrt(weights_G)[:, None]
    parts = [to_means_GE / (num_points * root_G1), to_deviations_GE / (num_points * np.sqrt(2) * root_G1)]
    return np.concatenate(parts).reshape(-1).astype(np.float32)


def normalised(vector: Floats) -> Floats:
    """Signed roots, then length 1; zeros stay zeros."""
    rooted = np.sign(vector) * np.sqrt(np.abs(vector))
    length = np.linalg.norm(rooted)
    return np.asarray(rooted / length if length > 0 else rooted, np.float32)


def _posteriors(points_NE: Floats, weights_G: Floats, means_GE: Floats, variances_GE: Floats) -> NDArray[np.float64]:
    """The probability that each Gaussian made each point, (N, G); rows sum to 1."""
    precision_GE = 1.0 / variances_GE.astype(np.float64)
    log_G = (
        np.log(weights_G.astype(np.float64))
        - 0.5 * np.log(variances_GE.astype(np.float64)).sum(axis=1)
        - 0.5 * (np.square(means_GE) * precision_GE).sum(axis=1)
    )
    points = points_NE.astype(np.float64)
    log_NG = log_G + points @ (means_GE * precision_GE).T - 0.5 * np.square(points) @ precision_GE.T
    log_NG -= log_NG.max(axis=1, keepdims=True)
    exp_NG = np.exp(log_NG)
    return exp_NG / exp_NG.sum(axis=1, keepdims=True)
