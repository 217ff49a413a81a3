"""What is read without having been written is seen to be."""

import torch


def fill_freed_memory_with_infinity() -> None:
    """Let the memory that the next tensors get hold infinity."""
    blocks = [torch.full((17 * 2**power,), float("inf")) for power in range(4, 18)]
    del blocks
