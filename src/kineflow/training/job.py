"""One training as a value: everything that its result depends on."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from kineflow.data.dataset import ClipItem
from kineflow.data.decoded_cache import DecodedCache
from kineflow.data.preprocessing import Preprocessing
from kineflow.data.probabilities import Labels
from kineflow.data.readers import StreamStore
from kineflow.data.views import Augment
from kineflow.models.describe import describe_model
from kineflow.store import digest, file_sha256
from kineflow.training.code_digest import code_digest
from kineflow.training.model_config import ModelConfig
from kineflow.training.objectives import Classification, Objective, balanced_weights
from kineflow.training.precision import choose_device
from kineflow.training.recipe import Recipe
from kineflow.training.self_supervision.config import SelfSupervision

CODE = (
    "kineflow.models",
    "kineflow.training",
    "kineflow.data.dataset",
    "kineflow.data.mixing",
    "kineflow.data.negatives",
    "kineflow.data.preprocessing",
    "kineflow.data.probabilities",
    "kineflow.data.readers",
    "kineflow.data.sampling",
    "kineflow.data.views",
    "kineflow.video.dct_scale",
    "kineflow.video.feature_store",
)
LIBRARIES = ("torch", "torchvision", "timm", "numpy", "opencv-contrib-python-headless")

ClassWeights = Literal["none", "balanced"]


@dataclass(frozen=True)
class ObjectiveConfig:
    """Makes the objective of a job; distillation has its own kind.

    `key` is all that the objective depends on, as JSON values, and `code` the packages beside `CODE`.
    """

    label_smoothing: float
    class_weights: ClassWeights = "none"
    focal_gamma: float = 0.0
    code: ClassVar[tuple[str, ...]] = ()

    @property
    def key(self) -> dict[str, Any]:
        return {"kind": "classification", **asdict(self)}

    def make(self, job: "Job", preprocessing: Preprocessing, device: torch.device, cache: DecodedCache) -> Objective:
        """The objective of `job`, whose inputs are made by `preprocessing`."""
        return classification(job, self.label_smoothing, self.class_weights, self.focal_gamma)


@dataclass(frozen=True)
class Job:
    """One training: a fold, or the release model.

    Args:
        name: for people, for example `rgb fold 2`.
        model: what is trained.
        store: where the stream's videos are read.
        classes: in the order of the model's outputs.
        labels: whether they exclude each other.
        train: clips to train on. val: to watch; their logits are kept. test: only scored at the end.
        preprocessing: with `flow_scale_px` still to be estimated from the training clips.
        objective: what is minimised.
        fold: -1 for the release model.
        gpus: of a GPU, if there is one.
        workers: data-parallel processes, each of which normalises its own share of a batch.
        self_supervision: what is learned from the training clips beside their labels; None for nothing.
    """

    name: str
    model: ModelConfig
    store: StreamStore
    classes: tuple[str, ...]
    labels: Labels
    train: Sequence[ClipItem]
    val: Sequence[ClipItem]
    test: Sequence[ClipItem]
    preprocessing: Preprocessing
    augment: Augment
    recipe: Recipe
    fold: int
    gpus: float = 1.0
    workers: int = 1
    self_supervision: SelfSupervision | None = None
    objective: Any = field(default_factory=lambda: ObjectiveConfig(0.0))

    @cached_property
    def key(self) -> str:
        """The digest of everything that the result depends on."""
        return digest(
            model=asdict(replace(self.model, weights=None)),
            weights=None if self.model.weights is None else file_sha256(Path(self.model.weights)),
            classes=list(self.classes),
            labels=self.labels,
            videos={item.video_id: self.store.keys[item.video_id] for item in (*self.train, *self.val, *self.test)},
            train=[item_key(item) for item in self.train],
            val=[item_key(item) for item in self.val],
            test=[item_key(item) for item in self.test],
            preprocessing=self.preprocessing.to_json(),
            augment=asdict(self.augment),
            recipe=self.recipe.to_json(),
            objective=self.objective.key,
            fold=self.fold,
            device=choose_device(self.gpus).type,
            workers=self.workers,
            self_supervision=None if self.self_supervision is None else asdict(self.self_supervision),
            code=code_digest(*CODE, *self.objective.code),
            libraries={name: version(name) for name in LIBRARIES},
        )

    @property
    def input_CTHW(self) -> tuple[int, int, int, int]:
        """Shape of one input of the model."""
        made = self.preprocessing
        if made.stream == "embedding":
            return (self.model.in_channels, made.num_frames, 1, 1)
        return (self.model.in_channels, made.num_frames, *made.model_size_px)

    @property
    def num_pretrain_epochs(self) -> int:
        """Epochs before the classification."""
        return 0 if self.self_supervision is None else self.self_supervision.pretrain_epochs

    @property
    def num_forward_macs(self) -> int:
        """Multiply-accumulates of showing the model every training clip once."""
        _, num_frames, height_px, width_px = self.input_CTHW
        model = replace(self.model, weights=None).build(seed=0)
        described = describe_model(model, num_frames=num_frames, height_px=height_px, width_px=width_px)
        return described.macs * len(self.train)


def with_threads(job: Job, threads: int) -> Job:
    """`job` by no more threads than that, under the key that it has."""
    return replace(job, recipe=replace(job.recipe, threads=min(job.recipe.threads, threads)))


def classification(
    job: Job, label_smoothing: float, class_weights: ClassWeights, focal_gamma: float = 0.0
) -> Classification:
    """The classification loss of `job`; balanced weights come from its training clips alone."""
    if class_weights == "none":
        return Classification(job.labels, label_smoothing, focal_gamma=focal_gamma)
    targets = [item.target for item in job.train]
    weights = balanced_weights(targets, labels=job.labels, num_classes=len(job.classes))
    return Classification(job.labels, label_smoothing, weights, focal_gamma)


def item_key(item: ClipItem) -> list[Any]:
    """All of a clip that a training depends on beside its video, as JSON values."""
    if isinstance(item.target, np.ndarray):
        target: Any = digest(values=np.nan_to_num(item.target, nan=-1.0).astype(int).tolist())
    else:
        target = item.target
    redrawn = [list(item.redraw_starts)] if item.redraw_starts else []
    return [item.clip_id, item.start, item.stop, target, *redrawn]
