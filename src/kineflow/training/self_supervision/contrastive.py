"""Contrastive pre-training: two views of one clip are alike, views of different clips are not.

Source: Chen et al., A simple framework for contrastive learning of visual representations, ICML 2020 (the loss and the
projection); Qian et al., Spatiotemporal contrastive video representation learning, CVPR 2021 (clips of video).
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kineflow.data.dataset import Batch, ClipDataset, collate
from kineflow.data.probabilities import Labels
from kineflow.models.classifier import Prediction, VideoClassifier
from kineflow.training.inputs import clip_lengths, model_input
from kineflow.training.loop import Shard, fit
from kineflow.training.precision import autocast
from kineflow.training.recipe import Recipe

PROJECTION_DIM = 64
TEMPERATURE = 0.1


class Projected(nn.Module):
    """The classifier's features, projected: what is compared in pre-training, and thrown away after it."""

    def __init__(self, classifier: VideoClassifier) -> None:
        super().__init__()
        self.classifier = classifier
        dim = classifier.feature_dim
        self.projection = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(inplace=True), nn.Linear(dim, PROJECTION_DIM))

    def forward(self, clips_BCTHW: Tensor, num_frames_B: Tensor | None = None) -> Prediction:
        """Logits are projections of length one, (B, 64); of frames, of their mean."""
        features = self.classifier(clips_BCTHW, num_frames_B).features
        features_BD = features if features.ndim == 2 else features.mean(dim=1)
        return Prediction(F.normalize(self.projection(features_BD).float(), dim=1), features_BD)


def contrastive_loss(first_BD: Tensor, second_BD: Tensor, *, temperature: float = TEMPERATURE) -> Tensor:
    """The normalised, temperature-scaled cross-entropy (NT-Xent) of B pairs of projections of length one.

    Each of the 2 B projections has to point out its partner among the 2 B - 1 others.
    """
    both = torch.cat([first_BD, second_BD])
    scores = both @ both.T / temperature
    scores.fill_diagonal_(-torch.inf)
    num_pairs = len(first_BD)
    partners = torch.arange(2 * num_pairs, device=both.device).roll(num_pairs)
    return F.cross_entropy(scores, partners)


class Contrastive:
    """The objective: the batch is seen a second time, in other random views of the same clips.

    Args:
        second_view: the model's answer to other views of the clips of a batch.
        labels: as every objective has them; not looked at.
    """

    def __init__(self, second_view: Callable[[Batch, int], Prediction], labels: Labels) -> None:
        self.second_view = second_view
        self.labels = labels

    def __call__(self, prediction: Prediction, batch: Batch, *, epoch: int) -> Tensor:
        """The mean loss of `batch`."""
        return contrastive_loss(prediction.logits, self.second_view(batch, epoch).logits)


def pretrain(
    classifier: VideoClassifier,
    train_set: ClipDataset,
    recipe: Recipe,
    *,
    labels: Labels,
    epochs: int,
    device: torch.device,
    checkpoint: Path,
    wrap: Callable[[nn.Module], nn.Module] | None = None,
    shard: Shard | None = None,
) -> None:
    """Train all of `classifier` but its last layer, in place, to tell the training clips apart by random views of each.

    Args:
        train_set: with random views; its labels are not looked at, and its clips are not mixed with one another, or a
            clip would be told to be like another one.
        recipe: of the classification that follows; its rate, batches and optimizer are taken.
        epochs: of this training.
        checkpoint: where its state is kept and picked up from; one that is finished costs nothing.
    """
    model = Projected(classifier).to(device)
    if train_set.augment is not None:
        train_set = replace(train_set, augment=replace(train_set.augment, mixup=0.0, cutmix=0.0))
    others = replace(train_set, seed=train_set.seed + 1)  # other views of the same clips

    def second_view(batch: Batch, epoch: int) -> Prediction:
        seen = collate([others.sample(int(position), epoch=epoch) for position in batch.positions])
        with autocast(device, recipe.precision):
            inputs = model_input(seen, others.preprocessing, device)
            prediction: Prediction = model(inputs, clip_lengths(seen, others.preprocessing, device))
        return prediction

    classifier.head.requires_grad_(False)
    alone = replace(recipe, epochs=epochs, finetune=None, ema_decay=None, select="last", early_stop=None)
    alone = replace(alone, sampler="each_once", negative_ratio=None)  # which look at labels
    alone = replace(alone, schedule="constant" if recipe.schedule == "plateau" else recipe.schedule)
    objective = Contrastive(second_view, labels)
    fitted = fit(model, objective, train_set, None, alone, device=device, checkpoint=checkpoint, wrap=wrap, shard=shard)
    model.load_state_dict(fitted.state)
    classifier.head.requires_grad_(True)
