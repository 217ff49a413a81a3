import hashlib
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from kineflow.errors import DataError
from kineflow.models.classifier import VideoClassifier
from kineflow.models.registry import create_model
from kineflow.models.weights import (
    adapt_input_channels,
    load_weights,
    read_state_dict,
    state_dict_sha256,
)
from kineflow.store import file_sha256

Tensors = dict[str, torch.Tensor]


def tiny(*, in_channels: int = 3, num_classes: int = 4, seed: int = 0) -> VideoClassifier:
    torch.manual_seed(seed)
    return create_model("resnet10_tiny.avg", num_classes=num_classes, in_channels=in_channels, task="clip")


def saved(path: Path, state: Tensors) -> str:
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return str(path)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_a_whole_checkpoint_fills_the_whole_model(tmp_path: Path, suffix: str) -> None:
    teacher, student = tiny(seed=1), tiny(seed=2)
    source = saved(tmp_path / f"whole{suffix}", teacher.state_dict())
    report = load_weights(student, source)
    assert state_dict_sha256(student.state_dict()) == state_dict_sha256(teacher.state_dict())
    assert set(report.matched) == set(student.state_dict())
    assert (report.adapted, report.dropped, report.unused, report.missing) == ((), (), (), ())
    assert report.sha256 == hashlib.sha256(Path(source).read_bytes()).hexdigest()


@pytest.mark.parametrize("prefix", ["module.", "module.model.", "_orig_mod.", "model."])
def test_wrappers_before_the_names_are_stripped(tmp_path: Path, prefix: str) -> None:
    teacher, student = tiny(seed=1), tiny(seed=2)
    state = {prefix + name: tensor for name, tensor in teacher.state_dict().items()}
    load_weights(student, saved(tmp_path / "wrapped.pt", state))
    assert state_dict_sha256(student.state_dict()) == state_dict_sha256(teacher.state_dict())


@pytest.mark.parametrize("prefix", ["", "backbone.", "network.", "module.backbone."])
def test_a_bare_backbone_fills_the_backbone(tmp_path: Path, prefix: str) -> None:
    teacher, student = tiny(seed=1), tiny(seed=2)
    state = {prefix + name: tensor for name, tensor in teacher.backbone.network.state_dict().items()}
    report = load_weights(student, saved(tmp_path / "backbone.pt", state))
    assert report.missing == ("head.classifier.weight", "head.classifier.bias")
    assert state_dict_sha256(student.backbone.state_dict()) == state_dict_sha256(teacher.backbone.state_dict())


@pytest.mark.parametrize("container", ["state_dict", "model", "model_state_dict"])
def test_a_checkpoint_with_more_around_the_tensors_loads(tmp_path: Path, container: str) -> None:
    teacher, student = tiny(seed=1), tiny(seed=2)
    path = tmp_path / "training.pt"
    torch.save({"epoch": 3, container: teacher.state_dict()}, path)
    assert load_weights(student, str(path)).missing == ()


def test_what_does_not_fit_is_named_and_left_alone(tmp_path: Path) -> None:
    teacher, student = tiny(num_classes=7, seed=1), tiny(num_classes=4, seed=2)
    state = {**teacher.state_dict(), "fc.weight": torch.zeros(2, 2)}
    del state["backbone.network.bn1.bias"]
    before = student.head.classifier.weight.detach().clone()
    report = load_weights(student, saved(tmp_path / "other.pt", state))
    assert report.dropped == (
        "head.classifier.weight: (7, 64) in the file, (4, 64) wanted",
        "head.classifier.bias: (7,) in the file, (4,) wanted",
    )
    assert report.unused == ("fc.weight",)
    assert report.missing == (
        "backbone.network.bn1.bias",
        "head.classifier.weight",
        "head.classifier.bias",
    )
    assert torch.equal(student.head.classifier.weight, before)
    assert "2 dropped for their shape, 1 unused, 3 of the model's new" in str(report)


def test_an_rgb_first_layer_is_averaged_for_flow(tmp_path: Path) -> None:
    teacher, student = tiny(in_channels=3, seed=1), tiny(in_channels=2, seed=2)
    report = load_weights(student, saved(tmp_path / "rgb.pt", teacher.state_dict()))
    assert report.adapted == ("backbone.network.conv1.weight",)
    assert report.dropped == ()
    rgb = teacher.backbone.network.conv1.weight
    mean = (rgb[:, 0] + rgb[:, 1] + rgb[:, 2]) / 3
    for channel in range(2):
        torch.testing.assert_close(student.backbone.network.conv1.weight[:, channel], mean)


