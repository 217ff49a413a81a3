"""SWATS against torch's own Adam and SGD, and the rate of the switch against the paper's algorithm."""

import copy

import pytest
import torch

from kineflow.training.swats import Swats


def gradients(num_steps: int) -> list[list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((3, 2), (4,))]
        for _ in range(num_steps)
    ]


def start() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((3, 2), (4,))]


def run(optimizer: torch.optim.Optimizer, weights: list[torch.Tensor], steps: list[list[torch.Tensor]]) -> None:
    for of_step in steps:
        for weight, gradient in zip(weights, of_step, strict=True):
            weight.grad = gradient.clone()
        optimizer.step()


def test_before_the_switch_it_is_adam() -> None:
    ours, theirs = start(), start()
    steps = gradients(20)
    mine = Swats(ours, lr=0.01, switch_eps=0.0, weight_decay=0.1)
    run(mine, ours, steps)
    run(torch.optim.AdamW(theirs, lr=0.01, weight_decay=0.1), theirs, steps)
    assert mine.sgd_rate is None
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("momentum", [0.9, 0.5])
def test_it_switches_to_the_rate_of_the_algorithm_and_then_is_sgd(momentum: float) -> None:
    ours, steps = start(), gradients(12)
    optimizer = Swats(ours, lr=0.01, momentum=momentum, switch_eps=1e9)  # at the second step, whatever the rates
    run(optimizer, ours, steps[:2])
    theirs, rates = start(), []
    adam = torch.optim.Adam(theirs, lr=0.01)
    for of_step in steps[:2]:
        before = [weight.clone() for weight in theirs]
        run(adam, theirs, [of_step])
        moves = [after - was for after, was in zip(theirs, before, strict=True)]
        squared = sum(float((move**2).sum()) for move in moves)
        along = sum(float((move * gradient).sum()) for move, gradient in zip(moves, of_step, strict=True))
        rates.append(-squared / along)
    expected = (0.001 * 0.999 * rates[0] + 0.001 * rates[1]) / (1 - 0.999**2)
    assert optimizer.sgd_rate == pytest.approx(expected, rel=1e-6)
    run(optimizer, ours, steps[2:])
    sgd = torch.optim.SGD(theirs, lr=(1 - momentum) * expected, momentum=momentum)  # the paper's 1 - beta1
    run(sgd, theirs, steps[2:])
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("switch_eps", [0.0, 1e9])
def test_from_its_state_it_goes_on_as_if_nothing_had_happened(switch_eps: float) -> None:
    steps = gradients(9)
    whole = start()
    run(Swats(whole, lr=0.01, switch_eps=switch_eps), whole, steps)
    parts = start()
    first = Swats(parts, lr=0.01, switch_eps=switch_eps)
    run(first, parts, steps[:5])
    second = Swats(parts, lr=0.01, switch_eps=switch_eps)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    run(second, parts, steps[5:])
    for one, other in zip(whole, parts, strict=True):
        assert torch.equal(one, other)


def test_a_schedule_goes_on_after_the_switch() -> None:
    weights = start()
    optimizer = Swats(weights, lr=0.01, switch_eps=1e9)
    steps = gradients(3)
    run(optimizer, weights, steps[:2])
    before = [weight.clone() for weight in weights]
    optimizer.param_groups[0]["lr"] = 0.005
    run(optimizer, weights, steps[2:])
    assert optimizer.sgd_rate is not None
    for weight, was, gradient in zip(weights, before, steps[2], strict=True):
        torch.testing.assert_close(weight, was - 0.1 * optimizer.sgd_rate / 2 * gradient)
