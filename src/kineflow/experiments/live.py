"""A search as it goes on: a table that is redrawn on a terminal, and a line for each fold elsewhere."""

import math
import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from kineflow.experiments.trials import Trial, ranked
from kineflow.experiments.tuning import Listener
from kineflow.progress.bar import clock

MAX_ROWS = 20
VALUE_CHARS = 10
STYLES = {"running": "cyan", "done": "green", "pruned": "dim", "failed": "red"}


class LiveTable(Listener):
    """Shows trials, folds, the metric so far, and how long it will take at the present pace.

    Args:
        num_trials: that there will be, as far as is known.
        num_folds: of a trial that is not pruned.
    """

    def __init__(self, *, metric: str, num_trials: int, num_folds: int) -> None:
        self._metric = metric
        self._num_trials = num_trials
        self._num_folds = num_folds
        self._trials: dict[str, Trial] = {}
        self._num_trained = 0
        self._started = time.monotonic()
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if sys.stdout.isatty():
            self._live = Live(console=Console(), refresh_per_second=4, get_renderable=self.drawn)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def fold_done(self, trial: Trial) -> None:
        self._trials[trial.key] = trial
        self._num_trained += 1
        if self._live is None:
            score = f"{trial.values[-1]:.3f}, mean {trial.mean:.3f}"
            done = f"{len(trial.folds)} of {self._num_folds}"
            print(f"search: trial {trial.key}, fold {done}: {self._metric} {score}; {self.left()}", flush=True)

    def trial_ended(self, trial: Trial) -> None:
        self._trials[trial.key] = trial
        if self._live is None:
            why = f" ({trial.reason})" if trial.reason else ""
            values = ", ".join(f"{key} {value}" for key, value in trial.changes.items())
            print(
                f"search: trial {trial.key} {trial.state}{why}: {self._metric} {trial.mean:.3f} with {values}",
                flush=True,
            )

    def left(self) -> str:
        """How many trials ended, and the time that is left if none of the others is pruned."""
        ended = sum(trial.state != "running" for trial in self._trials.values())
        counts = f"{ended} of {self._num_trials} trials"
        open_folds = (self._num_trials - ended) * self._num_folds
        open_folds -= sum(len(trial.folds) for trial in self._trials.values() if trial.state == "running")
        if not self._num_trained or open_folds <= 0:
            return counts
        left_sec = (time.monotonic() - self._started) / self._num_trained * open_folds
        return f"{counts}, at most {clock(left_sec)} left"

    def drawn(self) -> Group:
        """The table of the trials that run, then of the best, and the line under it."""
        by_rank = ranked(list(self._trials.values()))
        running = [trial for trial in by_rank if trial.state == "running"]
        shown = [*running, *(trial for trial in by_rank if trial.state != "running")][:MAX_ROWS]
        return Group(trial_table(shown, self._metric, self._num_folds), Text(self.left(), style="dim"))


def trial_table(trials: list[Trial], metric: str, num_folds: int) -> Table:
    """One line for each trial, in the order given."""
    keys = list(trials[0].changes) if trials else []
    table = Table(box=None, header_style="bold")
    for name in ("trial", "state", "folds", metric, *(_short(key) for key in keys)):
        table.add_column(name, justify="left" if name in ("trial", "state") else "right", overflow="fold")
    for trial in trials:
        mean = "-" if math.isnan(trial.mean) else f"{trial.mean:.3f}"
        values = [str(value)[:VALUE_CHARS] for value in trial.changes.values()]
        folds = f"{len(trial.folds)}/{num_folds}"
        table.add_row(trial.key, Text(trial.state, style=STYLES[trial.state]), folds, mean, *values)
    return table


def _short(key: str) -> str:
    """The last part of a key, such as `lr` of `streams.rgb.lr`."""
    return key.rpartition(".")[2]
