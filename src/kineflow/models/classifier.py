"""A video classifier: backbone, temporal pooling, head."""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn

from kineflow.errors import ParamsError
from kineflow.models.pooling.average import MiddleFrame, SpatialAverage
from kineflow.models.specs import Task


class Prediction(NamedTuple):
    """What a classifier answers.

    Attributes:
        logits: before softmax or sigmoid; logits_BK for the clip task, logits_BTK for the frame task.
        features: what the head read; features_BD or features_BTD.
        extra_losses: in training, what branches beside the classification add to the loss: a scalar of each, by name.
    """

    logits: Tensor
    features: Tensor
    extra_losses: Mapping[str, Tensor] | None = None


class VideoClassifier(nn.Module):
    """Classify clips, or every frame of them.

    Args:
        name: `backbone.pooling`, as the registry knows it.
        task: `clip` for one answer a clip, `frame` for one a frame.
        backbone: clips_BCTHW -> maps_BDTHW; has `first_layer`, one name, several or None. With an attribute
            `reads_lengths` that is true, it takes `num_frames_B` too, and leaves padding out itself.
        pooling: features_BTD -> features_BD (clip) or features_BTD (frame); has `feature_dim`. With an attribute
            `reads_maps` that is true, it reads the maps themselves, and else their spatial average.
        head: features -> logits.
        in_channels: C of the clips.
        num_classes: K.
        padded: backbone and pooling leave padding out, so that clips of several lengths may share a batch.
    """

    def __init__(
        self,
        *,
        name: str,
        task: Task,
        backbone: nn.Module,
        pooling: nn.Module,
        head: nn.Module,
        in_channels: int,
        num_classes: int,
        padded: bool = False,
    ) -> None:
        super().__init__()
        self.name = name
        self.task: Task = task
        self.backbone = backbone
        self.flatten = nn.Identity() if getattr(pooling, "reads_maps", False) else SpatialAverage()
        self.pooling = pooling
        self.head = head
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.padded = padded
        self.feature_dim = int(pooling.feature_dim)  # type: ignore[arg-type]

    @property
    def first_layers(self) -> tuple[str, ...]:
        """State-dict prefixes of the layers that read the clip's channels; mostly one."""
        inner: str | tuple[str, ...] | None = self.backbone.first_layer  # type: ignore[assignment]
        names = (inner,) if isinstance(inner, str) else inner or ()
        return tuple(f"backbone.{name}" for name in names)

    def forward(self, clips_BCTHW: Tensor, num_frames_B: Tensor | None = None) -> Prediction:
        """Return logits and the features they were computed from.

        Args:
            clips_BCTHW: float, normalised as the model's training data were; C = `in_channels`.
            num_frames_B: int64 in 1..T: frames of each clip before padding; None: all. Padding changes no answer
                in eval mode. The frame task answers the padding too: leave those rows out.

        Raises:
            ParamsError: the clips have another number of dimensions or channels, or the model cannot tell padding
                from frames.
        """
        if clips_BCTHW.ndim != 5 or clips_BCTHW.shape[1] != self.in_channels:
            raise ParamsError(
                f"{self.name} reads clips of shape (B, {self.in_channels}, T, H, W), not "
                f"{tuple(clips_BCTHW.shape)}: make it with in_channels equal to the stream's channels"
            )
        if num_frames_B is not None and not self.padded:
            raise ParamsError(
                f"{self.name} cannot leave padding out: give it clips of one length, or choose a pooling that "
                f"`kineflow models` says leaves padding out"
            )
        if isinstance(self.pooling, MiddleFrame):
            clips_BCTHW = self.pooling.choose_frames(clips_BCTHW, num_frames_B)
            num_frames_B = None
        told = num_frames_B is not None and getattr(self.backbone, "reads_lengths", False)
        maps = self.flatten(self.backbone(clips_BCTHW, num_frames_B) if told else self.backbone(clips_BCTHW))
        features = self.pooling(maps) if num_frames_B is None else self.pooling(maps, num_frames_B)
        return Prediction(logits=self.head(features), features=features)
