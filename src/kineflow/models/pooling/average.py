"""Pooling without parameters: the mean over time, one frame, or every step as it is."""

from torch import Tensor, nn


class AveragePooling(nn.Module):
    """The mean over the time steps."""

    def __init__(self, *, feature_dim: int) -> None:
        super().__init__()
        self.feature_dim = feature_dim

    def forward(self, features_BTD: Tensor) -> Tensor:
        """Return features_BD."""
        return features_BTD.mean(dim=1)


class MiddleFrame(nn.Module):
    """The step in the middle of the clip, T // 2: what a model without temporal pooling sees of a clip."""

    def __init__(self, *, feature_dim: int) -> None:
        super().__init__()
        self.feature_dim = feature_dim

    def choose_frames(self, clips_BCTHW: Tensor) -> Tensor:
        """Return the clip's middle frame alone, so that the backbone need not run on the others."""
        middle = clips_BCTHW.shape[2] // 2
        return clips_BCTHW[:, :, middle : middle + 1]

    def forward(self, features_BTD: Tensor) -> Tensor:
        """Return features_BD."""
        return features_BTD[:, features_BTD.shape[1] // 2]


class EveryStep(nn.Module):
    """Each time step's own features, for the frame task."""

    def __init__(self, *, feature_dim: int) -> None:
        super().__init__()
        self.feature_dim = feature_dim

    def forward(self, features_BTD: Tensor) -> Tensor:
        """Return features_BTD unchanged."""
        return features_BTD
