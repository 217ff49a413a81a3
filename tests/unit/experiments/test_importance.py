"""Importances: what moves the score is found, what does not is not."""

import numpy as np
import pytest

from kineflow.experiments.importance import MIN_TRIALS, importances
from kineflow.experiments.space import draw, make_space
from tests.unit.experiments.samples import trial

SPACE = make_space(
    {"lr": {"loguniform": [1e-4, 1e-1]}, "dropout": {"uniform": [0.0, 0.5]}, "flip": {"choice": [True, False]}}
)


def test_the_key_that_moves_the_score_explains_it() -> None:
    drawn = draw(SPACE, num_draws=60, seed=0)
    trials = [trial([0.5 + 0.1 * np.log10(changes["lr"])], **changes) for changes in drawn]
    found = importances(SPACE, trials)
    assert found[0][0] == "lr" and found[0][1] > 0.9
    assert sum(share for _, share in found) == pytest.approx(1.0)
    by_flip = [trial([0.8 if changes["flip"] else 0.3], **changes) for changes in drawn]
    assert importances(SPACE, by_flip)[0][0] == "flip"


def test_too_few_or_equal_trials_say_nothing() -> None:
    drawn = draw(SPACE, num_draws=MIN_TRIALS, seed=0)
    assert importances(SPACE, [trial([float(i)], **c) for i, c in enumerate(drawn[:-1])]) == []
    assert importances(SPACE, [trial([0.5], **changes) for changes in drawn]) == []
    pruned = [trial([float(i)], "pruned", **changes) for i, changes in enumerate(drawn)]
    assert importances(SPACE, pruned) == []
