"""Params with other values, and patches: applied, written into the text, read back."""

from pathlib import Path

import pytest
import yaml

from kineflow.errors import ParamsError
from kineflow.params import load_params
from kineflow.setup.presets import write_changes
from kineflow.stages.changed_params import in_text, read_patch, with_changes, write_patch

CHANGES = {
    "streams.rgb.lr": 0.00123,
    "streams.rgb.options.num_layers": 2,
    "streams.rgb.options.bidirectional": True,
    "train.ema_decay": None,
}


def test_changes_change_what_they_name_and_nothing_else(repository: Path) -> None:
    params = load_params(repository / "params" / "tiny.yaml")
    changed = with_changes(params, CHANGES, where="test")
    assert changed.streams.rgb.lr == 0.00123
    assert changed.streams.rgb.options == {"num_layers": 2, "bidirectional": True}
    back = {"streams.rgb.lr": params.streams.rgb.lr, "streams.rgb.options": {}, "train.ema_decay": None}
    assert with_changes(changed, back, where="test") == params


def test_a_patch_is_written_into_params_with_their_comments_kept(repository: Path, tmp_path: Path) -> None:
    text = (repository / "params" / "tiny.yaml").read_text().replace("    lr: 0.002\n", "    lr: 0.002  # mine\n", 1)
    path = tmp_path / "params.yaml"
    path.write_text(text)
    params = load_params(path)
    write_changes(path, in_text(params, CHANGES))
    assert load_params(path) == with_changes(params, CHANGES, where="test")
    assert "    lr: 0.00123  # mine\n" in path.read_text() and path.read_text().startswith(text.splitlines()[0])


def test_an_impossible_change_leaves_the_file_alone(repository: Path, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text((repository / "params" / "tiny.yaml").read_text())
    before = path.read_text()
    with pytest.raises(ParamsError, match=r"streams\.rgb\.lr: input should be greater than 0"):
        write_changes(path, {"streams.rgb.lr": -1.0})
    assert path.read_text() == before


def test_a_patch_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "best.yaml"
    write_patch(path, CHANGES, comment="video_top1_acc 0.9")
    assert read_patch(path) == CHANGES and yaml.safe_load(path.read_text()) == CHANGES
    path.write_text("- a\n")
    with pytest.raises(ParamsError, match=r"a patch holds one line for each key"):
        read_patch(path)
    with pytest.raises(ParamsError, match="is no YAML file that can be read"):
        read_patch(tmp_path / "absent.yaml")