def test_the_mean_rule_by_hand() -> None:
    weight = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [8.0, 0.0]]])  # one kernel, R, G and B of two taps
    expected = torch.tensor([[[4.0, 2.0]] * 5])
    torch.testing.assert_close(adapt_input_channels(weight, in_channels=5), expected)


def test_nothing_in_common_is_refused(tmp_path: Path) -> None:
    source = saved(tmp_path / "alien.pt", {"encoder.weight": torch.zeros(3)})
    with pytest.raises(DataError, match=r"none of its 1 tensors \(such as encoder.weight\) fits"):
        load_weights(tiny(), source)


class RunsOnLoad:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.mkdir, (str(self.path),))


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    trap = tmp_path / "made_by_the_checkpoint"
    path = tmp_path / "evil.pt"
    torch.save({"weight": torch.zeros(1), "extra": RunsOnLoad(trap)}, path)
    with pytest.raises(DataError, match="holds more than tensors"):
        load_weights(tiny(), str(path))
    assert not trap.exists()
    path.write_bytes(pickle.dumps(RunsOnLoad(trap)))
    with pytest.raises(DataError):
        load_weights(tiny(), str(path))
    assert not trap.exists()


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_damaged_file_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cut{suffix}"
    saved(path, tiny().state_dict())
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"cut\.\w+: "):
        read_state_dict(path)
    path.write_bytes(b"")
    with pytest.raises(DataError):
        read_state_dict(path)


@pytest.mark.parametrize("content", ["<!DOCTYPE html>", "version https://git-lfs.github.com/spec/v1\noid sha256:0"])
def test_what_came_in_place_of_a_checkpoint_is_not_taken_for_code(tmp_path: Path, content: str) -> None:
    path = tmp_path / "page.pth"
    path.write_text(content)
    with pytest.raises(DataError, match="not a checkpoint"):
        read_state_dict(path)


def test_changed_values_are_found_by_the_archives_checksum(tmp_path: Path) -> None:
    path = tmp_path / "changed.pth"
    saved(path, {"kernel": torch.zeros(1000)})
    content = bytearray(path.read_bytes())
    content[content.index(bytes(4000)) + 2000] = 1
    path.write_bytes(content)
    assert torch.load(path, weights_only=True)["kernel"].any()  # torch reads it
    with pytest.raises(DataError, match=r"damaged, the checksum of its part .*data/0 does not match"):
        read_state_dict(path)


def test_the_older_format_is_read(tmp_path: Path) -> None:
    torch.save({"kernel": torch.ones(2)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert read_state_dict(tmp_path / "old.pth")["kernel"].tolist() == [1, 1]


def test_a_file_without_tensors_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plain.pt"
    torch.save({"epoch": 3}, path)
    with pytest.raises(DataError, match="holds no named tensors"):
        read_state_dict(path)


def test_digests_follow_content_not_layout(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert file_sha256(tmp_path / "abc").startswith("ba7816bf8f01cfea")  # FIPS 180-2, B.1
    kernel = torch.randn(2, 3, 4, 4)
    state = {"a": kernel, "b": torch.tensor(3)}
    same = {"b": torch.tensor(3), "a": kernel.to(memory_format=torch.channels_last)}
    assert state_dict_sha256(state) == state_dict_sha256(same)
    for other in (
        {**state, "b": torch.tensor(4)},
        {**state, "b": torch.tensor(3.0)},
        {"a": kernel.reshape(3, 2, 4, 4), "b": state["b"]},
        {"c": kernel, "b": state["b"]},
    ):
        assert state_dict_sha256(state) != state_dict_sha256(other)


def test_a_checkpoint_of_a_training_that_broke_down_is_refused(tmp_path: Path) -> None:
    model, state = tiny(seed=2), tiny(seed=1).state_dict()
    before = state_dict_sha256(model.state_dict())
    state["head.classifier.bias"] = torch.tensor([0.0, float("nan"), 0.0, 0.0])
    with pytest.raises(DataError, match=r"1 of its tensors hold numbers that are not finite, the first fills head"):
        load_weights(model, saved(tmp_path / "broken.pt", state))
    assert state_dict_sha256(model.state_dict()) == before
