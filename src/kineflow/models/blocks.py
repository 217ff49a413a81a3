"""The blocks of a backbone, from its input to its output: what transfer learning freezes and trains piece by piece."""

from collections.abc import Iterator

from torch import nn

# Names of the modules of one block, as in `backbone.named_modules()`; most blocks are one module.
Block = tuple[str, ...]


def backbone_blocks(backbone: nn.Module) -> tuple[Block, ...]:
    """Return the blocks of a backbone in the order in which a clip passes them.

    A block is a residual or Inception block, a transformer layer or a convolution of the stem. Norms and what else has
    no matrix belong to the block before them. Every parameter is in exactly one block; a backbone without parameters
    has none.

    They follow the module tree, whose order is that of the computation. A network with parallel paths has a method
    `parallel_blocks` that says how they run.
    """
    network = getattr(backbone, "network", None)
    if network is None:
        return tuple(_in_tree(backbone, ""))
    parallel = getattr(network, "parallel_blocks", None)
    if parallel is not None:
        return tuple(tuple(f"network.{name}" for name in block) for block in parallel())
    return tuple(_in_tree(network, "network."))


def _in_tree(parent: nn.Module, prefix: str) -> Iterator[Block]:
    block: Block = ()
    for name, is_new in _modules(parent, prefix):
        if is_new and block:
            yield block
            block = ()
        block = (*block, name)
    if block:
        yield block


def _modules(parent: nn.Module, prefix: str) -> Iterator[tuple[str, bool]]:
    """The names of the modules that blocks are made of, and whether a block begins with each."""
    for name, child in parent.named_children():
        parameters = list(child.parameters())
        if not parameters:
            continue
        if type(child) in (nn.Sequential, nn.ModuleList):  # a subclass is a unit with a name of its own
            yield from _modules(child, f"{prefix}{name}.")
        else:
            yield prefix + name, any(parameter.ndim > 1 for parameter in parameters)
