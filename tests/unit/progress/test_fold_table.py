"""What is shown while trainings go on: on a terminal a table, elsewhere lines; from the news that workers leave."""

import math
import time
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from kineflow.progress import fold_news, fold_table
from kineflow.progress.fold_news import Teller, read_news
from kineflow.progress.fold_table import FoldTable, Training


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that tests set by hand."""
    clock = [1000.0]
    monkeypatch.setattr(fold_news.time, "monotonic", lambda: clock[0])
    return clock


def teller(folder: Path, key: str, *, epochs: int = 10, num_clips: int = 40) -> Teller:
    made = Teller(folder / f"{key}.json", epochs=epochs, num_clips=num_clips)
    made.begin()
    return made


def table(folder: Path, *keys: str, stored: tuple[str, ...] = ()) -> FoldTable:
    trainings = [Training(key, f"rgb {key}", 10, 40) for key in (*stored, *keys)]
    return FoldTable("train@rgb", trainings, folder, metric="accuracy", stored=stored)


def drawn(shown: FoldTable, *, width: int = 120) -> list[list[str]]:
    console = Console(width=width, record=True, file=StringIO())
    console.print(shown.drawn())
    return [line.split() for line in console.export_text().splitlines()]


def test_the_pace_is_that_since_the_first_step_of_this_process(tmp_path: Path, now: list[float]) -> None:
    path = tmp_path / "a.json"
    assert read_news(path) is None
    told = teller(tmp_path, "a")
    now[0] += 60.0  # a start that tells nothing of the pace
    told.step_done(3, 0.25)  # three epochs were done by a process that was killed
    news = read_news(path)
    assert news is not None and news.clips_per_sec is None and (news.epoch, news.resumed_at) == (2, 3)
    now[0] += 4.0
    told.step_done(3, 0.75)
    news = read_news(path)
    assert news is not None and news.clips_per_sec == pytest.approx(0.5 * 40 / 4)
    assert news.left_sec == pytest.approx(6.25 * 40 / 5)
    now[0] += 6.0
    told.epoch_done(3, train_loss=0.5, val_loss=0.4, val_metric=0.9)
    told.epoch_done(4, train_loss=0.3, val_loss=math.nan, val_metric=math.nan)
    news = read_news(path)
    assert news is not None and (news.epoch, news.position) == (4, 5.0)
    assert (news.train_loss, news.val_loss, news.val_metric) == (0.3, 0.4, 0.9)  # the last validation stays
    assert news.clips_per_sec == pytest.approx(1.75 * 40 / 10)


def test_a_thousand_steps_are_told_of_in_a_few_writes(tmp_path: Path, now: list[float]) -> None:
    told, seen = teller(tmp_path, "a"), set()
    for step in range(1000):
        now[0] += 0.01
        told.step_done(0, (step + 1) / 1000)
        seen.add((tmp_path / "a.json").read_text())
    assert len(seen) == 20  # in ten seconds


def test_every_training_has_its_state_numbers_and_time(tmp_path: Path, now: list[float]) -> None:
    shown = table(tmp_path, "done", "going", "resumed", "begun", "next", stored=("old",))
    for key, epochs in (("done", 10), ("going", 2)):
        told = teller(tmp_path, key)
        for epoch in range(epochs):
            for share in (0.5, 1.0):
                told.step_done(epoch, share)
                now[0] += 1.0
            told.epoch_done(epoch, train_loss=0.5, val_loss=0.25, val_metric=0.75)
    told = teller(tmp_path, "resumed")
    told.step_done(8, 0.5)
    now[0] += 10.0
    told.epoch_done(8, train_loss=0.1, val_loss=math.nan, val_metric=math.nan)
    teller(tmp_path, "begun")
    assert shown.done("done").endswith("accuracy 0.750 - done (1 of 5)")
    (tmp_path / "done.json").unlink()
    header, *rows, overview = drawn(shown)
    assert " ".join(header) == "train@rgb state epoch loss val loss val acc clips/s left"
    pace = 1.5 * 40 / 4  # the first half of the first epoch is the start
    assert rows == [
        ["rgb", "old", "stored", "-/10", "-", "-", "-", "-", "-"],
        ["rgb", "done", "done", "10/10", "0.500", "0.250", "0.750", "19", "-"],
        ["rgb", "going", "training", "2/10", "0.500", "0.250", "0.750", f"{pace:.3g}", "0:00:21"],
        ["rgb", "resumed", "resumed", "9/10", "0.100", "-", "-", "2", "0:00:20"],
        ["rgb", "begun", "starting", "0/10", "-", "-", "-", "-", "-"],
        ["rgb", "next", "waiting", "-/10", "-", "-", "-", "-", "-"],
    ]
    # 8 + 1 epochs that were begun and 20 that were not, of 40 clips, at 15 + 2 clips/s
    assert " ".join(overview) == "2 of 6 done, 17 clips/s, at most 0:01:08 left"


def test_batches_that_memory_has_no_room_for_are_told_of(tmp_path: Path) -> None:
    shown, told = table(tmp_path, "a"), teller(tmp_path, "a")
    scores = {"train_loss": 0.5, "val_loss": 0.25, "val_metric": 0.75}
    told.epoch_done(0, **scores)
    assert "pieces" not in shown.line("a")
    told.epoch_done(1, **scores, num_pieces=4)
    assert "val accuracy 0.750, batches in 4 pieces, as memory is short" in shown.line("a")
    assert "batches in 4 pieces" in shown.done("a")


def test_before_the_classification_epochs_are_of_another_kind(tmp_path: Path, now: list[float]) -> None:
    trainings = [Training(key, f"rgb {key}", 10, 40, pretrain_epochs=20) for key in ("going", "next")]
    shown = FoldTable("train@rgb", trainings, tmp_path, metric="accuracy")
    told = teller(tmp_path, "going")
    for step in range(1, 7):  # two of an epoch
        told.pretrain_step_done(step / 2, 20, math.nan if step <= 2 else 4.5)
        now[0] += 1.0
    assert drawn(shown)[1][2:6] == ["pretraining", "3/20", "4.500", "-"]
    # 2.5 epochs in 5 s; 17 and 10 are left, and 30 of the other
    assert shown.line("going").endswith("pretraining, epoch 3/20, loss 4.500, 20 clips/s, 0:00:54 left")
    assert shown.overview() == "0 of 2 done, 20 clips/s, at most 0:01:54 left"
    told.step_done(0, 0.5)
    now[0] += 1.0
    told.epoch_done(0, train_loss=1.5, val_loss=math.nan, val_metric=math.nan)
    news = read_news(tmp_path / "going.json")
    assert news is not None and (news.epochs, news.position, news.clips_left) == (10, 1.0, 360)
    assert news.clips_per_sec == pytest.approx(20) and not news.is_pretraining and news.resumed_at == 0


@pytest.mark.parametrize("metric", ["top1_top3", "average_precision", "macro-F1"])
def test_nothing_is_cut_in_80_columns(tmp_path: Path, now: list[float], metric: str) -> None:
    trainings = [Training("a", "r3d_mini.bert student fold 10", 100, 4000, pretrain_epochs=100)]
    shown = FoldTable("distill", trainings, tmp_path, metric=metric)
    told = teller(tmp_path, "a", epochs=100, num_clips=4000)
    told.pretrain_step_done(99.0, 100, 4.5)
    now[0] += 400.0
    told.pretrain_step_done(100.0, 100, 4.5)
    rows = drawn(shown, width=80)
    assert "pretraining" in rows[1] and "11:06:40" in rows[1]
    told.step_done(99, 0.5)
    now[0] += 1000.0
    told.epoch_done(99, train_loss=-14.123, val_loss=1.783, val_metric=0.789)
    text = [word for row in drawn(shown, width=80) for word in row]
    assert {"100/100", "-14.123", "1.783", "0.789", "0:00:00"} <= set(text) and not [w for w in text if "…" in w]
    assert {"r3d_mini.bert", "student", "fold", "10"} <= set(text)  # the name is on two lines


def test_a_line_says_that_a_killed_training_goes_on(tmp_path: Path, now: list[float]) -> None:
    shown, told = table(tmp_path, "a"), teller(tmp_path, "a")
    told.step_done(8, 0.5)
    now[0] += 10.0
    told.epoch_done(8, train_loss=0.5, val_loss=math.nan, val_metric=math.nan)
    assert shown.line("a").startswith("rgb a: resumed after epoch 8, epoch 9/10, loss 0.500, ")
    assert shown.done("a").startswith("rgb a: resumed after epoch 8, epoch 9/10")


def test_of_many_trainings_those_that_run_are_shown(tmp_path: Path) -> None:
    keys = [f"k{index:02d}" for index in range(60)]
    shown = table(tmp_path, *keys)
    for key in keys[:30]:
        shown.done(key)
    for key in keys[50:52]:
        teller(tmp_path, key)
    names = [row[1] for row in drawn(shown)[1:-2]]
    assert len(names) == fold_table.MAX_ROWS and {"k50", "k51", "k30"} <= set(names) and names == sorted(names)
    assert drawn(shown)[-2] == ["and", "36", "more"]


def test_elsewhere_than_on_a_terminal_there_are_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fold_table, "FIRST_LINE_SEC", 0.05)
    told = teller(tmp_path, "a")
    told.step_done(0, 0.5)
    time.sleep(0.01)
    told.epoch_done(0, train_loss=0.5, val_loss=0.25, val_metric=0.75)
    with table(tmp_path, "a", "b"):
        time.sleep(0.3)
    out = capsys.readouterr().out
    first, second, *more = out.splitlines()
    assert first.startswith("train@rgb: rgb a: epoch 1/10, loss 0.500, val loss 0.250, val accuracy 0.750, ")
    assert first.endswith(" left") and second.startswith("train@rgb: 0 of 2 done, ")
    assert len(more) == 2 and "\x1b" not in out  # after 0.05 and 0.15 s, then after 0.35 s


def test_trainings_without_epochs_show_what_is_done_of_them(tmp_path: Path, now: list[float]) -> None:
    trainings = [Training(key, f"fv {key}", epochs=1, num_clips=40) for key in ("old", "going", "next")]
    shown = FoldTable("train@fv", trainings, tmp_path, metric=None, stored=("old",))
    told = teller(tmp_path, "going", epochs=1)
    told.step_done(0, 0.0)
    now[0] += 3.0
    told.step_done(0, 0.25)
    header, *rows, overview = drawn(shown)
    assert header == ["train@fv", "state", "progress", "clips/s", "left"]
    assert [[cell for cell in row if "━" not in cell] for row in rows] == [
        ["fv", "old", "stored", "100%", "-", "-"],
        ["fv", "going", "training", "25%", "3.33", "0:00:09"],
        ["fv", "next", "waiting", "0%", "-", "-"],
    ]
    assert shown.line("going") == "fv going: 25%, 3.33 clips/s, 0:00:09 left"
    assert " ".join(overview) == "1 of 3 done, 3.33 clips/s, at most 0:00:21 left"  # 30 + 40 clips
