"""Which clips make up the batches of an epoch: drawn from the recipe's seed and the epoch alone."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kineflow.errors import ParamsError
from kineflow.training.recipe import Recipe

NOTHING = -1  # the class of what shows none
Targets = Sequence[int | np.ndarray | None]


def epoch_batches(targets: Targets, recipe: Recipe, epoch: int) -> list[list[int]]:
    """The positions of each batch of an epoch, by seed and epoch; a last batch of one joins another.

    A permutation; of all positives and some of the negatives, where the recipe has a ratio; or, where its sampler
    balances, as many draws as there are clips, with replacement. Each time that a clip comes again its position is
    higher by the number of clips, so that its view is another.

    Args:
        targets: of the clips, see `sampling_weights`.

    Raises:
        ParamsError: the recipe has a ratio, and there are no positives, or no negatives.
    """
    generator = np.random.default_rng([recipe.seed, epoch])
    if recipe.negative_ratio is not None:
        drawn = _with_negatives(targets, recipe.negative_ratio, recipe.negative_class, generator)
        order = generator.permutation(drawn).tolist()
    elif recipe.sampler == "each_once":
        order = generator.permutation(len(targets)).tolist()
    else:
        weights_N = sampling_weights(targets, power=1.0 if recipe.sampler == "balanced" else 0.5)
        order = generator.choice(len(targets), size=len(targets), p=weights_N).tolist()
    before: Counter[int] = Counter()
    for place, position in enumerate(order):
        order[place] = position + len(targets) * before[position]
        before[position] += 1
    return cut_into_batches(order, recipe.batch_size)


def cut_into_batches(order: list[int], batch_size: int) -> list[list[int]]:
    """The positions in their order, so many at a time; a last batch of one joins another."""
    batches = [order[first : first + batch_size] for first in range(0, len(order), batch_size)]
    if len(batches) > 1 and len(batches[-1]) == 1:  # batch norm needs two
        batches[-2:] = [batches[-2] + batches[-1]]
    return batches


def sampling_weights(targets: Targets, *, power: float) -> NDArray[np.float64]:
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


def _with_negatives(
    targets: Targets, ratio: float, negative_class: int | None, generator: np.random.Generator
) -> NDArray[np.int64]:
    """The positions of all positives, and of `ratio` negatives for each; all of these come before one comes again."""
    alone = {(NOTHING,), (negative_class,)}
    is_negative_N = np.array([_shown(target) in alone for target in targets])
    positives, negatives = np.flatnonzero(~is_negative_N), np.flatnonzero(is_negative_N)
    if not len(positives) or not len(negatives):
        raise ParamsError(
            f"train.negative_ratio: of {len(targets)} training clips {len(negatives)} are negatives, so there is no "
            f"ratio; write null"
        )
    number = max(1, round(ratio * len(positives)))
    whole, rest = divmod(number, len(negatives))
    others = generator.choice(negatives, size=rest, replace=False)
    return np.concatenate([positives, np.tile(negatives, whole), others])


def _shown(target: int | np.ndarray | None) -> tuple[int, ...]:
    if not isinstance(target, np.ndarray):
        return (NOTHING if target is None else target,)
    return tuple(np.flatnonzero((np.atleast_2d(target) == 1).any(axis=0)).tolist()) or (NOTHING,)
