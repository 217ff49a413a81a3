"""Features that the `embed` stage computed beforehand, passed on as they are."""

from torch import Tensor, nn

from kineflow.errors import ParamsError


class PrecomputedFeatures(nn.Module):
    """Take cached features, laid out as a clip of 1x1 px frames, to features_BTD; has no parameters."""

    def __init__(self, *, feature_dim: int) -> None:
        super().__init__()
        self.feature_dim = feature_dim
        self.first_layer: str | None = None

    def forward(self, features_BDT11: Tensor) -> Tensor:
        """Return features_BTD.

        Raises:
            ParamsError: frames are larger than 1x1, so the input is no cache of features.
        """
        if tuple(features_BDT11.shape[3:]) != (1, 1):
            height, width = features_BDT11.shape[3:]
            raise ParamsError(
                f"an embedding.* model reads cached features, shape (B, D, T, 1, 1), not frames of "
                f"{height}x{width} px: choose a backbone, or give it the output of the embed stage"
            )
        return features_BDT11[:, :, :, 0, 0].transpose(1, 2)
