"""Batch norm where batches are small: its statistics as they are, or measured once over many clips."""

from collections.abc import Sequence

import torch
from torch import nn

from kineflow.data.dataset import ClipDataset, collate, without_augmentation
from kineflow.training.batches import cut_into_batches
from kineflow.training.inputs import clip_lengths, model_input
from kineflow.training.precision import autocast
from kineflow.training.recipe import Recipe

MAX_CLIPS = 512  # that are measured; more change little


def batch_norms(model: nn.Module) -> list[nn.Module]:
    """The batch norms of `model` that keep running statistics."""
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
    return [module for module in model.modules() if isinstance(module, kinds) and module.track_running_stats]


def measure_batch_norm(
    model: nn.Module, dataset: ClipDataset, recipe: Recipe, device: torch.device, *, kept: Sequence[str] = ()
) -> None:
    """Make the running statistics the mean over batches of the training clips, seen by the weights as they are now.

    Running means lag behind weights that change, and, of averaged weights, are averages of others' statistics.

    Args:
        kept: names of modules that are frozen, whose statistics stay as they are.

    Source: Wu and Johnson, Rethinking "Batch" in BatchNorm, 2021, 3 (precise BN).
    """
    frozen = {norm for name in kept for norm in batch_norms(model.get_submodule(name))}
    norms = [norm for norm in batch_norms(model) if norm not in frozen]
    if not norms:
        return
    was_training, momenta = model.training, [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()  # type: ignore[operator]
        norm.momentum = None  # type: ignore[assignment]  # a mean that counts each batch alike
        norm.train()
    fixed = without_augmentation(dataset)
    chosen = torch.linspace(0, len(fixed) - 1, min(len(fixed), MAX_CLIPS)).long().tolist()
    with torch.inference_mode(), autocast(device, recipe.precision):
        for positions in cut_into_batches(chosen, recipe.batch_size):
            batch = collate([fixed.sample(index, epoch=0) for index in positions])
            model(model_input(batch, fixed.preprocessing, device), clip_lengths(batch, fixed.preprocessing, device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.train(was_training)
