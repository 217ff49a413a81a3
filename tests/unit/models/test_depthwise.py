"""Depthwise and pointwise 3D convolutions on a CPU, against float64, for which PyTorch has kernels of its own."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from kineflow.models.backbones.cpu_convolutions import (
    DepthwiseConv3d,
    PointwiseConv3d,
    SoundConv3d,
    with_cpu_convolutions,
)
from kineflow.models.registry import create_model
from kineflow.training.precision import autocast
from kineflow.training.recipe import Precision
from tests.unit.models.poison import fill_freed_memory_with_infinity

KERNELS = {  # with paddings
    (3, 3, 3): [(1, 1, 1), (0, 0, 0)],
    (5, 1, 1): [(2, 0, 0), (0, 0, 0)],
    (1, 3, 3): [(0, 1, 1)],
    (2, 3, 4): [(0, 1, 3)],
}
STRIDES = [(1, 1, 1), (2, 1, 1), (1, 2, 2), (2, 2, 2), (1, 4, 4), (1, 8, 8)]
SHAPES = [(1, 1, 1), (2, 3, 1), (3, 3, 3), (2, 7, 4), (2, 4, 7), (5, 8, 6), (1, 9, 9)]  # of clips, some small
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last_3d}


def gradients(network: nn.Module, x_BCTHW: Tensor, toward: Tensor, precision: Precision) -> dict[str, Tensor]:
    """The answer, and the gradients of `toward` times it."""
    x_BCTHW = x_BCTHW.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    with autocast(torch.device("cpu"), precision):
        answer = network(x_BCTHW)
    fill_freed_memory_with_infinity()
    (answer.to(toward.dtype) * toward).sum().backward()
    assert x_BCTHW.grad is not None
    made = {name: value.grad for name, value in network.named_parameters() if value.grad is not None}
    return {**made, "answer": answer.detach(), "input": x_BCTHW.grad}


def assert_is_float64s(plain: nn.Module, ours: nn.Module, x_BCTHW: Tensor, precision: Precision) -> None:
    ours.load_state_dict(plain.state_dict())
    exact = plain.double()
    toward = torch.randn(exact(x_BCTHW.double()).shape)
    expected = gradients(exact, x_BCTHW.double(), toward.double(), "fp32")
    made = gradients(ours, x_BCTHW, toward, precision)
    assert made.keys() == expected.keys()
    share = 1e-5 if precision == "fp32" else 0.02
    for name, theirs in expected.items():
        torch.testing.assert_close(made[name].double(), theirs, atol=share * float(theirs.abs().max()), rtol=0)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_depthwise_values_and_gradients_are_those_of_float64(
    kernel: tuple[int, int, int], precision: Precision, layout: str
) -> None:
    torch.manual_seed(0)
    for padding, stride, shape_THW in itertools.product(KERNELS[kernel], STRIDES, SHAPES):
        if any(side + 2 * zeros < reach for side, zeros, reach in zip(shape_THW, padding, kernel, strict=True)):
            continue
        plain = nn.Conv3d(6, 6, kernel, stride, padding, groups=6, bias=False)
        ours = DepthwiseConv3d(6, 6, kernel, stride, padding, groups=6, bias=False)
        ours.to(memory_format=LAYOUTS[layout])  # type: ignore[call-overload]
        x_BCTHW = torch.randn(2, 6, *shape_THW).contiguous(memory_format=LAYOUTS[layout])
        assert_is_float64s(plain, ours, x_BCTHW, precision)


@pytest.mark.parametrize("kernel", [(3, 3, 3), (5, 1, 1)])
def test_only_what_is_wanted_is_computed_and_no_clips_are_fine(kernel: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    ours = DepthwiseConv3d(6, 6, kernel, padding=tuple(side // 2 for side in kernel), groups=6, bias=False)
    x_BCTHW = torch.randn(2, 6, 4, 5, 6)
    ours(x_BCTHW).square().sum().backward()  # the first layer of a network
    assert ours.weight.grad is not None
    expected, ours.weight.grad = ours.weight.grad, None
    ours.requires_grad_(False)  # a frozen one
    x_BCTHW.requires_grad_()
    ours(x_BCTHW).square().sum().backward()
    assert ours.weight.grad is None and x_BCTHW.grad is not None
    ours.requires_grad_(True)
    (of_weight,) = torch.autograd.grad(ours(x_BCTHW).square().sum(), ours.weight)
    torch.testing.assert_close(of_weight, expected)
    assert ours(torch.zeros(0, 6, 4, 5, 6)).shape == (0, 6, 4, 5, 6)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("bias", [False, True])
def test_pointwise_values_and_gradients_are_those_of_float64(precision: Precision, bias: bool) -> None:
    torch.manual_seed(0)
    for stride in (1, 2):
        plain, ours = (kind(6, 10, 1, stride, bias=bias) for kind in (nn.Conv3d, PointwiseConv3d))
        x_BCTHW = torch.randn(2, 6, 5, 8, 7)
        assert_is_float64s(plain, ours, x_BCTHW, precision)
        channels_last = torch.channels_last_3d
        assert ours(x_BCTHW.contiguous(memory_format=channels_last)).is_contiguous(memory_format=channels_last)


@pytest.mark.parametrize("name", ["x3d_xs.avg", "ir_csn_50.avg"])
def test_a_network_of_them_is_the_one_of_pytorch(name: str) -> None:
    torch.manual_seed(0)
    model = create_model(name, num_classes=3, in_channels=3, task="clip", dropout=0.0).double().eval()
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv3d)]
    assert {type(module) for module in convolutions} == {DepthwiseConv3d, PointwiseConv3d, SoundConv3d}
    clips_BCTHW = torch.randn(1, 3, 4, 32, 32, dtype=torch.float64)
    sides = []
    for _ in range(2):
        model.zero_grad()
        logits_BK = model(clips_BCTHW).logits
        logits_BK.sum().backward()
        made = {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}
        sides.append({**made, "logits": logits_BK.detach()})
        for module in convolutions:
            module.__class__ = nn.Conv3d
    torch.testing.assert_close(*sides)


def test_one_with_a_bias_is_pytorchs() -> None:
    torch.manual_seed(0)
    plain, ours = (kind(6, 6, 3, padding=1, groups=6) for kind in (nn.Conv3d, DepthwiseConv3d))
    assert_is_float64s(plain, ours, torch.randn(2, 6, 4, 5, 6), "fp32")


def test_what_it_cannot_do_stays_with_pytorch() -> None:
    network = nn.Sequential(
        nn.Conv3d(4, 4, 3, padding=1, groups=4, bias=False),
        nn.Conv3d(4, 4, 3, padding=1, groups=4, bias=True),
        nn.Conv3d(4, 8, 3, padding=1, groups=4, bias=False),
        nn.Conv3d(8, 8, 3, padding=2, dilation=2, groups=8, bias=False),
        nn.Conv3d(8, 8, 3, padding="same", groups=8, bias=False),
        nn.Conv3d(8, 8, 3, padding=1, padding_mode="circular", groups=8, bias=False),
        nn.Conv3d(8, 8, 1, padding=1, groups=8, bias=False),
        nn.Conv3d(8, 8, 1, padding=1),
        nn.Conv3d(8, 8, 1),
    )
    x_BCTHW = torch.randn(1, 4, 5, 6, 7)
    expected = network(x_BCTHW)
    found = [type(module) for module in with_cpu_convolutions(network)]
    assert found == [DepthwiseConv3d, *[SoundConv3d] * 7, PointwiseConv3d]
    torch.testing.assert_close(network(x_BCTHW), expected)
    assert type(with_cpu_convolutions(nn.Sequential(nn.Conv3d(8, 8, 1)))[0]) is SoundConv3d
