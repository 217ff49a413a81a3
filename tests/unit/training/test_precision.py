"""Precision and memory layout: by what the machine has, which is imitated where it matters."""

import pytest
import torch
from torch import nn

from kineflow.models.registry import create_model
from kineflow.training import precision as by_machine
from kineflow.training.precision import Precision, choose_precision, lay_out


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


@pytest.mark.parametrize(
    ("units", "chosen", "why"),
    [
        ("AMX bf16 units", "bf16", "the processor has AMX bf16 units, fastest channels-last"),
        ("AVX512-BF16", "bf16", "the processor has AVX512-BF16, fastest channels-last"),
        (
            "",
            "fp32",
            "the processor has no bf16 units; 3D kernels are fastest contiguous, those in groups channels-last",
        ),
    ],
)
def test_a_processor_trains_in_bf16_where_it_has_units_for_it(
    units: str, chosen: Precision, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_machine, "cpu_bf16_units", lambda: units)
    assert choose_precision("auto", torch.device("cpu")) == (chosen, why)


@pytest.mark.parametrize(
    ("has_units", "chosen", "why"),
    [(True, "bf16", "Some GPU multiplies bf16, fastest channels-last"), (False, "fp32", "Some GPU has no bf16 units")],
)
def test_a_gpu_trains_in_bf16_where_it_has_units_for_it_and_not_by_emulation(
    has_units: bool, chosen: Precision, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_machine, "cpu_bf16_units", lambda: "" if has_units else "AMX bf16 units")
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: has_units or including_emulation
    )
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Some GPU")
    assert choose_precision("auto", torch.device("cuda")) == (chosen, why)


@pytest.mark.parametrize("wanted", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("units", ["AMX bf16 units", ""])
def test_a_given_precision_is_kept_whatever_the_machine_has(
    wanted: Precision, units: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_machine, "cpu_bf16_units", lambda: units)
    assert choose_precision(wanted, torch.device("cpu")) == (wanted, "as params say")
