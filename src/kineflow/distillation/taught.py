"""An RGB student that learns from what Fisher vectors say of its training clips, beside their labels.

Source: Hinton et al., Distilling the Knowledge in a Neural Network, 2015, at temperature 1, for the teacher is
calibrated. What it says of a clip comes from machines that saw nothing of the clip's group: of clips that it was
trained on it would only repeat the labels.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from kineflow.data.dataset import Batch
from kineflow.data.decoded_cache import DecodedCache
from kineflow.data.preprocessing import Preprocessing
from kineflow.data.probabilities import to_probs
from kineflow.errors import DataError
from kineflow.models.classifier import Prediction
from kineflow.store import file_sha256
from kineflow.tables import LOGITS, read_table
from kineflow.training.job import ClassWeights, Job, classification
from kineflow.training.objectives import Classification, Loss, Objective


@dataclass(frozen=True)
class TaughtConfig:
    """Makes the distillation objective of a job.

    Args:
        teacher: the table of logits of training clips, by fold.
        prob_weight: of the cross-entropy with the teacher's probabilities.
        label_smoothing, class_weights, focal_gamma: of the cross-entropy with the labels.
    """

    teacher: Path
    prob_weight: float
    label_smoothing: float
    class_weights: ClassWeights = "none"
    focal_gamma: float = 0.0
    code: ClassVar[tuple[str, ...]] = ("kineflow.distillation",)

    @property
    def key(self) -> dict[str, Any]:
        """All that the objective depends on, as JSON values."""
        return {
            "kind": "taught",
            "teacher": file_sha256(self.teacher),
            "prob_weight": self.prob_weight,
            "label_smoothing": self.label_smoothing,
            "class_weights": self.class_weights,
            "focal_gamma": self.focal_gamma,
        }

    def make(self, job: Job, preprocessing: Preprocessing, device: torch.device, cache: DecodedCache) -> Objective:
        """The objective of `job`.

        Raises:
            DataError: the teacher says nothing of a training clip of this fold.
        """
        table = read_table(self.teacher, LOGITS)
        of_fold = table[table["fold"] == job.fold].set_index("clip_id")
        missing = [item.clip_id for item in job.train if item.clip_id not in of_fold.index]
        if missing:
            raise DataError(
                f"{self.teacher}: says nothing of {missing[0]} in fold {job.fold}, for fv trained on one group only; "
                "use more groups, or distill.teacher: flow"
            )
        logits_NK = of_fold.loc[[item.clip_id for item in job.train], list(job.classes)].to_numpy()
        probs_NK = torch.as_tensor(to_probs(logits_NK, job.labels), dtype=torch.float32)
        loss = classification(job, self.label_smoothing, self.class_weights, self.focal_gamma)
        return Taught(loss, probs_NK, self.prob_weight)


class Taught:
    """Classification loss plus `prob_weight` times the cross-entropy with the teacher's probabilities.

    Args:
        probs_NK: of every training clip, in the order of the data set.
    """

    def __init__(self, classification: Classification, probs_NK: Tensor, prob_weight: float) -> None:
        self.labels = classification.labels
        self.classification = classification
        self.probs_NK = probs_NK
        self.prob_weight = prob_weight

    def __call__(self, prediction: Prediction, batch: Batch, *, epoch: int) -> Loss:
        """The loss of `batch`; of clips that are mixed the teacher's probabilities are mixed as they are."""
        logits_BK = prediction.logits.float()
        taught_BK = self.probs_NK[torch.as_tensor(batch.positions % len(self.probs_NK))].to(logits_BK.device)
        if batch.mixing is not None:
            taught_BK = torch.lerp(taught_BK.roll(1, dims=0), taught_BK, batch.mixing.share)
        if self.labels == "exclusive":
            imitation = F.cross_entropy(logits_BK, taught_BK)
        else:
            imitation = F.binary_cross_entropy_with_logits(logits_BK, taught_BK)
        loss = self.classification(prediction, batch, epoch=epoch)
        return loss.plus({"teacher": self.prob_weight * imitation})
