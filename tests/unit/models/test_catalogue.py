"""The list of models counts in parts what describing a whole model counts."""

import pytest
import torch

from kineflow.errors import ParamsError
from kineflow.models import catalogue
from kineflow.models.catalogue import NUM_CLASSES, count_backbones, describe_models, measure_ms_per_clip
from kineflow.models.describe import describe_model
from kineflow.models.registry import create_model
from kineflow.models.zoo import BACKBONES


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet18.none", {}),
        ("resnet18.nonlocal_concat", {"num_steps": 16}),
        ("tsm_resnet18.bert", {"max_steps": 16}),
        ("embedding.tcn", {}),
        ("pixels.gru", {}),
        ("r3d_mini.avg", {}),
    ],
)
def test_parts_add_up_to_the_whole(name: str, options: dict[str, int]) -> None:
    (entry,) = describe_models(name)
    channels, num_frames, height_px, width_px = entry.input_CTHW
    with torch.device("meta"):
        model = create_model(name, num_classes=NUM_CLASSES, in_channels=channels, task="clip", options=options)
    whole = describe_model(model, num_frames=num_frames, height_px=height_px, width_px=width_px)
    assert (entry.num_parameters, entry.macs) == (whole.num_parameters, whole.macs)


def test_a_name_is_a_model_a_backbone_a_pooling_or_a_pattern() -> None:
    assert [entry.name for entry in describe_models("pixels.gru")] == ["pixels.gru"]
    assert {entry.name.partition(".")[0] for entry in describe_models("pixels")} == {"pixels"}
    assert [entry.name for entry in describe_models("pixels.*lstm")] == ["pixels.lstm", "pixels.fc_lstm"]
    with pytest.raises(ParamsError, match=r"known: pixels\.gru"):
        describe_models("pixels.gruu")


def test_backbones_state_their_clip_and_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("resnet18", "tsm_resnet50", "tsm_resnet50_online", "x3d_s", "slowfast_50")
    monkeypatch.setattr(catalogue, "BACKBONES", [spec for spec in BACKBONES if spec.name in names])
    entries = {entry.name: entry for entry in count_backbones()}
    reach = {name: entry.receptive_frames for name, entry in entries.items()}
    assert entries["x3d_s"].input_CTHW == (3, 13, 160, 160)
    assert entries["slowfast_50"].maps_BDTHW == (1, 2304, 8, 7, 7)
    assert (reach["resnet18"], reach["tsm_resnet50"], reach["tsm_resnet50_online"]) == (1, 33, 17)


def test_a_measured_model_takes_time() -> None:
    (entry,) = describe_models("embedding.lstm")
    assert measure_ms_per_clip(entry, num_runs=2) > 0
    assert entry.input_CTHW == (512, 16, 1, 1)
