"""Every model that promises it exports by torch.export, and then takes any number of clips and answers alike."""

import pytest
import torch

from kineflow.models.registry import ModelSpec, create_model, list_models
from kineflow.models.specs import Task
from kineflow.models.zoo import BACKBONES

BY_DEFAULT = ("resnet10_tiny", "tsm_resnet18_online", "embedding", "pixels", "r3d_mini", "r3d_18", "s3d", "i3d")


def every_case() -> list[object]:
    """Each backbone with its first pooling, for a pooling sees but its width; each pooling behind small backbones."""
    cases = []
    for spec in list_models():
        if not spec.exports:
            continue
        name, _, pooling = spec.name.partition(".")
        (backbone,) = (backbone for backbone in BACKBONES if backbone.name == name)
        first = "avg" if "avg" in backbone.poolings else backbone.poolings[0]
        if name not in ("resnet10_tiny", "r3d_mini") and pooling not in (first, "avg_fc"):
            continue
        marks = [] if name in BY_DEFAULT else [pytest.mark.soak]
        cases.append(pytest.param(spec, spec.tasks[-1], id=spec.name, marks=marks))
    return cases


@pytest.mark.filterwarnings("ignore:The tensor attributes self.pooling:UserWarning")  # torch's own LSTM and GRU
@pytest.mark.parametrize(("spec", "task"), every_case())
def test_an_exported_model_answers_alike(spec: ModelSpec, task: Task) -> None:
    torch.manual_seed(0)
    side_px = {"embedding": 1, "pixels": 50}.get(spec.name.partition(".")[0], 80 if "inception" in spec.name else 33)
    num_frames = 16 if spec.input == "3d" else 3
    options = {"num_steps": 4 if spec.input == "3d" else 3} if "num_steps" in spec.options else {}
    channels = 8 if spec.input == "embedding" else 2
    model = create_model(spec.name, num_classes=5, in_channels=channels, task=task, options=options).eval()
    clips_BCTHW = torch.randn(2, channels, num_frames, side_px, side_px)
    batch = torch.export.Dim("batch", min=1, max=64)
    exported = torch.export.export(model, (clips_BCTHW,), dynamic_shapes=({0: batch},), strict=False)
    other_BCTHW = torch.randn(5, channels, num_frames, side_px, side_px)
    with torch.no_grad():
        answer = exported.module()(other_BCTHW)
        torch.testing.assert_close(answer.logits, model(other_BCTHW).logits)
