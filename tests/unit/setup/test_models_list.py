"""`kineflow models` as a user runs it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kineflow.cli import app
from kineflow.errors import ParamsError
from kineflow.models import catalogue, thesis
from kineflow.models.zoo import BACKBONES, POOLINGS


@pytest.fixture(scope="module", autouse=True)
def cache_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(home))
        yield home


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["models", *arguments], env={"COLUMNS": "240"}, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_name_lists_its_models_for_programs() -> None:
    (row,) = json.loads(run("resnet18.conv_gru", "--json"))
    assert row["model"] == "resnet18.conv_gru"
    assert row["tasks"] == ["clip", "frame"]
    assert row["input_CTHW"] == [3, 16, 224, 224]
    assert row["params_M"] == pytest.approx(14.93, abs=0.01)  # Kalfaoglu 2020, Table 3.3
    assert row["options"] == {"hidden_dim": 196}
    assert "ms_per_clip" not in row


def test_a_backbone_lists_its_models_for_people() -> None:
    lines = run("pixels").splitlines()
    assert lines[0].split() == ["model", "tasks", "params", "M", "MACs", "G", "source"]
    assert [line.split()[0] for line in lines[1:]] == [
        "pixels.none",
        "pixels.avg",
        "pixels.lstm",
        "pixels.fc_lstm",
        "pixels.gru",
    ]


def test_the_list_has_a_line_for_each_part_and_fits_80_columns() -> None:
    lines = run().splitlines()
    assert max(map(len, lines)) <= 80
    for part in (*BACKBONES, *POOLINGS):
        assert [line[:21].strip() for line in lines].count(part.name) == 1, part.name
    (line,) = (line for line in lines if line.startswith("swin3d_t "))
    assert line.split() == ["swin3d_t", "3x32x224x224", "27.85", "87.76", "192", "clip"]
    assert "On whole clips, with bert_late" in lines


def test_filters_leave_what_fits() -> None:
    text = run("--task", "frame", "--input", "3d", "--max-macs", "2", "--max-params", "1")
    names = {line.split()[0] for line in text.splitlines() if line}
    assert {spec.name for spec in BACKBONES} & names == {"r3d_mini", "r3d_tiny"}
    models = json.loads(run("x3d_*", "--json", "--task", "frame", "--max-macs", "1"))
    assert {model["model"].partition(".")[0] for model in models} == {"x3d_xs"}
    assert all("frame" in model["tasks"] for model in models)
    with pytest.raises(ParamsError, match="no model is like that"):
        run("--input", "3d", "--max-params", "0.1")


@pytest.mark.parametrize(
    ("option", "value", "known"), [("--task", "frames", "clip, frame"), ("--input", "4d", "2d, 3d, embedding")]
)
def test_filters_that_nothing_can_pass_are_refused(option: str, value: str, known: str) -> None:
    with pytest.raises(ParamsError, match=f"{option} {value}: known are {known}"):
        run(option, value)


@pytest.mark.parametrize("further", [["bert"], ["--task", "clip"]])
def test_the_systems_of_the_theses_are_not_filtered(further: list[str]) -> None:
    result = CliRunner().invoke(app, ["models", *further, "--thesis"])
    assert result.exit_code == 2
    assert "--thesis prints all systems" in " ".join(result.output.split())


def test_one_model_is_described_in_full() -> None:
    text = " ".join(run("resnet18.bert").split())
    for fact in (
        "resnet18.bert tasks clip, frame",
        "3x16x224x224",
        "14.36 M, with 51 classes",
        "29.07 G",
        "one frame in each time step",
        "left out, where it is told the clips' lengths",
        "by torch.export",
        "mask_prob=0.2, bert_dropout=0.9, summary=token",
        "He et al. 2016, Deep residual learning for image recognition; torchvision; Kalfaoglu 2020, 4.1.1 and 4.2.2",
    ):
        assert fact in text


def test_everything_is_listed_for_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    count = catalogue.describe_models
    monkeypatch.setattr(catalogue, "describe_models", lambda: count("avg_fc"))
    rows = json.loads(run("--json"))
    assert [row["model"] for row in rows] == ["x3d_xs.avg_fc", "x3d_s.avg_fc"]
    assert rows[0]["receptive_frames"] is None
    assert rows[0]["exports"] is True


def test_measuring_runs_the_model() -> None:
    (row,) = json.loads(run("embedding.gru", "--json", "--measure"))
    assert row["ms_per_clip"] > 0
    assert json.loads(run("embedding.gru", "--json")) == [row]  # what was measured stays known
    assert f"{row['ms_per_clip']:.1f} ms" in run("embedding.gru")


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
