"""A search as it goes on: a table that is redrawn on a terminal, and a line for each fold elsewhere."""

import math
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from kineflow.experiments.pages import shown_value
from kineflow.experiments.trial_worker import news_path
from kineflow.experiments.trials import Trial, ranked
from kineflow.experiments.tuning import Listener
from kineflow.progress.bar import clock
from kineflow.progress.fold_news import News, read_news

MAX_ROWS = 20
GAP = 2  # characters between columns
STYLES = {"running": "cyan", "done": "green", "pruned": "dim", "failed": "red"}


class LiveTable(Listener):
    """Shows trials, folds, the metric so far, and how long it will take at the present pace.

    Args:
        num_trials: that there will be, as far as is known.
        num_folds: of a trial that is not pruned.
        home: where running trials tell how far their fold is.
    """

    def __init__(self, *, metric: str, num_trials: int, num_folds: int, home: Path) -> None:
        self._metric = metric
        self._num_trials = num_trials
        self._num_folds = num_folds
        self._home = home
        self._trials: dict[str, Trial] = {}
        self._num_trained = 0
        self._started = time.monotonic()
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if sys.stdout.isatty():
            console = Console()
            self._live = Live(console=console, refresh_per_second=4, get_renderable=lambda: self.drawn(console.width))
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def trial_began(self, trial: Trial) -> None:
        self._trials[trial.key] = trial

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
        trials = list(self._trials.values())  # another thread may add one meanwhile
        ended = sum(trial.state != "running" for trial in trials)
        counts = f"{ended} of {self._num_trials} trials"
        open_folds = (self._num_trials - ended) * self._num_folds
        open_folds -= sum(len(trial.folds) for trial in trials if trial.state == "running")
        if not self._num_trained or open_folds <= 0:
            return counts
        left_sec = (time.monotonic() - self._started) / self._num_trained * open_folds
        return f"{counts}, at most {clock(left_sec)} left"

    def drawn(self, width: int) -> Group:
        """The table of the trials that run, then of the best, in so many characters, and the line under it."""
        by_rank = ranked(list(self._trials.values()))
        running = [trial for trial in by_rank if trial.state == "running"]
        shown = [*running, *(trial for trial in by_rank if trial.state != "running")][:MAX_ROWS]
        news = [self._news(trial) for trial in shown]
        table, hidden = trial_table(shown, news, self._metric, self._num_folds, width)
        lines = [self.left()]
        if hidden:
            lines.append(f"no room for {', '.join(map(_short, hidden))}; trials.csv will have all")
        return Group(table, *(Text(line, style="dim") for line in lines))

    def _news(self, trial: Trial) -> News | None:
        """Of the fold that is trained now."""
        return read_news(news_path(self._home, trial.changes)) if trial.state == "running" else None


def trial_table(
    trials: Sequence[Trial], news: Sequence[News | None], metric: str, num_folds: int, width: int
) -> tuple[Table, list[str]]:
    """One line for each trial, in the order given, and the keys that there is no room for in `width` characters.

    Args:
        news: of the fold that a trial trains now; None where there is none. Losses and pace are shown if there is room.
    """
    columns: dict[str, Sequence[str]] = {
        "trial": [trial.key for trial in trials],
        "state": [trial.state for trial in trials],
        "folds": [f"{len(trial.folds)}/{num_folds}" for trial in trials],
        "epoch": ["" if told is None else f"{told.epoch + 1}/{told.epochs}" for told in news],
        metric: ["-" if math.isnan(trial.mean) else f"{trial.mean:.3f}" for trial in trials],
    }
    keys = list(trials[0].changes) if trials else []
    room = width - sum(_width(name, cells) for name, cells in columns.items())
    hidden = []
    for key in keys:
        cells = [shown_value(trial.changes[key]) for trial in trials]
        if _width(_short(key), cells) <= room:
            columns[key] = cells
            room -= _width(_short(key), cells)
        else:
            hidden.append(key)
    for name, numbers in _extras(news):
        cells = [
            f"{number:{'.0f' if name == 'clips/s' else '.3f'}}" if math.isfinite(number) else "" for number in numbers
        ]
        if any(cells) and not hidden and _width(name, cells) <= room:
            columns[name] = cells
            room -= _width(name, cells)
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, GAP, 0, 0))
    for name in columns:
        table.add_column(_short(name), justify="left" if name in ("trial", "state") else "right", no_wrap=True)
    for trial, (key, _, *others) in zip(trials, zip(*columns.values(), strict=True), strict=True):
        table.add_row(key, Text(trial.state, style=STYLES[trial.state]), *others)
    return table, hidden


def _extras(news: Sequence[News | None]) -> Iterator[tuple[str, list[float]]]:
    """What else is known of the folds that are trained now; nan where it is not."""
    yield "loss", [math.nan if told is None else told.train_loss for told in news]
    yield "val loss", [math.nan if told is None else told.val_loss for told in news]
    yield "clips/s", [math.nan if told is None else told.clips_per_sec or math.nan for told in news]


def _width(name: str, cells: Sequence[str]) -> int:
    """Of a column, with the gap behind it."""
    return max(len(text) for text in (_short(name), *cells)) + GAP


def _short(key: str) -> str:
    """The last part of a key, such as `lr` of `streams.rgb.lr`."""
    return key.rpartition(".")[2]
