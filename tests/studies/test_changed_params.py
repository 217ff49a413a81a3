"""Params with other values, and patches: applied, written into the text, read back."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from kineflow.errors import ParamsError
from kineflow.params import as_json, load_params
from kineflow.setup.presets import write_changes
from kineflow.studies.changed_params import check_keys, in_text, read_patch, with_changes, write_patch
from kineflow.studies.contenders import contenders

CHANGES = {
    "streams.rgb.lr": 0.00123,
    "streams.rgb.options.num_layers": 2,
    "streams.rgb.options.bidirectional": True,
    "train.ema_decay": None,
    "train.weight_decay": 1e-05,
}


def test_changes_change_what_they_name_and_nothing_else(repository: Path) -> None:
    params = load_params(repository / "params" / "tiny.yaml")
    changed = with_changes(params, CHANGES, where="test")
    assert changed.streams.rgb.lr == 0.00123
    assert changed.streams.rgb.options == {"num_layers": 2, "bidirectional": True}
    back = {"streams.rgb.lr": params.streams.rgb.lr, "streams.rgb.options": {}, "train.ema_decay": None}
    back["train.weight_decay"] = params.train.weight_decay
    assert with_changes(changed, back, where="test") == params


def test_a_whole_section_is_a_value_too(repository: Path) -> None:
    tiny = load_params(repository / "params" / "tiny.yaml")
    finetune = {"head_epochs": 1, "head_optimizer": "adamw", "head_lr": 0.001, "top_blocks": 2, "top_fraction": None}
    whole = {
        "streams.rgb.weights": "start.pth",
        "streams.rgb.finetune": finetune | {"blocks_lr_factor": 1.0, "lr_decay_per_block": 1.0},
        "streams.rgb.options": {"num_layers": 1, "num_heads": 2},
        "train.augment": as_json(tiny.train.augment) | {"flip": False},
    }
    params = with_changes(tiny, whole, where="test")
    assert params.streams.rgb.finetune is not None and params.streams.rgb.finetune.top_blocks == 2
    assert not params.train.augment.flip
    changes: dict[str, Any] = {
        "streams.rgb.weights": None,
        "streams.rgb.finetune": None,
    }  # of docs/how-to/pretrained.md
    changes |= {"streams.rgb.options": {"num_heads": 8}, "train.augment": as_json(tiny.train.augment)}
    changes |= {"streams.rgb.options.num_layers": 3, "streams.rgb.self_supervision": None, "train.ema_decay": 0.9}
    check_keys(params, changes, streams=["rgb"], where="test")
    changed = with_changes(params, changes, where="test").streams.rgb
    assert changed.finetune is None and changed.options == {"num_heads": 8, "num_layers": 3}
    assert changes["streams.rgb.options"] == {"num_heads": 8}  # as it was given


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("streams.rgb.finetune.top_block", "streams.rgb.finetune is null; write all of it as one value"),
        ("streams.rgb.lr.start", "there is no key 'streams.rgb.lr.start'; nearest: streams.rgb.lr"),
        ("streams.rgb", "streams.rgb is a section of many keys; name those that differ"),
        ("train", "train is a section of many keys"),
        ("streams.flow", "streams.flow is a section of many keys"),
        ("frames.roi", "frames.roi is settled before training"),
        ("streams.flow.finetune", "streams.flow.finetune is of another stream than rgb"),
    ],
)
def test_what_is_no_value_is_refused(repository: Path, key: str, message: str) -> None:
    params = load_params(repository / "params" / "tiny.yaml")
    with pytest.raises(ParamsError) as caught:
        check_keys(params, [key], streams=["rgb"], where="test")
        with_changes(params, {key: 1}, where="test")
    assert message in str(caught.value)


def test_options_for_all_join_the_default_options_of_a_model_and_give_way_to_a_patch(
    repository: Path, tmp_path: Path
) -> None:
    (tmp_path / "patch.yaml").write_text("streams.rgb.options: {}\n")
    params = load_params(repository / "params" / "tiny.yaml")
    names = ["rgb", "r3d_mini.bert", str(tmp_path / "patch.yaml")]
    found = contenders(params, names, "rgb", {"streams.rgb.options.num_heads": 2})
    options = [with_changes(params, one.changes, where=one.name).streams.rgb.options for one in found]
    assert options == [{"num_heads": 2}, {"num_heads": 2}, {}]


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
