"""MARS: an RGB student imitates the features of a flow teacher, and needs no flow any more.

Source: Crasto et al., MARS: Motion-Augmented RGB Stream for Action Recognition, CVPR 2019: cross-entropy plus the
weighted mean squared error between the features before the last layer. Teacher and student see the same crop of
the same instants.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from kineflow.data.dataset import Batch, ClipDataset, collate
from kineflow.data.decoded_cache import DecodedCache
from kineflow.data.preprocessing import Preprocessing
from kineflow.data.readers import StreamStore
from kineflow.errors import ParamsError
from kineflow.models.classifier import Prediction
from kineflow.store import file_sha256
from kineflow.training.bundle import Bundle, Member, read_bundle
from kineflow.training.inputs import clip_lengths, model_input
from kineflow.training.job import ClassWeights, Job, classification
from kineflow.training.objectives import Classification, Loss, Objective
from kineflow.training.precision import autocast
from kineflow.training.preparation import training_videos


@dataclass(frozen=True)
class MarsConfig:
    """Makes the distillation objective of a job.

    Args:
        teacher: the bundle of the flow model of the same fold; its first member teaches.
        store: where the teacher's stream is read.
        feature_weight: of the mean squared error between features.
        label_smoothing, class_weights, focal_gamma: of the cross-entropy.
    """

    teacher: Path
    store: StreamStore
    feature_weight: float
    label_smoothing: float
    class_weights: ClassWeights = "none"
    focal_gamma: float = 0.0
    code: ClassVar[tuple[str, ...]] = ("kineflow.distillation",)

    @property
    def key(self) -> dict[str, Any]:
        """All that the objective depends on, as JSON values."""
        bundle, member = self._teacher()
        return {
            "kind": "mars",
            "teacher": file_sha256(bundle.root / member.weights),
            "preprocessing": member.preprocessing.to_json(),
            "store": dict(sorted(self.store.keys.items())),
            "feature_weight": self.feature_weight,
            "label_smoothing": self.label_smoothing,
            "class_weights": self.class_weights,
            "focal_gamma": self.focal_gamma,
        }

    def make(self, job: Job, preprocessing: Preprocessing, device: torch.device, cache: DecodedCache) -> Objective:
        """The objective of `job`.

        Raises:
            ParamsError: the features of teacher and student differ in size.
        """
        bundle, member = self._teacher()
        videos = training_videos(job, self.store, member.preprocessing, cache)
        inputs = ClipDataset(job.train, videos, member.preprocessing, job.augment, job.recipe.seed)
        teacher = bundle.load_model(member, device)
        loss = classification(job, self.label_smoothing, self.class_weights, self.focal_gamma)
        return Mars(teacher, inputs, member, loss, self.feature_weight, device)

    def _teacher(self) -> tuple[Bundle, Member]:
        bundle = read_bundle(self.teacher)
        member = bundle.members[0]
        assert isinstance(member, Member)  # those of the flow stream are networks
        return bundle, member


class Mars:
    """Classification loss plus `feature_weight` times the mean squared error to the teacher's features."""

    def __init__(
        self,
        teacher: nn.Module,
        inputs: ClipDataset,
        member: Member,
        classification: Classification,
        feature_weight: float,
        device: torch.device,
    ) -> None:
        self.teacher = teacher
        self.inputs = inputs
        self.precision = member.precision
        self.labels = classification.labels
        self.classification = classification
        self.feature_weight = feature_weight
        self.device = device

    def __call__(self, prediction: Prediction, batch: Batch, *, epoch: int) -> Loss:
        """The loss of `batch`, whose clips the teacher sees in the same views, mixed in the same way."""
        seen = collate([self.inputs.sample(int(position), epoch=epoch) for position in batch.positions])
        seen = seen._replace(mixing=batch.mixing)
        with torch.no_grad(), autocast(self.device, self.precision):
            clips_BCTHW = model_input(seen, self.inputs.preprocessing, self.device)
            lengths_B = clip_lengths(seen, self.inputs.preprocessing, self.device)
            taught = self.teacher(clips_BCTHW, lengths_B).features
        if taught.shape != prediction.features.shape:
            raise ParamsError(
                f"the student's features have shape {tuple(prediction.features.shape)} and the teacher's "
                f"{tuple(taught.shape)}; give streams.rgb and streams.flow models with features of one size"
            )
        loss = self.classification(prediction, batch, epoch=epoch)
        return loss.plus({"features": self.feature_weight * F.mse_loss(prediction.features.float(), taught.float())})
