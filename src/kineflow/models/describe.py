"""Count a model's parameters and multiply-accumulates, for model cards and comparisons."""

import copy
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from kineflow.models.classifier import VideoClassifier
from kineflow.models.pooling.average import SpatialAverage

MacsKind = Literal["convolution", "linear", "recurrent", "attention", "elementwise"]


@dataclass(frozen=True)
class ModelDescription:
    """Size and cost of a model at one input.

    Attributes:
        name: `backbone.pooling`.
        task: `clip` or `frame`.
        input_CTHW: shape of the clip that was counted.
        num_parameters: all parameters.
        num_trainable: those that an optimiser would change.
        feature_dim: size of the vector before the classification layer.
        macs_by_kind: multiply-accumulates for one clip, forward. `attention` are the products of queries, keys
            and values; `elementwise` is 2 an element of batch norm, 1 of ReLU and of what is pooled.
    """

    name: str
    task: str
    input_CTHW: tuple[int, int, int, int]
    num_parameters: int
    num_trainable: int
    feature_dim: int
    macs_by_kind: dict[MacsKind, int]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the layers with weights and of attention, for one clip."""
        return sum(count for kind, count in self.macs_by_kind.items() if kind != "elementwise")

    @property
    def macs_as_published(self) -> int:
        """Multiply-accumulates by the counting of Kalfaoglu 2020: elementwise too, but no attention products."""
        return sum(count for kind, count in self.macs_by_kind.items() if kind != "attention")


def describe_model(model: VideoClassifier, *, num_frames: int, height_px: int, width_px: int) -> ModelDescription:
    """Count a model at one clip; nothing is computed, so large inputs cost nothing.

    Args:
        model: stays as it is.
        num_frames: T of the clip.
        height_px: H of the clip.
        width_px: W of the clip.
    """
    parameters = list(model.parameters())
    input_CTHW = (model.in_channels, num_frames, height_px, width_px)
    return ModelDescription(
        name=model.name,
        task=model.task,
        input_CTHW=input_CTHW,
        num_parameters=sum(parameter.numel() for parameter in parameters),
        num_trainable=sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        feature_dim=model.feature_dim,
        macs_by_kind=count_macs(model, (1, *input_CTHW))[0],
    )


def count_macs(model: nn.Module, input_shape: tuple[int, ...]) -> tuple[dict[MacsKind, int], object]:
    """Return the multiply-accumulates of one forward pass, and what it returned, on the meta device.

    Products of a layer's weights are told from those of activations alone, which are attention, by the operator that
    torch chooses: the former are matrix products, the latter batches of them.
    """
    # On the meta device tensors have shapes but no values.
    shadow = copy.deepcopy(model).to("meta").eval()
    counts: Counter[MacsKind] = Counter()
    for module in shadow.modules():
        for kinds, kind, count in _RULES:
            if isinstance(module, kinds):
                module.register_forward_hook(_counting_hook(counts, kind, count))
    # A fused attention kernel is no operator that torch counts on this device; its formula in single products is.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        answer = shadow(torch.empty(input_shape, device="meta"))
    macs = Counter(
        {str(operator): flops // 2 for operator, flops in counter.get_flop_counts().get("Global", {}).items()}
    )
    return {
        "convolution": macs["aten.convolution"],
        "linear": macs["aten.mm"] + macs["aten.addmm"] - counts["recurrent"],
        "recurrent": counts["recurrent"],
        "attention": macs["aten.bmm"] + macs["aten.baddbmm"],
        "elementwise": counts["elementwise"],
    }, answer


def _counting_hook(
    counts: Counter[MacsKind], kind: MacsKind, count: Callable[[nn.Module, Tensor, Tensor], int]
) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor | tuple[Tensor, ...]], None]:
    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor | tuple[Tensor, ...]) -> None:
        counts[kind] += count(module, inputs[0], output if isinstance(output, Tensor) else output[0])

    return hook


def _recurrent_macs(module: nn.Module, x: Tensor, y: Tensor) -> int:
    num_steps = x.shape[0] * x.shape[1]
    num_weights = sum(weight.numel() for weight in module.parameters() if weight.ndim == 2)
    return num_steps * num_weights


def _norm_macs(module: nn.Module, x: Tensor, y: Tensor) -> int:
    return 2 * y.numel()


def _activation_macs(module: nn.Module, x: Tensor, y: Tensor) -> int:
    return y.numel()


def _pooling_macs(module: nn.Module, x: Tensor, y: Tensor) -> int:
    return x.numel() if x.numel() > y.numel() else 0  # cached features have one place, which is no mean


_RULES: tuple[tuple[tuple[type[nn.Module], ...], MacsKind, Callable[[nn.Module, Tensor, Tensor], int]], ...] = (
    ((nn.LSTM, nn.GRU), "recurrent", _recurrent_macs),
    ((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), "elementwise", _norm_macs),
    ((nn.ReLU,), "elementwise", _activation_macs),
    (
        (nn.MaxPool2d, nn.MaxPool3d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, SpatialAverage),
        "elementwise",
        _pooling_macs,
    ),
)
