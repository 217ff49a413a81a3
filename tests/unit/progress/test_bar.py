import pytest

from kineflow.progress.bar import Progress


def test_the_line_says_rate_and_time_left_by_weight() -> None:
    progress = Progress("frames", num_items=4, total_weight=10.0, unit="videos")
    progress.advance(2.0)
    # By hand: 2 of 10 in 30 s, so 120 s for the other 8.
    assert progress.line(30.0) == "frames: 1 of 4 videos, 0.0333/s, 0:02:00 left"


def test_the_time_left_is_told_from_the_present_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("kineflow.progress.bar.time.monotonic", lambda: now)
    progress = Progress("frames", num_items=4, total_weight=10.0, unit="videos")
    progress.advance(2.0)
    now = 30.0  # a start of other workers, which says nothing about the work
    progress.change_pace()
    progress.advance(4.0)
    # By hand: 4 of 10 in 2 s, so 2 s for the last 4.
    assert progress.line(32.0) == "frames: 2 of 4 videos, 0.5/s, 0:00:02 left"


@pytest.mark.parametrize("shown", [True, False])
def test_it_prints_only_where_it_is_to_be_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shown: bool
) -> None:
    now = 0.0
    monkeypatch.setattr("kineflow.progress.bar.time.monotonic", lambda: now)
    progress = Progress("frames", num_items=4, total_weight=4.0, unit="videos", shown=shown)
    now = 60.0
    progress.advance(1.0)
    progress.close()
    assert ("frames: 1 of 4 videos" in capsys.readouterr().out) == shown
