"""Less memory for more time: the activations inside a block are computed again when its gradient is."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from kineflow.models.blocks import backbone_blocks
from kineflow.training.batch_norm import batch_norms


def recompute_activations(model: nn.Module, *, is_compiled: bool = False) -> None:
    """Let every block of the backbone keep only its input in training, in place.

    A block is run twice for each step, and its batch norms meet each batch twice. Their momentum is lowered so that
    two equal updates move the running statistics as far as one did: 1 - (1 - m)^(1/2). Weights and gradients are those
    of a run without, to rounding. Where a branch keeps statistics as they are (momentum 0) nothing is run twice: by the
    time of the second run they would be learned again.

    Args:
        is_compiled: `torch.compile` will run the model, which computes again what gradients need, but no statistics.

    Source: Chen et al., Training deep nets with sublinear memory cost, 2016.
    """
    backbone = model.get_submodule("backbone")
    modules = [backbone.get_submodule(name) for block in backbone_blocks(backbone) for name in block]
    for module in modules:
        norms = batch_norms(module)
        for norm in norms if not is_compiled else ():
            norm.momentum = 1 - (1 - norm.momentum) ** 0.5  # type: ignore[operator]
        module.forward = partial(_checkpointed, module, norms, module.forward)


def _checkpointed(module: nn.Module, norms: Sequence[nn.Module], forward: Callable[..., Any], *inputs: Any) -> Any:
    if not module.training or any(norm.momentum == 0 for norm in norms):
        return forward(*inputs)
    return checkpoint(forward, *inputs, use_reentrant=False)
