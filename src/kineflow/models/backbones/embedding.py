"""Features that the `embed` stage computed beforehand, passed on as they are."""

from torch import Tensor, nn

from kineflow.errors import ParamsError
from kineflow.models.specs import VECTOR_POOLINGS, BackboneSpec, Options, Task


class PrecomputedFeatures(nn.Module):
    """Pass cached features on, which are laid out as a clip of 1x1 px frames; has no parameters."""

    def __init__(self, *, feature_dim: int) -> None:
        super().__init__()
        self.feature_dim = feature_dim
        self.first_layer: str | None = None

    def why_no_stream(self) -> str:
        """Return an empty string: each frame is seen by itself."""
        return ""

    def forward(self, features_BDT11: Tensor) -> Tensor:
        """Return them unchanged: they are maps_BDTHW of one position.

        Raises:
            ParamsError: frames are larger than 1x1, so the input is no cache of features.
        """
        if tuple(features_BDT11.shape[3:]) != (1, 1):
            height, width = features_BDT11.shape[3:]
            raise ParamsError(
                f"an embedding.* model reads cached features, shape (B, D, T, 1, 1), not frames of "
                f"{height}x{width} px: choose a backbone, or give it the output of the embed stage"
            )
        return features_BDT11


def _build(in_channels: int, task: Task, options: Options) -> nn.Module:
    return PrecomputedFeatures(feature_dim=in_channels)


SPECS = (
    BackboneSpec(
        name="embedding",
        input="embedding",
        build=_build,
        poolings=VECTOR_POOLINGS,
        why_apart="its features are means over the image, without places",
        source="features cached by the embed stage",
        stated_THW=(16, 1, 1),
        receptive_frames=1,
        padded=True,
    ),
)
