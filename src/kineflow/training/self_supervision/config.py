"""What a job learns from its videos themselves, as a plain value: part of the key of its result."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SelfSupervision:
    """See `SelfSupervisionParams` for when to use what.

    Attributes:
        direction_weight: of the loss of the arrow of time, trained beside the classification; 0 for none.
        tracking_weight: of the loss of tracking, trained beside the classification; 0 for none.
        patch_fraction: side of the tracked patch, of the side of the image.
        num_past: steps into the past of the longest cycle.
        gap: frames from one step to the next.
        branch_after: the backbone's layer that both branches read.
        pretrain_epochs: of contrastive training before the classification; 0 for none.
    """

    direction_weight: float
    tracking_weight: float
    patch_fraction: float
    num_past: int
    gap: int
    branch_after: str
    pretrain_epochs: int

    @property
    def has_branches(self) -> bool:
        """Whether anything is trained beside the classification."""
        return self.direction_weight > 0 or self.tracking_weight > 0
