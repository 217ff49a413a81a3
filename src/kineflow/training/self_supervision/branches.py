"""A classifier in training, with branches that learn from the videos themselves and share its first layers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from kineflow.errors import ParamsError
from kineflow.models.backbones.clip_network import ClipNetwork
from kineflow.models.classifier import Prediction, VideoClassifier
from kineflow.training.model_config import ModelConfig
from kineflow.training.self_supervision.config import SelfSupervision
from kineflow.training.self_supervision.direction import DirectionBranch, direction_loss
from kineflow.training.self_supervision.tracking import TrackingBranch, TrackingRule


class ClassifierWithBranches(nn.Module):
    """Answers as its classifier; in training the prediction carries the loss of the branches too.

    Args:
        classifier: what is kept when the training is over.
        config: which branches there are.
        input_CTHW: shape of one clip.
        reverse: a clip played backwards, which depends on what its channels are.

    Raises:
        ParamsError: the backbone reads frame by frame or has no such layer in a chain of layers, or the clips are too
            short to track.
    """

    def __init__(
        self,
        classifier: VideoClassifier,
        config: SelfSupervision,
        *,
        input_CTHW: tuple[int, int, int, int],
        reverse: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__()
        self.classifier = classifier
        self.config = config
        self.reverse = reverse
        self._trunk = layers_until(classifier, config.branch_after)
        with torch.no_grad():
            maps_BDTHW = self._encode(torch.randn(2, *input_CTHW))
        _, channels, num_steps, height, width = maps_BDTHW.shape
        self.direction = DirectionBranch(channels) if config.direction_weight > 0 else None
        self.tracking: TrackingBranch | None = None
        if config.tracking_weight > 0:
            num_frames, rule = input_CTHW[1], TrackingRule(config.patch_fraction, config.num_past, config.gap)
            if num_steps != num_frames or num_frames < rule.min_frames:
                raise ParamsError(
                    f"num_past: {rule.num_past} steps of gap: {rule.gap} frames are tracked in {rule.min_frames} "
                    f"frames or more, each with a step of its own, but {classifier.name} has {num_steps} steps after "
                    f"branch_after: {config.branch_after} for clips of {num_frames} frames; track fewer or nearer "
                    f"frames, or branch off before the frames are strided over"
                )
            self.tracking = TrackingBranch(rule, maps_HW=(height, width))

    def forward(self, clips_BCTHW: Tensor, num_frames_B: Tensor | None = None) -> Prediction:
        """As `VideoClassifier.forward`; `extra_losses` are the branches', weighted, in training only."""
        if not self.training:
            prediction: Prediction = self.classifier(clips_BCTHW, num_frames_B)
            return prediction
        with _captured(self._trunk[-1]) as captured:
            prediction = self.classifier(clips_BCTHW, num_frames_B)
        maps_BDTHW = captured[0]
        extra: dict[str, Tensor] = {}
        if self.direction is not None:
            extra["direction"] = self.config.direction_weight * self._direction_loss(clips_BCTHW)
        if self.tracking is not None:
            tracked = self.tracking(clips_BCTHW, maps_BDTHW, self._encode)
            extra["tracking"] = self.config.tracking_weight * tracked
        return prediction._replace(extra_losses=extra)

    def _encode(self, clips_BCTHW: Tensor) -> Tensor:
        with _running_statistics_kept(self._trunk):
            return _maps_of(self._trunk, clips_BCTHW)

    def direction_logits(self, clips_BCTHW: Tensor) -> Tensor:
        """The logit of each clip, float32 (B,), that it plays forwards.

        Raises:
            ValueError: the config gives the arrow of time no weight.
        """
        if self.direction is None:
            raise ValueError("there is no branch for the arrow of time: direction_weight is 0")
        logits_B: Tensor = self.direction(self._encode(clips_BCTHW))
        return logits_B

    def _direction_loss(self, clips_BCTHW: Tensor) -> Tensor:
        """Every other clip is shown backwards, the others as they are.

        Both in one batch: normalised apart, they would lose the very difference of their means that tells them apart,
        and the branch would go by what sets two batches apart instead.
        """
        num_forward = len(clips_BCTHW[::2])
        logits_B = self.direction_logits(torch.cat([clips_BCTHW[::2], self.reverse(clips_BCTHW[1::2])]))
        return direction_loss(logits_B[:num_forward], logits_B[num_forward:])


def check_branches(model: ModelConfig, config: SelfSupervision, *, input_CTHW: tuple[int, int, int, int]) -> None:
    """Refuse what `ClassifierWithBranches` would refuse of these, without computing anything.

    Raises:
        ParamsError: as it does.
    """
    with torch.device("meta"):
        classifier = replace(model, weights=None).build(seed=0)
        ClassifierWithBranches(classifier, config, input_CTHW=input_CTHW, reverse=torch.clone)


def layers_until(classifier: VideoClassifier, after: str) -> list[nn.Module]:
    """The layers that a clip passes up to the one named `after`, that one included.

    Raises:
        ParamsError: the backbone reads frame by frame, or is no chain of layers down to that name.
    """
    if not isinstance(classifier.backbone, ClipNetwork):
        raise ParamsError(
            f"the backbone of {classifier.name} does not read clips as a whole, so no branch can follow time in it; "
            f"choose a 3D one, such as r3d_tiny (`kineflow models --input 3d` lists them), or write null"
        )
    network: Any = classifier.backbone.network
    layers: list[nn.Module] = []
    above = ""
    for part in after.split("."):
        children = dict(network.named_children()) if isinstance(network, nn.Sequential) else {}
        if part not in children:
            raise ParamsError(
                f"branch_after: {classifier.name} has no layer {after!r} that a branch could follow: "
                f"{_advice([above + name for name in children], above)}"
            )
        names = list(children)
        layers.extend(children[name] for name in names[: names.index(part)])
        network, above = children[part], f"{above}{part}."
    return [*layers, network]


def _advice(known: list[str], above: str) -> str:
    if known:
        return f"known are {', '.join(known)}"
    return f"end at {above[:-1]}, which is no chain itself" if above else "choose a chain of layers, such as r3d_tiny"


def _maps_of(layers: list[nn.Module], clips_BCTHW: Tensor) -> Tensor:
    maps_BDTHW = clips_BCTHW
    for layer in layers:
        maps_BDTHW = layer(maps_BDTHW)
    return maps_BDTHW


@contextmanager
def _captured(layer: nn.Module) -> Iterator[list[Tensor]]:
    """What `layer` returns while the context holds."""
    outputs: list[Tensor] = []
    handle = layer.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    try:
        yield outputs
    finally:
        handle.remove()


@contextmanager
def _running_statistics_kept(layers: list[nn.Module]) -> Iterator[None]:
    """Batch norms do not learn the statistics, which are those of clips as they are classified."""
    norms = [module for layer in layers for module in layer.modules() if isinstance(module, nn.BatchNorm3d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
