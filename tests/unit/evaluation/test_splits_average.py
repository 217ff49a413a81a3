"""Means over splits, against a published one and by hand; and what is no mean."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from kineflow.cli import app
from kineflow.errors import DataError
from kineflow.evaluation.splits_average import read_test_scores


def write(folder: Path, name: str, top1: float | None, **changes: Any) -> Path:
    path = folder / f"{name}.json"
    metrics: dict[str, Any] = {"task": "clip", "labels": "exclusive", "classes": ["a", "b"]}
    metrics["test"] = {"rgb": {"video_top1_acc": top1}}
    path.write_text(json.dumps(metrics | changes))
    return path


def test_the_mean_of_the_splits_is_the_published_one(tmp_path: Path) -> None:
    """R(2+1)D with BERT on HMDB-51, table C.3 of the BERT thesis: 84.77, 84.18 and 83.01 are 83.99 in the mean."""
    files = [write(tmp_path, str(i), top1) for i, top1 in enumerate((0.8477, 0.8418, 0.8301), start=1)]
    found = read_test_scores(files)["rgb"]["video_top1_acc"]
    assert round(found.mean, 4) == 0.8399
    assert found.folds == (0.8477, 0.8418, 0.8301)
    # deviations of 0.007833, 0.001933 and -0.009767; their squares sum to 0.00016047
    assert found.std == pytest.approx((0.00016047 / 3) ** 0.5, rel=1e-4)


def test_the_command_prints_every_split_and_the_mean(tmp_path: Path) -> None:
    files = [str(write(tmp_path, f"split{i}", top1)) for i, top1 in enumerate((0.5, 0.7, None), start=1)]
    done = CliRunner().invoke(app, ["average", *files])
    assert done.exit_code == 0, done.output
    header, row = (line.split() for line in done.output.splitlines())
    assert header == ["stream", "metric", "split1", "split2", "split3", "mean", "std"]
    assert row == ["rgb", "video_top1_acc", "0.5000", "0.7000", "-", "0.6000", "0.1000"]  # of those that have a value


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test": None}, "has no test scores"),
        ({"classes": ["a", "c"]}, "has other classes than"),
        ({"task": "frame"}, "has other task than"),
        ({"test": {"flow": {"video_top1_acc": 1.0}}}, "has other streams or metrics than"),
    ],
)
def test_runs_that_do_not_belong_together_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    files = [write(tmp_path, "one", 0.5), write(tmp_path, "other", 0.6, **changes)]
    with pytest.raises(DataError, match=rf"other\.json {message}"):
        read_test_scores(files)


def test_one_run_and_other_files_are_refused(tmp_path: Path) -> None:
    one = write(tmp_path, "one", 0.5)
    for files in ([one], [one, one]):
        with pytest.raises(DataError, match="a mean needs two runs at least, each once"):
            read_test_scores(files)
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(DataError, match=r"list\.json is no metrics\.json"):
        read_test_scores([one, tmp_path / "list.json"])
    with pytest.raises(DataError, match=r"gone\.json cannot be read as JSON"):
        read_test_scores([one, tmp_path / "gone.json"])
