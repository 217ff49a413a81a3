import platform
from pathlib import Path

import pytest
import torch
from torch import nn

from kineflow.models.layout import cpu_bf16_units, use_channels_last
from kineflow.models.registry import create_model


def laid_out(name: str, *, everywhere: bool) -> dict[bool, set[bool]]:
    """By whether a convolution has groups: whether the kernels of several channels are channels-last."""
    model = create_model(name, num_classes=2, in_channels=3, task="clip")
    found: dict[bool, set[bool]] = {}
    for module in use_channels_last(model, everywhere=everywhere).modules():
        if isinstance(module, nn.Conv3d) and module.weight.shape[1] > 1 and module.weight[0, 0].numel() > 1:
            is_last = module.weight.is_contiguous(memory_format=torch.channels_last_3d)
            found.setdefault(module.groups > 1, set()).add(is_last)
    return found


@pytest.mark.parametrize("everywhere", [True, False])
def test_elsewhere_only_kernels_in_groups_are_channels_last(everywhere: bool) -> None:
    assert laid_out("mfnet_3d.avg", everywhere=everywhere) == {False: {everywhere}, True: {True}}
    assert laid_out("r3d_mini.avg", everywhere=everywhere) == {False: {everywhere}}


@pytest.mark.parametrize("everywhere", [True, False])
def test_the_answer_stays(everywhere: bool) -> None:
    torch.manual_seed(0)
    model = create_model("mfnet_3d.avg", num_classes=2, in_channels=3, task="clip").eval()
    clips = torch.randn(1, 3, 4, 32, 32)
    with torch.no_grad():
        wanted = model(clips).logits
        torch.testing.assert_close(
            use_channels_last(model, everywhere=everywhere)(clips).logits, wanted, rtol=1e-3, atol=1e-4
        )


@pytest.mark.parametrize(
    ("flags", "units"),
    [("fpu avx512_bf16 amx_bf16", "AMX bf16 units"), ("avx512_bf16", "AVX512-BF16"), ("avx512f", "")],
)
def test_the_processor_says_what_it_has(flags: str, units: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"processor\t: 0\nflags\t\t: {flags}\n\nprocessor\t: 1\nflags\t\t: {flags}\n"
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(Path, "read_text", lambda path: text)
    assert cpu_bf16_units.__wrapped__() == units
