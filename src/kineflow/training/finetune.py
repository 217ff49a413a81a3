"""Transfer learning: which parts of a model train in which epochs, and how fast.

A new pooling and head send large gradients into a backbone that was trained elsewhere. So they may train alone at
first; then the backbone's top blocks train with them, more slowly, and the others never.

Source: the UCF-101 thesis on Inception-v3 and GRU, 4.3.2 (one epoch of the new layers with Adam, then the top two
Inception modules with SGD at 0.001), after Yosinski et al. 2014; rates by layer: Howard and Ruder 2018, 3.2.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor
from typing import Literal

from torch import nn

from kineflow.errors import ParamsError
from kineflow.models.blocks import Block, backbone_blocks

Optimizer = Literal["sgd", "adam", "adamw", "swats"]
MOMENTUM_READERS: frozenset[Optimizer] = frozenset({"sgd", "swats"})  # the others keep moments of their own (betas)


@dataclass(frozen=True)
class Finetune:
    """How a model with loaded weights is trained; see `FinetuneParams` for the meaning of each."""

    head_epochs: int
    head_optimizer: Optimizer
    head_lr: float
    top_blocks: int | None
    top_fraction: float | None
    blocks_lr_factor: float
    lr_decay_per_block: float

    def num_trained(self, num_blocks: int) -> int:
        """How many of a backbone's `num_blocks` blocks train after the head's epochs; a fraction is rounded down."""
        if self.top_blocks is not None:
            return self.top_blocks
        assert self.top_fraction is not None  # one of the two is given
        return floor(self.top_fraction * num_blocks + 1e-9)


@dataclass(frozen=True)
class Phase:
    """Epochs that share an optimizer and a schedule.

    Args:
        first_epoch: from 0. num_epochs: at least 1.
        optimizer, lr: of these epochs.
        finetune: None trains the whole model at one rate.
        head_only: the backbone stays as it is.
    """

    first_epoch: int
    num_epochs: int
    optimizer: Optimizer
    lr: float
    finetune: Finetune | None = None
    head_only: bool = False


@dataclass(frozen=True)
class Part:
    """Parameters that train at `lr_factor` times the phase's rate."""

    lr_factor: float
    parameters: list[nn.Parameter]


def trained_parts(model: nn.Module, phase: Phase) -> list[Part]:
    """Return the parameters that train in a phase: pooling and head, then the blocks from the output to the input.

    Args:
        model: has a `backbone`, where the phase has a `finetune`. Parameters that are not meant to train are left out.

    Raises:
        ParamsError: the backbone has fewer blocks than are to train, or none.
    """
    if phase.finetune is None:
        return [Part(1.0, _trainable(model))]
    of_backbone = set(_backbone(model).parameters())
    parts = [Part(1.0, [parameter for parameter in _trainable(model) if parameter not in of_backbone])]
    _, trained = split_blocks(model, phase)
    factor = phase.finetune.blocks_lr_factor
    for block in reversed(trained):
        modules = [_backbone(model).get_submodule(name) for name in block]
        parts.append(Part(factor, [parameter for module in modules for parameter in _trainable(module)]))
        factor *= phase.finetune.lr_decay_per_block
    return parts


def frozen_modules(model: nn.Module, phase: Phase) -> list[nn.Module]:
    """Return the modules that a phase leaves as they are, running statistics of batch norm among them."""
    if phase.finetune is None:
        return []
    frozen, _ = split_blocks(model, phase)
    return [_backbone(model).get_submodule(name) for block in frozen for name in block]


def split_blocks(model: nn.Module, phase: Phase) -> tuple[Sequence[Block], Sequence[Block]]:
    """Return the backbone's blocks that a phase freezes, and those that it trains.

    Raises:
        ParamsError: as `trained_parts`.
    """
    assert phase.finetune is not None
    blocks = backbone_blocks(_backbone(model))
    name = getattr(model, "name", type(model).__name__)
    if not blocks:
        raise ParamsError(f"finetune: the backbone of {name} has no weights to train or freeze; write finetune: null")
    num_trained = phase.finetune.num_trained(len(blocks))
    if num_trained > len(blocks):
        raise ParamsError(f"finetune.top_blocks: the backbone of {name} has {len(blocks)} blocks, not {num_trained}")
    first = len(blocks) - (0 if phase.head_only else num_trained)
    return blocks[:first], blocks[first:]


def _backbone(model: nn.Module) -> nn.Module:
    return model.get_submodule("backbone")


def _trainable(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]
