"""When trials are pruned, also by a search that goes on; trials themselves are tested on a real workspace."""

import threading
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray import cloudpickle
from ray.tune import Callback
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from kineflow.experiments.space import make_space
from kineflow.experiments.strategy import Halving, Strategy, first_draws, max_num_trials, scheduler_of
from kineflow.experiments.trial_worker import Work, run_fold
from kineflow.experiments.trials import Trial
from kineflow.experiments.tuning import Listener, _teller
from kineflow.training.self_supervision.config import SelfSupervision
from tests.jobs import make_job
from tests.unit.experiments.samples import trial

SPACE = make_space({"lr": {"uniform": [0.0, 1.0]}})


def strategy(algorithm: Any = "random", *, metric: str = "video_top1_acc", after_folds: int = 1) -> Strategy:
    return Strategy(SPACE, algorithm, metric, 8, None, Halving(after_folds, 0.5), seed=0)


def told(scheduler: Any, name: str, num_folds: int, score: float) -> str:
    stand_in = SimpleNamespace(trial_id=name)
    if num_folds == 1:
        scheduler.on_trial_add(None, stand_in)
    answer: str = scheduler.on_trial_result(None, stand_in, {"training_iteration": num_folds, "score": score})
    return answer


def test_a_search_that_goes_on_is_as_strict_as_one_that_was_not_stopped() -> None:
    known = [trial([value, value], lr=value) for value in (0.5, 0.6, 0.7, 0.8)]
    assert told(scheduler_of(strategy(), 4, []), "new", 1, 0.55) == TrialScheduler.CONTINUE  # the first of all
    assert told(scheduler_of(strategy(), 4, known), "new", 1, 0.55) == TrialScheduler.STOP  # below their median
    assert told(scheduler_of(strategy(), 4, known), "new", 1, 0.9) == TrialScheduler.CONTINUE


def test_a_low_log_loss_goes_on() -> None:
    known = [trial([value], "pruned", metric="video_log_loss", lr=value) for value in (0.5, 0.6, 0.7, 0.8)]
    with_loss = strategy(metric="video_log_loss")
    assert told(scheduler_of(with_loss, 4, known), "new", 1, -0.4) == TrialScheduler.CONTINUE
    assert told(scheduler_of(with_loss, 4, known), "new", 1, -0.75) == TrialScheduler.STOP


def test_nothing_is_pruned_after_the_last_fold() -> None:
    assert type(scheduler_of(strategy(after_folds=4), 4, [])) is FIFOScheduler


@pytest.mark.parametrize(("algorithm", "number"), [("random", 8), ("pbt", 8), ("tpe", 0)])
def test_what_is_tried_whatever_comes_out(algorithm: str, number: int) -> None:
    assert len(first_draws(strategy(algorithm))) == number


def test_a_listener_that_holds_a_terminal_need_not_be_pickled() -> None:
    class Holding(Listener):
        def __init__(self) -> None:
            self.lock = threading.Lock()

    teller = _teller(strategy(), None, Holding(), {})  # type: ignore[arg-type]
    assert isinstance(cloudpickle.loads(cloudpickle.dumps(teller)), Callback)


def test_values_that_were_pruned_and_come_again_may_see_every_fold(tmp_path: Path) -> None:
    work = Work(lambda changes: [], lambda job, folder: done.folds[0], tmp_path, tmp_path, 2, 1, 0.0, 0, 0)
    done = trial([0.5, 0.7], lr=0.25)
    known: dict[str, Any] = {}
    teller = _teller(strategy("tpe"), work, Listener(), known)
    states = []
    for folds in (done.folds[:1], done.folds):
        for fold in folds:
            teller.on_trial_result(0, [], None, {"config": {"lr": 0.25}, "fold": asdict(fold)})
        teller.on_trial_complete(0, [], SimpleNamespace(config={"lr": 0.25}))
        states += [one.state for one in known.values()]
    assert states == ["pruned", "done"] and len(known[done.key].folds) == 2


class Told(Listener):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.began: list[float] = []
        self.ended: list[tuple[float, str]] = []

    def trial_began(self, trial: Trial) -> None:
        self.began.append(trial.changes["lr"])

    def trial_ended(self, trial: Trial) -> None:
        self.ended.append((trial.changes["lr"], trial.state))


def test_values_that_pbt_draws_behind_its_last_generation_are_no_trial(tmp_path: Path) -> None:
    work = Work(lambda changes: [], lambda job, folder: done.folds[0], tmp_path, tmp_path, 2, 1, 0.0, 0, 0)
    done, listener = trial([0.5, 0.7], lr=0.25), Told()
    known: dict[str, Any] = {}
    teller = _teller(replace(strategy("pbt"), num_generations=2), work, listener, known)
    teller.on_trial_start(0, [], SimpleNamespace(config={"changes": {"lr": 0.25}}, last_result={}))
    for fold in done.folds:
        teller.on_trial_result(0, [], None, {"config": {"changes": {"lr": 0.25}}, "fold": asdict(fold)})
    behind = SimpleNamespace(config={"changes": {"lr": 0.3}}, last_result={"training_iteration": 4})
    teller.on_trial_start(0, [], behind)  # with what a third generation would have had
    teller.on_trial_complete(0, [], behind)
    teller.on_trial_result(0, [], None, {"config": {"changes": {"lr": 0.9}}, "error": "no such model"})
    teller.on_trial_complete(0, [], SimpleNamespace(config={"changes": {"lr": 0.9}}))
    assert listener.ended == [(0.25, "done"), (0.9, "failed")] and len(known) == 2 and listener.began == [0.25]


def test_how_many_trials_there_will_be() -> None:
    assert max_num_trials(strategy()) == 8 and max_num_trials(strategy("tpe")) == 8
    assert max_num_trials(replace(strategy("pbt"), num_generations=3)) == 8 + 2 * 2  # a quarter, twice
    grid = make_space({"a": {"grid": [1, 2, 3]}, "lr": {"uniform": [0.0, 1.0]}})
    assert max_num_trials(replace(strategy(), space=grid)) == 24


def test_a_fold_leaves_nothing_but_its_result(tmp_path: Path) -> None:
    first = SelfSupervision(0.0, 0.0, patch_fraction=0.5, num_past=1, gap=1, branch_after="", pretrain_epochs=1)
    job = replace(make_job(tmp_path, epochs=1), self_supervision=first)
    done = trial([0.5]).folds[0]
    work = Work(lambda changes: [job], lambda job, folder: done, tmp_path / "home", tmp_path, 1, 1, 0.0, 0, 0)
    news = tmp_path / "home" / "progress" / "trial.json"
    assert run_fold(job, work, news) is done
    assert list((tmp_path / "home" / "checkpoints").iterdir()) == [] and list(news.parent.iterdir()) == []
