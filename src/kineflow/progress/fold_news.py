"""What a training tells of itself while it goes on: a small file that its worker writes and the driver reads."""

import json
import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from kineflow.atomic import write_text

TELL_SEC = 0.5


@dataclass(frozen=True)
class News:
    """How far a training is.

    Args:
        epochs: that there will be at most.
        num_clips: that an epoch shows.
        epoch: the last finished one, from 0; -1 before the first.
        position: epochs that are done, with the share of the present one.
        train_loss, val_loss, val_metric: of the last epoch that has them; nan before.
        clips_per_sec: that were trained on since this process began to, validation included; None where not yet known.
        resumed_at: epochs that an earlier process had finished.
        num_pieces: that each batch comes in, where memory has no room for it as a whole; else 1.
        is_pretraining: it is still before its first epoch of classification, in epochs of another kind.
        clips_after: that are to be shown after these epochs.
    """

    epochs: int
    num_clips: int
    epoch: int = -1
    position: float = 0.0
    train_loss: float = math.nan
    val_loss: float = math.nan
    val_metric: float = math.nan
    clips_per_sec: float | None = None
    resumed_at: int = 0
    num_pieces: int = 1
    is_pretraining: bool = False
    clips_after: int = 0

    @property
    def clips_left(self) -> float:
        """That are to be shown still, if nothing stops the training early."""
        return (self.epochs - self.position) * self.num_clips + self.clips_after

    @property
    def left_sec(self) -> float | None:
        """The time left at the present pace; None where that is not yet known."""
        return self.clips_left / self.clips_per_sec if self.clips_per_sec else None


class Teller:
    """Writes the news of one training to `path`; cheap enough to be told of every step."""

    def __init__(self, path: Path, *, epochs: int, num_clips: int) -> None:
        self._path = path
        self._news = self._at_first = News(epochs, num_clips)
        self._began: tuple[float, float] | None = None  # time and position when the pace began
        self._told = -math.inf

    def begin(self) -> None:
        """Say that the training has a process now."""
        self._write()

    def pretrain_step_done(self, position: float, epochs: int, loss: float) -> None:
        """A step before the classification is done, and so many of so many epochs; nan before the first loss."""
        now = time.monotonic()
        if self._began is None:
            self._began = (now, position)
            after = self._at_first.epochs * self._at_first.num_clips
            self._news = replace(self._at_first, epochs=epochs, is_pretraining=True, clips_after=after)
        elif now - self._told < TELL_SEC:
            return
        self._news = replace(self._news, epoch=int(position) - 1, train_loss=loss)
        self._move(now, position)
        self._write()

    def step_done(self, epoch: int, share: float) -> None:
        """An optimizer step is done, and with it this share of an epoch (from 0)."""
        now = time.monotonic()
        if self._news.is_pretraining:
            self._news, self._began = self._at_first, None
        if self._began is None:  # what came before was the start: compilation, the first decoding
            self._began = (now, epoch + share)
            self._news = replace(self._news, epoch=epoch - 1, resumed_at=epoch, position=epoch + share)
        elif now - self._told < TELL_SEC:
            return
        self._move(now, epoch + share)
        self._write()

    def epoch_done(
        self, epoch: int, *, train_loss: float, val_loss: float, val_metric: float, num_pieces: int = 1
    ) -> None:
        """An epoch (from 0) is done; nan for what was not measured in it."""
        self._news = replace(self._news, epoch=epoch, train_loss=train_loss, num_pieces=num_pieces)
        if not math.isnan(val_loss):  # else the last validation stays
            self._news = replace(self._news, val_loss=val_loss, val_metric=val_metric)
        self._move(time.monotonic(), epoch + 1.0)
        self._write()

    def _move(self, now: float, position: float) -> None:
        began_sec, began_at = self._began or (now, position)
        if position > began_at:
            pace = (position - began_at) * self._news.num_clips / max(now - began_sec, 1e-6)
            self._news = replace(self._news, clips_per_sec=pace)
        self._news = replace(self._news, position=position)

    def _write(self) -> None:
        self._told = time.monotonic()
        write_text(self._path, json.dumps(asdict(self._news)))


def read_news(path: Path) -> News | None:
    """What a training told last; None before it began."""
    try:
        return News(**json.loads(path.read_text()))
    except (OSError, ValueError):
        return None
