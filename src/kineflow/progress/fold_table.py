"""Trainings as they go on: a table that is redrawn on a terminal, and now and then a line elsewhere."""

import math
import sys
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from kineflow.progress.bar import clock
from kineflow.progress.fold_news import News, read_news

if TYPE_CHECKING:
    from rich.console import Group
    from rich.live import Live
    from rich.progress_bar import ProgressBar
    from rich.table import Table

REDRAW_SEC = 2.0
FIRST_LINE_SEC, LINES_SEC = 10.0, 120.0  # lines come ever more seldom, in between
MAX_ROWS = 24
BAR_WIDTH = 24  # characters
RUNNING = ("pretraining", "training", "resumed")  # states of what tells how far it is
SHORT = {"accuracy": "acc", "macro-F1": "F1", "macro_f1": "F1", "average_precision": "AP", "top1_top3": "1+3"}
STYLES = {**dict.fromkeys(RUNNING, "cyan"), "starting": "yellow", "done": "green", "stored": "dim"}


@dataclass(frozen=True)
class Training:
    """What is to be shown of a training before it tells anything itself.

    Args:
        key: names its file of news.
        name: for people, such as `rgb fold 2`.
        pretrain_epochs: before these epochs.
    """

    key: str
    name: str
    epochs: int
    num_clips: int
    pretrain_epochs: int = 0


