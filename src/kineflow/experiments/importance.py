"""Which keys of a search moved its score: functional analysis of variance over a random forest, by Optuna.

Source: Hutter 2014, An efficient approach for assessing hyperparameter importance.
"""

import math
import warnings
from collections.abc import Sequence

from kineflow.evaluation.metrics import LOWER_IS_BETTER
from kineflow.experiments.space import Space, tidied
from kineflow.experiments.strategy import distribution
from kineflow.experiments.trials import Trial

MIN_TRIALS = 6  # with fewer a forest says nothing


def importances(space: Space, trials: Sequence[Trial]) -> list[tuple[str, float]]:
    """The share of the variance of the score that each key explains, the largest first; they sum to 1.

    Only trials that saw every fold count. Empty where there are too few of them, or all score alike.
    """
    import optuna

    done = [trial for trial in trials if trial.state == "done" and math.isfinite(trial.mean)]
    if len(done) < MIN_TRIALS or len({trial.mean for trial in done}) == 1:
        return []
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = {key: distribution(tried) for key, tried in space.items()}
    study = optuna.create_study(direction="minimize" if done[0].metric in LOWER_IS_BETTER else "maximize")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a choice of values that are no text, which Optuna would not store elsewhere
        for trial in done:
            params = tidied(space, trial.changes)
            study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=trial.mean))
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return [(key, float(share)) for key, share in found.items()]
