import pytest
import torch
from torch import nn

from kineflow.models.registry import create_model
from kineflow.training.precision import Precision, lay_out


@pytest.mark.parametrize(
    ("device", "precision", "everywhere"),
    [("cpu", "fp32", False), ("cpu", "bf16", True), ("cuda", "fp32", True), ("cuda", "bf16", True)],
)
def test_kernels_are_laid_out_by_device_and_precision_whatever_the_machine_has(
    device: str, precision: Precision, everywhere: bool
) -> None:
    model = create_model("r3d_mini.avg", num_classes=2, in_channels=3, task="clip")
    laid_out = {
        module.weight.is_contiguous(memory_format=torch.channels_last_3d)
        for module in lay_out(model, torch.device(device), precision).modules()
        if isinstance(module, nn.Conv3d) and module.weight[0, 0].numel() > 1
    }
    assert laid_out == {everywhere}
