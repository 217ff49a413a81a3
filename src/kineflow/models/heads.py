"""From pooled features to logits."""

from torch import Tensor, nn


class LinearHead(nn.Module):
    """Dropout, then one linear layer on the last dimension, so that clips and frames share it."""

    def __init__(self, *, feature_dim: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(feature_dim, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """Return logits_BK from features_BD, or logits_BTK from features_BTD."""
        logits: Tensor = self.classifier(self.dropout(features))
        return logits
