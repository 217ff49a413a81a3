"""Frames as they come: a model that sees no later frames answers each at once, as if the clip were whole."""

from typing import Protocol

from torch import Tensor, nn

from kineflow.errors import ParamsError
from kineflow.models.classifier import Prediction, VideoClassifier
from kineflow.models.pooling.average import EveryStep


class Remembers(Protocol):
    """A module that goes on from its `memory`, where that is not None, and leaves there what the next frames need."""

    memory: list[object] | None


class FrameStream:
    """One video that is fed to a model piece by piece.

    The memory is the stream's, so that many streams may share a model, in turn. Run it in eval mode: batch norm's
    running statistics then are the same for one frame as for many.

    Args:
        model: of the task `frame`; stays as it is.

    Raises:
        ParamsError: the model needs later frames, or answers for whole clips; the message says which part of it.
    """

    def __init__(self, model: VideoClassifier) -> None:
        reason = why_no_stream(model)
        if reason:
            raise ParamsError(f"{model.name} cannot stream: {reason}")
        self._model = model
        self._modules: list[Remembers] = [
            module  # type: ignore[misc]
            for module in model.modules()
            if hasattr(module, "memory")
        ]
        self._memories: list[list[object] | None] = [[] for _ in self._modules]

    def feed(self, clips_BCTHW: Tensor) -> Prediction:
        """Return logits_BTK and features_BTD of the next T frames; B stays the same in a stream.

        Raises:
            ParamsError: as the model's own.
        """
        try:
            for module, memory in zip(self._modules, self._memories, strict=True):
                module.memory = memory
            prediction: Prediction = self._model(clips_BCTHW)
            self._memories = [module.memory for module in self._modules]
        finally:
            for module in self._modules:
                module.memory = None
        return prediction


def why_no_stream(model: VideoClassifier) -> str:
    """Return why a model cannot answer frame by frame, or an empty string where it can."""
    return _why_not(model.backbone) or _why_not(model.pooling)


def _why_not(part: nn.Module) -> str:
    if isinstance(part, EveryStep):
        return ""
    why = getattr(part, "why_no_stream", None)
    return str(why()) if why is not None else f"its {type(part).__name__} sees the whole clip"
