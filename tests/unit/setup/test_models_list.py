"""`kineflow models` as a user runs it."""

import json

import pytest
from typer.testing import CliRunner

from kineflow.cli import app
from kineflow.errors import ParamsError
from kineflow.models import thesis


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["models", *arguments], env={"COLUMNS": "240"}, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_name_lists_its_models_for_programs() -> None:
    (row,) = json.loads(run("resnet18.conv_gru", "--json"))
    assert row["model"] == "resnet18.conv_gru"
    assert row["tasks"] == ["clip", "frame"]
    assert row["input_CTHW"] == [3, 16, 224, 224]
    assert row["params_M"] == pytest.approx(14.93, abs=0.01)  # Kalfaoglu 2020, Table 3.3
    assert row["options"] == {"hidden_dim": 196}
    assert "ms_per_clip" not in row


def test_a_backbone_lists_its_models_for_people() -> None:
    text = run("pixels")
    assert [line.split()[0] for line in text.splitlines()[1:] if line.startswith(" pixels")] == [
        "pixels.none",
        "pixels.avg",
        "pixels.lstm",
        "pixels.fc_lstm",
        "pixels.gru",
    ]
    assert "3x100x50x50" in text


def test_measuring_runs_the_model() -> None:
    (row,) = json.loads(run("embedding.gru", "--json", "--measure"))
    assert row["ms_per_clip"] > 0


def test_measuring_everything_is_refused() -> None:
    result = CliRunner().invoke(app, ["models", "--measure"])
    assert result.exit_code == 2
    assert "name some" in result.output


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ParamsError, match="unknown model 'resnet19'"):
        run("resnet19")


def test_the_thesis_prints_a_row_a_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thesis, "ROWS", thesis.ROWS[:2])
    rows = json.loads(run("--thesis", "--json"))
    assert [row["system"] for row in rows] == ["resnet18_2d none (single frame)", "resnet18_2d avg"]
    assert rows[0]["params_M"] == pytest.approx(11.2, rel=0.01)
    page = run("--thesis")
    assert page.startswith("# The systems of the theses\n")
    assert "2 of 2 rows that must agree do." in page
