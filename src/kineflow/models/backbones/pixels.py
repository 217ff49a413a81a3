"""The pixels themselves as features: small frames that a recurrent layer reads without convolutions."""

from torch import Tensor, nn

from kineflow.errors import ParamsError
from kineflow.models.specs import BackboneSpec, Options, Task


class RawPixels(nn.Module):
    """Every channel of every pixel is a feature of its frame; has no parameters.

    Args:
        in_channels: C of the clips.
        side_px: height and width of the frames.
    """

    def __init__(self, *, in_channels: int, side_px: int) -> None:
        super().__init__()
        self.side_px = side_px
        self.feature_dim = in_channels * side_px * side_px
        self.first_layer: str | None = None

    def why_no_stream(self) -> str:
        """Return an empty string: each frame is seen by itself."""
        return ""

    def forward(self, clips_BCTHW: Tensor) -> Tensor:
        """Return maps (B, C x side x side, T, 1, 1), channel by channel and row by row.

        Raises:
            ParamsError: the frames have another size.
        """
        height_px, width_px = clips_BCTHW.shape[3:]
        if (height_px, width_px) != (self.side_px, self.side_px):
            raise ParamsError(
                f"this model reads the pixels of frames of {self.side_px}x{self.side_px} px, not {height_px}x"
                f"{width_px}: crop frames to that size, or set the model option side_px"
            )
        return clips_BCTHW.transpose(1, 2).flatten(2).transpose(1, 2)[..., None, None]


def _build(in_channels: int, task: Task, options: Options) -> nn.Module:
    return RawPixels(in_channels=in_channels, side_px=int(options["side_px"]))


SPECS = (
    BackboneSpec(
        name="pixels",
        input="2d",
        build=_build,
        poolings=("none", "avg", "lstm", "fc_lstm", "gru"),
        why_apart="pixels are thousands of features, of which this pooling would keep or compare every one",
        source="the UCF-101 thesis on Inception-v3 and GRU, chapter 5",
        options={"side_px": 50},
        stated_THW=(100, 50, 50),
        receptive_frames=1,
        padded=True,
    ),
)
