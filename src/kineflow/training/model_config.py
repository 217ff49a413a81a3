"""Which network a job trains or a bundle holds, as JSON values; torch is imported only when it is built."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from kineflow.models.classifier import VideoClassifier
    from kineflow.models.weights import WeightsReport


@dataclass(frozen=True)
class ModelConfig:
    """What `create_model` and `load_weights` need.

    Args:
        weights: a local file to start from; None once the model is trained.
    """

    name: str
    task: Literal["clip", "frame"]
    num_classes: int
    in_channels: int
    dropout: float
    weights: str | None
    options: dict[str, int | float | str | bool]

    def build(self, seed: int) -> "VideoClassifier":
        """The model, its weights drawn from `seed` and then loaded where `weights` says so."""
        return self.load(seed)[0]

    def load(self, seed: int) -> "tuple[VideoClassifier, WeightsReport | None]":
        """The same, and what became of the loaded weights."""
        import torch

        from kineflow.models.registry import create_model
        from kineflow.models.weights import load_weights

        torch.manual_seed(seed)
        model = create_model(
            self.name,
            num_classes=self.num_classes,
            in_channels=self.in_channels,
            task=self.task,
            dropout=self.dropout,
            options=self.options,
        )
        loaded = None if self.weights is None else load_weights(model, self.weights)
        return model, loaded
