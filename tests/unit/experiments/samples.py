"""A strategy, and trials as a search by it might have found them."""

from collections.abc import Sequence
from typing import Any

from kineflow.evaluation.metrics import ClassRow
from kineflow.experiments.space import make_space
from kineflow.experiments.strategy import Halving, Strategy
from kineflow.experiments.trials import FoldScores, State, Trial

SPACE = make_space({"lr": {"uniform": [0.0, 1.0]}})


def fold_scores(fold: int, value: float, metric: str = "video_top1_acc") -> FoldScores:
    groom, rest = ClassRow("groom", value, value, value, 4), ClassRow("<rest>", 0.5, float("nan"), 0.5, 2)
    classes = (groom, rest, ClassRow("rear", float("nan"), 0.0, 0.0, 2))
    return FoldScores(fold, f"key{fold}", {metric: value}, classes, seconds=1.5, best_epoch=3)


def trial(values: Sequence[float], state: State = "done", *, metric: str = "video_top1_acc", **changes: Any) -> Trial:
    return Trial(changes, metric, [fold_scores(i, value, metric) for i, value in enumerate(values)], state)


def strategy(algorithm: Any = "random", *, metric: str = "video_top1_acc", after_folds: int = 1) -> Strategy:
    return Strategy(SPACE, algorithm, metric, 8, None, Halving(after_folds, 0.5), seed=0)
