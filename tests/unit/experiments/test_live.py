"""What is shown while a search goes on: a table on a terminal, lines elsewhere, and how long it will take."""

from pathlib import Path

import pytest
from rich.console import Console

from kineflow.experiments import live
from kineflow.experiments.live import LiveTable
from kineflow.experiments.trial_worker import news_path
from kineflow.progress.fold_news import Teller
from tests.unit.experiments.samples import trial


def test_what_is_left_is_counted_in_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: now[0])
    table = LiveTable(metric="video_top1_acc", num_trials=5, num_folds=4, home=Path())
    assert table.left() == "0 of 5 trials"
    now[0] += 30.0
    table.fold_done(trial([0.5], "running", lr=0.1))
    assert table.left() == "0 of 5 trials, at most 0:09:30 left"  # 19 folds of 30 s
    table.trial_ended(trial([0.5], "pruned", lr=0.1))
    assert table.left() == "1 of 5 trials, at most 0:08:00 left"  # four trials of four folds


def test_elsewhere_than_on_a_terminal_it_prints_lines(capsys: pytest.CaptureFixture[str]) -> None:
    failed = trial([], "failed", lr=0.2)
    failed.reason = "no such model"
    with LiveTable(metric="video_top1_acc", num_trials=2, num_folds=2, home=Path()) as table:
        table.fold_done(trial([0.5, 0.7], "running", lr=0.1))
        table.trial_ended(trial([0.5, 0.7], lr=0.1))
        table.trial_ended(failed)
    first, second, third = capsys.readouterr().out.splitlines()
    assert "fold 2 of 2: video_top1_acc 0.700, mean 0.600" in first
    assert second.endswith("done: video_top1_acc 0.600 with lr 0.1")
    assert "failed (no such model)" in third


def lines_of(table: LiveTable, width: int) -> list[str]:
    console = Console(width=width, record=True)
    console.print(table.drawn(width))
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_the_table_shows_what_runs_first_and_then_the_best(tmp_path: Path) -> None:
    table = LiveTable(metric="video_top1_acc", num_trials=3, num_folds=2, home=tmp_path)
    for one in (trial([0.4, 0.4], rate=0.1), trial([0.9, 0.7], rate=0.25)):
        table.trial_ended(one)
    table.trial_began(trial([0.3], "running", rate=0.5))
    teller = Teller(news_path(tmp_path, {"rate": 0.5}), epochs=40, num_clips=12)
    teller.begin()
    teller.epoch_done(6, train_loss=0.5, val_loss=0.6, val_metric=0.3)
    lines = lines_of(table, 100)
    assert lines[0].split() == ["trial", "state", "folds", "epoch", "video_top1_acc", "rate", "loss", "val", "loss"]
    assert [line.split()[1:] for line in lines[1:4]] == [
        ["running", "1/2", "7/40", "0.300", "0.5", "0.500", "0.600"],
        ["done", "2/2", "0.800", "0.25"],
        ["done", "2/2", "0.400", "0.1"],
    ]
    teller.step_done(7, 0.0)
    teller.epoch_done(7, train_loss=0.4, val_loss=0.55, val_metric=0.3)
    lines = lines_of(table, 100)
    assert lines[0].endswith("clips/s") and lines[1].split()[6:8] == ["0.400", "0.550"]
    assert float(lines[1].split()[8]) > 0
    assert lines_of(table, 64)[0].split()[-2:] == ["rate", "loss"]  # what has no room is left out
    assert lines[4].startswith("2 of 3 trials") and len(lines) == 5


def test_on_80_columns_nothing_is_cut_and_what_has_no_room_is_named() -> None:
    values = {
        "streams.rgb.lr": 0.0001636,
        "streams.rgb.model": "resnet18.fc_lstm",
        "streams.rgb.options.representation_dim": 1024,
        "train.momentum": 0.9,
    }
    table = LiveTable(metric="video_macro_f1", num_trials=3, num_folds=4, home=Path())
    table.trial_ended(trial([0.4, 0.4], metric="video_macro_f1", **values))
    lines = lines_of(table, 80)
    assert max(map(len, lines)) <= 80 and len(lines) == 4
    assert lines[0].split() == ["trial", "state", "folds", "epoch", "video_macro_f1", "lr", "model"]
    assert lines[1].split()[-2:] == ["0.0001636", "resnet18.fc_lstm"]
    assert lines[3] == "no room for representation_dim, momentum; trials.csv will have all"
