"""Contrastive pre-training: two clips of one video are alike, clips of different videos are not.

Source: Chen et al., A simple framework for contrastive learning of visual representations, ICML 2020 (the loss and the
projection); Qian et al., Spatiotemporal contrastive video representation learning, CVPR 2021 (clips of video).
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from kineflow.data.dataset import Batch, ClipDataset, collate
from kineflow.data.probabilities import Labels
from kineflow.models.classifier import Prediction, VideoClassifier
from kineflow.training.inputs import clip_lengths, model_input
from kineflow.training.loop import fit
from kineflow.training.objectives import Loss
from kineflow.training.precision import autocast
from kineflow.training.recipe import Recipe
from kineflow.training.state import EpochResult, OnEpoch
from kineflow.training.steps import Shard

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


def contrastive_loss(
    first_BD: Tensor, second_BD: Tensor, *, videos_B: Tensor | None = None, temperature: float = TEMPERATURE
) -> Tensor:
    """The normalised, temperature-scaled cross-entropy (NT-Xent) of B pairs of projections of length one.

    Each of the 2 B projections has to point out its partner among the others that are not of its own video.

    Args:
        videos_B: the same number for pairs of the same video; None: each pair is of another one.
    """
    both = torch.cat([first_BD, second_BD])
    num_pairs = len(first_BD)
    if videos_B is None:
        videos_B = torch.arange(num_pairs)
    videos = videos_B.to(both.device).repeat(2)
    rows = torch.arange(2 * num_pairs, device=both.device)
    partners = rows.roll(num_pairs)
    hidden = videos[:, None] == videos
    hidden[rows, partners] = False
    scores = (both @ both.T / temperature).masked_fill(hidden, -torch.inf)
    return F.cross_entropy(scores, partners)


class Contrastive:
    """The objective: of the video of each clip of the batch another clip is seen, or another view of its only one.

    Args:
        second_view: the model's answer to those.
        videos: of each clip of the training set, a number of its video.
        labels: as every objective has them; not looked at.
    """

    def __init__(
        self, second_view: Callable[[Batch, int], Prediction], videos: NDArray[np.int64], labels: Labels
    ) -> None:
        self.second_view = second_view
        self.videos = videos
        self.labels = labels

    def __call__(self, prediction: Prediction, batch: Batch, *, epoch: int) -> Loss:
        """The mean loss over the clips of `batch`; nothing of its labels."""
        videos_B = torch.from_numpy(self.videos[batch.positions])
        loss = contrastive_loss(prediction.logits, self.second_view(batch, epoch).logits, videos_B=videos_B)
        return Loss(torch.zeros_like(loss), {"contrast": loss})


def partner(position: int, videos: NDArray[np.int64], *, seed: int, epoch: int) -> int:
    """Another clip of the same video, drawn for each epoch; the clip itself where it is the only one.

    Args:
        position: of the clip in the training set.
        videos: as `Contrastive` has them.
    """
    others = np.flatnonzero(videos == videos[position])
    others = others[others != position]
    if not len(others):
        return position
    return int(np.random.default_rng([seed, epoch, position]).choice(others))


def pretrain(
    classifier: VideoClassifier,
    train_set: ClipDataset,
    recipe: Recipe,
    *,
    labels: Labels,
    epochs: int,
    device: torch.device,
    checkpoint: Path,
    on_step: Callable[[int, float], None] | None = None,
    on_epoch: OnEpoch | None = None,
    wrap: Callable[[nn.Module], nn.Module] | None = None,
    shard: Shard | None = None,
) -> list[EpochResult]:
    """Train all of `classifier` but its last layer, in place, to tell the training videos apart by their clips.

    Args:
        train_set: with random views; its labels are not looked at, and its clips are not mixed with one another, or a
            clip would be told to be like another one.
        recipe: of the classification that follows; its rate, batches and optimizer are taken.
        epochs: of this training.
        checkpoint: where its state is kept and picked up from; one that is finished costs nothing.
        on_step, on_epoch, wrap, shard: see `fit`.

    Returns:
        How each of its epochs went.
    """
    model = Projected(classifier).to(device)
    if train_set.augment is not None:
        train_set = replace(train_set, augment=replace(train_set.augment, mixup=0.0, cutmix=0.0))
    others = replace(train_set, seed=train_set.seed + 1)  # other views, also of the same clip
    videos = np.unique([item.video_id for item in train_set.items], return_inverse=True)[1]

    def second_view(batch: Batch, epoch: int) -> Prediction:
        partners = [partner(int(position), videos, seed=others.seed, epoch=epoch) for position in batch.positions]
        seen = collate([others.sample(position, epoch=epoch) for position in partners])
        with autocast(device, recipe.precision):
            inputs = model_input(seen, others.preprocessing, device)
            prediction: Prediction = model(inputs, clip_lengths(seen, others.preprocessing, device))
        return prediction

    classifier.head.requires_grad_(False)
    alone = replace(recipe, epochs=epochs, finetune=None, ema_decay=None, select="last", early_stop=None)
    alone = replace(alone, sampler="each_once", negative_ratio=None)  # which look at labels
    alone = replace(alone, schedule="constant" if recipe.schedule == "plateau" else recipe.schedule)
    objective = Contrastive(second_view, videos, labels)
    fitted = fit(
        model,
        objective,
        train_set,
        None,
        alone,
        device=device,
        checkpoint=checkpoint,
        on_step=on_step,
        on_epoch=on_epoch,
        wrap=wrap,
        shard=shard,
    )
    model.load_state_dict(fitted.state)
    classifier.head.requires_grad_(True)
    return fitted.curves
