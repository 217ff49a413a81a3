"""What a search tells of its trials; trials themselves are tested on a real workspace."""

import threading
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ray import cloudpickle
from ray.tune import Callback

from kineflow.experiments.trial_worker import Work
from kineflow.experiments.trials import Trial
from kineflow.experiments.tuning import Listener, _teller
from tests.unit.experiments.samples import strategy, trial


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