class FoldTable:
    """Shows trainings for the block; whoever carries them out need only say which is done.

    Args:
        label: at the beginning of each line, such as `train@rgb`.
        folder: of the files of news, `<key>.json`.
        metric: what `val_metric` is; None for trainings that have neither epochs nor losses.
        stored: keys of the trainings that were there before.
    """

    def __init__(
        self,
        label: str,
        trainings: Sequence[Training],
        folder: Path,
        *,
        metric: str | None,
        stored: Collection[str] = (),
    ) -> None:
        self._label = label
        self._trainings = {training.key: training for training in trainings}
        self._folder = folder
        self._metric = metric
        self._stored = set(stored)
        self._done: dict[str, News | None] = {}
        self._live: Live | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="fold-table", daemon=True)

    def __enter__(self) -> Self:
        if sys.stdout.isatty():
            from rich.live import Live

            self._live = Live(self.drawn(), auto_refresh=False)
            self._live.start(refresh=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        if self._live is not None:
            self._live.update(self.drawn(), refresh=True)
            self._live.stop()

    def done(self, key: str) -> str:
        """A training is done; what is to be said of it."""
        self._done[key] = self.news(key)
        num_wanted = len(self._trainings) - len(self._stored)
        return f"{self.line(key)} - done ({len(self._done)} of {num_wanted})"

    def news(self, key: str) -> News | None:
        """What a training told last; None before it began."""
        return self._done[key] if key in self._done else read_news(self._folder / f"{key}.json")

    def state(self, key: str) -> str:
        """`stored` (trained before), `waiting`, `starting`, one of `RUNNING` (`resumed` trains too) or `done`."""
        if key in self._stored:
            return "stored"
        if key in self._done:
            return "done"
        news = self.news(key)
        if news is None:
            return "waiting"
        if news.position == 0:
            return "starting"
        if news.is_pretraining:
            return "pretraining"
        return "resumed" if news.resumed_at else "training"

    def line(self, key: str) -> str:
        """A training in one line."""
        name, news = self._trainings[key].name, self.news(key)
        if news is None or (self._metric is not None and math.isnan(news.train_loss)):
            return f"{name}: {self.state(key)}"
        parts = ["pretraining"] if news.is_pretraining else []
        parts += [f"resumed after epoch {news.resumed_at}"] if news.resumed_at else []
        if self._metric is None:
            parts += [f"{news.position / news.epochs:.0%}"]
        else:
            parts += [f"epoch {news.epoch + 1}/{news.epochs}", f"loss {news.train_loss:.3f}"]
        if not math.isnan(news.val_loss):
            parts += [f"val loss {news.val_loss:.3f}", f"val {self._metric} {news.val_metric:.3f}"]
        if news.num_pieces > 1:
            parts += [f"batches in {news.num_pieces} pieces, as memory is short"]
        if key not in self._done and news.clips_per_sec is not None and news.left_sec is not None:
            parts += [f"{news.clips_per_sec:.3g} clips/s", f"{clock(news.left_sec)} left"]
        return f"{name}: {', '.join(parts)}"

    def overview(self) -> str:
        """How many are done, how fast it goes in all, and the time left if none stops early."""
        states = {key: self.state(key) for key in self._trainings}
        running = {key: self.news(key) for key, state in states.items() if state in RUNNING}
        num_done = sum(state in ("done", "stored") for state in states.values())
        text = f"{num_done} of {len(states)} done"
        pace = sum(news.clips_per_sec or 0.0 for news in running.values() if news)
        if not pace:
            return text
        waiting = [self._trainings[key] for key, state in states.items() if state in ("waiting", "starting")]
        clips_left = sum(news.clips_left for news in running.values() if news)
        clips_left += sum((each.epochs + each.pretrain_epochs) * each.num_clips for each in waiting)
        longest_sec = max(news.left_sec or 0.0 for news in running.values() if news)
        return f"{text}, {pace:.3g} clips/s, at most {clock(max(clips_left / pace, longest_sec))} left"

    def drawn(self) -> "Group":
        """The table, and the line under it."""
        from rich.console import Group
        from rich.text import Text

        return Group(self._table(), Text(self.overview(), style="dim"))

    def _table(self) -> "Table":
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, header_style="bold", pad_edge=False)
        scores = ["progress", ""]
        if self._metric is not None:
            scores = ["epoch", "loss", "val loss", f"val {SHORT.get(self._metric, self._metric)}"]
        table.add_column(self._label)  # the one that is wrapped where the terminal is narrow
        for name in ("state", *scores, "clips/s", "left"):
            table.add_column(name, justify="left" if name == "state" else "right", no_wrap=True)
        shown = self._shown()
        for key in shown:
            state, news = self.state(key), self.news(key)
            name = self._trainings[key].name
            is_done = state in ("done", "stored")
            epochs = self._trainings[key].epochs
            far = _scores(news, epochs) if self._metric is not None else _bar(news, is_done=is_done)
            table.add_row(name, Text(state, style=STYLES.get(state, "")), *far, *_pace(news, is_done=is_done))
        if len(shown) < len(self._trainings):
            table.add_row(f"and {len(self._trainings) - len(shown)} more")
        return table

    def _shown(self) -> list[str]:
        """The keys of the rows, in order; of many, those that are trained, then those that are next."""
        order = {**dict.fromkeys(RUNNING, 0), "starting": 0, "waiting": 1, "done": 2, "stored": 3}
        first = sorted(self._trainings, key=lambda key: order[self.state(key)])[:MAX_ROWS]
        return [key for key in self._trainings if key in first]

    def _watch(self) -> None:
        if self._live is not None:
            while not self._over.wait(REDRAW_SEC):
                self._live.update(self.drawn(), refresh=True)
            return
        pause_sec = FIRST_LINE_SEC
        while not self._over.wait(pause_sec):
            pause_sec = min(2 * pause_sec, LINES_SEC)
            for key in self._trainings:
                if self.state(key) in RUNNING:
                    print(f"{self._label}: {self.line(key)}", flush=True)
            print(f"{self._label}: {self.overview()}", flush=True)


def _scores(news: News | None, epochs: int) -> list[str]:
    """From `epoch` to the validation metric."""
    if news is None:
        return [f"-/{epochs}", *"---"]
    numbers = (news.train_loss, news.val_loss, news.val_metric)
    return [f"{news.epoch + 1}/{news.epochs}", *(f"{value:.3f}" if math.isfinite(value) else "-" for value in numbers)]


def _bar(news: News | None, *, is_done: bool) -> tuple["ProgressBar", str]:
    """What is done of a training, drawn and in numbers."""
    from rich.progress_bar import ProgressBar

    share = 1.0 if is_done else news.position / news.epochs if news else 0.0
    return ProgressBar(total=1.0, completed=share, width=BAR_WIDTH), f"{share:.0%}"


def _pace(news: News | None, *, is_done: bool) -> list[str]:
    """`clips/s` and `left`."""
    if news is None:
        return ["-", "-"]
    pace = "-" if news.clips_per_sec is None else f"{news.clips_per_sec:.3g}"
    return [pace, "-" if is_done or news.left_sec is None else clock(news.left_sec)]
