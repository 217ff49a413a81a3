"""A compiled training ends with the weights of a plain one: in two phases, and then with branches in one process."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from kineflow.training.loop import fit
from kineflow.training.recipe import Recipe
from tests.unit.training import test_finetune as finetuning
from tests.unit.training.self_supervision.test_in_jobs import with_branches
from tests.unit.training.test_loop import CPU, CROSS_ENTROPY, moving_left_or_right, recipe

pytestmark = [  # torch's own, of importing its compiler and of tracing
    pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
]
SGD = recipe(epochs=2, optimizer="sgd")  # Adam makes a step of any rounding error
PHASES = finetuning.recipe(finetune=replace(finetuning.TWO_PHASES, head_optimizer="sgd"), epochs=2)
TRAININGS: list[tuple[Callable[[], nn.Module], Recipe]] = [
    (finetuning.model, PHASES),
    (with_branches, SGD),
]


def check(make: Callable[[], nn.Module], given: Recipe, *, tolerance: float) -> None:
    """Train both ways and compare."""
    clips = moving_left_or_right(8)
    plain = fit(make(), CROSS_ENTROPY, clips, None, given, device=CPU)
    compiled = fit(make(), CROSS_ENTROPY, clips, None, replace(given, compile=True), device=CPU)
    assert list(compiled.state) == list(plain.state)
    for name, value in plain.state.items():
        torch.testing.assert_close(compiled.state[name], value, atol=tolerance, rtol=tolerance, msg=name)
    for one, other in zip(plain.curves, compiled.curves, strict=True):
        assert one.parts == pytest.approx(other.parts, rel=10 * tolerance, abs=tolerance)


def test_traced_graphs_train_as_the_network_does() -> None:
    """By the tracer of `torch.compile` alone, which then runs its graphs as they are; in turn in one process."""
    graphs: list[torch.fx.GraphModule] = []

    def as_it_is(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    with torch.compiler.set_stance("default", force_backend=as_it_is):
        for make, given in TRAININGS:
            graphs.clear()
            check(make, given, tolerance=1e-6)
            assert len(graphs) >= len(given.phases)


@pytest.mark.soak
def test_compiled_kernels_train_as_the_network_does() -> None:
    with torch._inductor.config.patch(fallback_random=True):  # the random numbers of plain torch
        for make, given in TRAININGS:
            check(make, given, tolerance=1e-4)
