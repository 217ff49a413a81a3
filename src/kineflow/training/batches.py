"""Which clips make up the batches of an epoch: drawn from the recipe's seed and the epoch alone."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kineflow.training.recipe import Recipe


def epoch_batches(
    num_clips: int, recipe: Recipe, epoch: int, *, targets: Sequence[int | np.ndarray | None] = ()
) -> list[list[int]]:
    """The positions of each batch of an epoch, by seed and epoch; a last batch of one joins another.

    A permutation; or, where the recipe's sampler balances, as many draws with replacement, weighted by `targets`.
    """
    generator = np.random.default_rng([recipe.seed, epoch])
    if recipe.sampler == "each_once":
        order = generator.permutation(num_clips).tolist()
    else:
        weights_N = sampling_weights(targets, power=1.0 if recipe.sampler == "balanced" else 0.5)
        order = generator.choice(num_clips, size=num_clips, p=weights_N).tolist()
    batches = [order[first : first + recipe.batch_size] for first in range(0, num_clips, recipe.batch_size)]
    if len(batches) > 1 and len(batches[-1]) == 1:  # batch norm needs two
        batches[-2:] = [batches[-2] + batches[-1]]
    return batches


def sampling_weights(targets: Sequence[int | np.ndarray | None], *, power: float) -> NDArray[np.float64]:
    """Chances (N,) of the clips to be drawn: the rarest class that a clip shows is drawn n^(1 - power) times as often.

    Args:
        targets: a class index each; or 0, 1 and nan of independent labels, (K,) of a clip or (T, K) of its frames.
            A clip that shows nothing counts as one more class.
        power: 1 draws every class alike, 0.5 in proportion to the root of how many clips show it.
    """
    shown = [_shown(target) for target in targets]
    counts = Counter(label for labels in shown for label in labels)
    weights_N = np.array([max(counts[label] ** -power for label in labels) for labels in shown])
    return np.asarray(weights_N / weights_N.sum(), np.float64)


def _shown(target: int | np.ndarray | None) -> tuple[int, ...]:
    if not isinstance(target, np.ndarray):
        return (-1 if target is None else target,)
    return tuple(np.flatnonzero((np.atleast_2d(target) == 1).any(axis=0)).tolist()) or (-1,)
