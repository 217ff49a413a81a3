"""The epoch whose weights are kept, by what is watched: numbers by hand."""

import math

import pytest
import torch

from kineflow.training.recipe import Recipe, is_stopped_early
from kineflow.training.state import EpochResult, TrainingState
from tests.unit.training.test_loop import CPU, recipe

NAN = math.nan
LOSSES = [0.9, 0.5, NAN, 0.7, 0.8]
METRICS = [0.4, 0.3, NAN, 0.6, 0.5]


def after(recipe: Recipe, *, select_best: bool = True, num_epochs: int = 5) -> TrainingState:
    """Epochs that were judged so; in each the weight is the number of the epoch."""
    state = TrainingState(torch.nn.Linear(1, 1, bias=False), recipe, select_best, CPU)
    for epoch in range(num_epochs):
        torch.nn.init.constant_(state.model.weight, epoch + 1)  # type: ignore[arg-type]
        state.finish(EpochResult(epoch, 0.1, 1.0, LOSSES[epoch], METRICS[epoch], 1))
    return state


@pytest.mark.parametrize(
    ("watch", "select_best", "kept"),
    [("loss", True, 2), ("macro_f1", True, 4), ("accuracy", True, 4), ("macro_f1", False, 5)],
)
def test_the_epoch_of_the_lowest_loss_or_the_highest_metric_is_kept(watch: str, select_best: bool, kept: int) -> None:
    state = after(recipe(watch=watch, epochs=5), select_best=select_best)
    assert state.best_epoch == kept and state.best_state["weight"].item() == kept


def test_a_metric_that_is_judged_late_is_the_first_best_one() -> None:
    state = TrainingState(torch.nn.Linear(1, 1), recipe(watch="accuracy", epochs=5), True, CPU)
    for epoch, metric in enumerate([NAN, NAN, 0.0, NAN]):
        state.finish(EpochResult(epoch, 0.1, 1.0, NAN, metric, 1))
        assert state.best_epoch == min(epoch + 1, 3)


@pytest.mark.parametrize(("watch", "stopped_after"), [("loss", 5), ("accuracy", None)])
def test_training_is_stopped_by_what_is_watched(watch: str, stopped_after: int | None) -> None:
    given = recipe(watch=watch, early_stop=2, epochs=5)
    stopped = [n for n in range(6) if is_stopped_early(after(given, num_epochs=n).watched, given)]
    assert stopped == ([] if stopped_after is None else [stopped_after])


@pytest.mark.parametrize(
    ("watch", "scales"), [("loss", [1, 1, 1, 1, 0.5, 0.25]), ("macro_f1", [1, 1, 0.5, 0.5, 0.5, 0.25])]
)
def test_a_plateau_is_one_of_what_is_watched(watch: str, scales: list[float]) -> None:
    given = recipe(watch=watch, schedule="plateau", plateau_patience=1, plateau_factor=0.5, epochs=6)
    assert [after(given, num_epochs=n).plateau for n in range(6)] == scales
