"""Every pooling behind frames, and temporal shift, export by torch.export and then take any number of clips."""

import pytest
import torch

from kineflow.models.registry import ModelSpec, create_model, list_models
from kineflow.models.specs import Task

BY_DEFAULT = ("resnet10_tiny", "tsm_resnet18_online", "embedding", "pixels")


def every_case() -> list[object]:
    """The 2D and embedding models; behind full-size backbones with `avg` alone, for a pooling sees but their width."""
    cases = []
    for spec in list_models():
        backbone, pooling = spec.name.split(".")
        if spec.input == "3d" or (backbone != "resnet10_tiny" and pooling != "avg"):
            continue
        marks = [] if backbone in BY_DEFAULT else [pytest.mark.soak]
        cases.append(pytest.param(spec, spec.tasks[-1], id=spec.name, marks=marks))
    return cases


@pytest.mark.filterwarnings("ignore:The tensor attributes self.pooling:UserWarning")  # torch's own LSTM and GRU
@pytest.mark.parametrize(("spec", "task"), every_case())
def test_an_exported_model_answers_alike(spec: ModelSpec, task: Task) -> None:
    torch.manual_seed(0)
    side_px = {"embedding": 1, "pixels": 50}.get(spec.name.partition(".")[0], 80 if "inception" in spec.name else 32)
    options = {"num_steps": 3} if "num_steps" in spec.options else {}
    channels = 8 if spec.input == "embedding" else 2
    model = create_model(spec.name, num_classes=5, in_channels=channels, task=task, options=options).eval()
    clips_BCTHW = torch.randn(2, channels, 3, side_px, side_px)
    batch = torch.export.Dim("batch", min=1, max=64)
    exported = torch.export.export(model, (clips_BCTHW,), dynamic_shapes=({0: batch},), strict=False)
    other_BCTHW = torch.randn(5, channels, 3, side_px, side_px)
    with torch.no_grad():
        answer = exported.module()(other_BCTHW)
        torch.testing.assert_close(answer.logits, model(other_BCTHW).logits)
