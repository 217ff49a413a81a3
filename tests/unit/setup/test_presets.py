from pathlib import Path

import pytest
import yaml

from kineflow.errors import ParamsError
from kineflow.params import load_params
from kineflow.setup.presets import preset_names, preset_text, use_preset
from kineflow.setup.yaml_text import Change, change_values


@pytest.fixture(autouse=True)
def in_repository(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)


def test_writes_a_preset_as_shipped(tmp_path: Path) -> None:
    out = use_preset("sample", tmp_path / "params.yaml", {})
    assert out.read_text() == preset_text("sample")
    use_preset("tiny", out, {})  # an untouched preset is no loss
    assert out.read_text() == preset_text("tiny")


def test_overrides_keep_comments_and_everything_else(tmp_path: Path) -> None:
    out = use_preset("sample", tmp_path / "p.yaml", {"streams.rgb.epochs": "3", "sample": "null", "frames.fps": "12.5"})
    params = load_params(out)
    assert (params.streams.rgb.epochs, params.sample, params.frames.fps) == (3, None, 12.5)
    assert out.read_text().splitlines()[0] == preset_text("sample").splitlines()[0]
    before = yaml.safe_load(preset_text("sample"))
    before["streams"]["rgb"]["epochs"], before["sample"], before["frames"]["fps"] = 3, None, 12.5
    assert yaml.safe_load(out.read_text()) == before


def test_refuses_to_lose_changes(tmp_path: Path) -> None:
    out = use_preset("sample", tmp_path / "p.yaml", {"seed": "7"})
    with pytest.raises(ParamsError, match=r"p\.yaml exists and would be lost"):
        use_preset("sample", out, {})
    assert load_params(out).seed == 7
    use_preset("sample", out, {}, force=True)
    assert load_params(out).seed == 0


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("sampel", {}, "no preset 'sampel'; known: sample"),
        ("sample", {"train.batchsize": "3"}, "no key 'train.batchsize'; nearest: train.batch_size"),
        ("sample", {"train.batch_size": "many"}, r"train\.batch_size: input should be a valid integer"),
        ("sample", {"train.batch_size": "["}, "not a YAML value"),
    ],
)
def test_refuses(tmp_path: Path, name: str, overrides: dict[str, str], message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        use_preset(name, tmp_path / "p.yaml", overrides)
    assert not (tmp_path / "p.yaml").exists()


def test_every_preset_survives_a_change(tmp_path: Path) -> None:
    for name in preset_names():
        assert load_params(use_preset(name, tmp_path / f"{name}.yaml", {"seed": "5"})).seed == 5


def test_text_is_changed_where_the_key_is() -> None:
    text = "a:\n  x: 1  # one\n  b:\n    x: 2\nx: [1, 2]  # list\n"
    changed = change_values(text, [Change("a.b.x", "no"), Change("x", None, "gone"), Change("a.x", 5)], where="t")
    assert changed == "a:\n  x: 5  # one\n  b:\n    x: 'no'\nx: null  # gone\n"
    assert change_values(text, {"a": None}, where="t") == "a: null\nx: [1, 2]  # list\n"
