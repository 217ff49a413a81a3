"""Temporal convolutional networks: dilated with residuals, and encoder-decoder."""

from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from kineflow.errors import ParamsError
from kineflow.models.pooling.steps import last_step, mean_step, norm_steps, visible_steps
from kineflow.models.specs import ANY_BACKBONE, Options, PoolingSpec, Task

Norm = Literal["batch", "layer", "weight", "none"]
Summary = Literal["last", "mean"]


class TemporalConv(nn.Module):
    """A dilated convolution over time that keeps the number of steps.

    Args:
        in_dim: D of the input.
        out_dim: D of the output.
        kernel_size: taps; odd unless causal.
        dilation: steps between taps.
        causal: see this step and those before; else as many before as behind.
        normed: the size and the direction of each filter are learned apart (Salimans and Kingma 2016, equation 2).

    Attributes:
        memory: in a stream, the steps that the next ones look back on; None outside a stream.
    """

    def __init__(
        self, in_dim: int, out_dim: int, *, kernel_size: int, dilation: int, causal: bool, normed: bool = False
    ) -> None:
        super().__init__()
        conv = nn.Conv1d(in_dim, out_dim, kernel_size, dilation=dilation)
        self.conv = weight_norm(conv) if normed else conv
        span = (kernel_size - 1) * dilation
        self.padding = (span, 0) if causal else (span // 2, span // 2)
        self.memory: list[object] | None = None

    def forward(self, x_BDT: Tensor) -> Tensor:
        """Return (B, out_dim, T)."""
        if self.memory:
            (before_BDT,) = self.memory
            assert isinstance(before_BDT, Tensor)
            padded_BDT = torch.cat((before_BDT, x_BDT), dim=2)
        else:
            padded_BDT = F.pad(x_BDT, self.padding)
        if self.memory is not None:
            self.memory = [padded_BDT[:, :, padded_BDT.shape[2] - self.padding[0] :]]
        convolved: Tensor = self.conv(padded_BDT)
        return convolved


class ResidualBlock1d(nn.Module):
    """Twice convolution, norm, ReLU and dropout; the sum of that and the shortcut, after ReLU, goes on.

    Args:
        in_dim: D of the input.
        num_filters: D of the output.
        kernel_size: as for `TemporalConv`.
        dilation: as for `TemporalConv`.
        causal: as for `TemporalConv`.
        norm: of each convolution.
        dropout: of whole channels.
        goes_on: another block reads the sum; else it is not computed.
    """

    def __init__(
        self,
        in_dim: int,
        num_filters: int,
        *,
        kernel_size: int,
        dilation: int,
        causal: bool,
        norm: Norm,
        dropout: float,
        goes_on: bool,
    ) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            TemporalConv(
                dim, num_filters, kernel_size=kernel_size, dilation=dilation, causal=causal, normed=norm == "weight"
            )
            for dim in (in_dim, num_filters)
        )
        self.norms = nn.ModuleList(build_norm(norm, num_filters) for _ in range(2))
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout1d(dropout)
        self.goes_on = goes_on
        needs_match = goes_on and in_dim != num_filters
        self.shortcut = nn.Conv1d(in_dim, num_filters, 1) if needs_match else nn.Identity()

    def forward(self, x_BDT: Tensor, visible_B1T: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return what the next block reads and what the output adds up, both (B, num_filters, T)."""
        residual = x_BDT
        for conv, norm in zip(self.convs, self.norms, strict=True):
            convolved = conv(hide(residual, visible_B1T))
            if visible_B1T is not None and isinstance(norm, nn.BatchNorm1d):
                normed = norm_steps(norm, convolved.transpose(1, 2), visible_B1T[:, 0]).transpose(1, 2)
            else:
                normed = norm(convolved)
            residual = self.dropout(self.relu(normed))
        onward = self.relu(residual + self.shortcut(x_BDT)) if self.goes_on else residual
        return onward, residual


class TcnLayer(nn.Module):
    """Residual blocks with dilations 1, 2, 4, ...; the output is the sum of what each block adds."""

    def __init__(
        self,
        in_dim: int,
        num_filters: int,
        *,
        num_dilations: int,
        kernel_size: int,
        causal: bool,
        norm: Norm,
        dropout: float,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            ResidualBlock1d(
                in_dim if index == 0 else num_filters,
                num_filters,
                kernel_size=kernel_size,
                dilation=2**index,
                causal=causal,
                norm=norm,
                dropout=dropout,
                goes_on=index + 1 < num_dilations,
            )
            for index in range(num_dilations)
        )

    def forward(self, x_BDT: Tensor, visible_B1T: Tensor | None) -> Tensor:
        """Return (B, num_filters, T)."""
        added = []
        for block in self.blocks:
            x_BDT, residual = block(x_BDT, visible_B1T)
            added.append(residual)
        return torch.stack(added).sum(dim=0)


class TcnPooling(nn.Module):
    """Dilated temporal convolutions; answer for the clip or for every step.

    Args:
        feature_dim: D of the input.
        num_filters: D of the output.
        num_layers: TCN layers on top of each other.
        num_dilations: blocks of a layer, dilated by 1, 2, 4, ...
        kernel_size: taps; odd unless causal.
        causal: no step sees later ones.
        norm: of each convolution, over batch and time (`batch`) or over each step's channels (`layer`); or of its
            filters (`weight`).
        dropout: of whole channels.
        every_step: return each step's vector; else one vector a clip: the last step's where causal, and else the mean.

    Raises:
        ParamsError: an even kernel that is not causal.

    Source: Lea et al. 2016, Temporal convolutional networks; layers as https://github.com/philipperemy/keras-tcn,
    which the mouse LSTM and TCN thesis used, 4.3: one layer, 256 filters, kernel 3, batch norm.
    """

    def __init__(
        self,
        *,
        feature_dim: int,
        num_filters: int = 256,
        num_layers: int = 1,
        num_dilations: int = 6,
        kernel_size: int = 3,
        causal: bool = True,
        norm: Norm = "batch",
        dropout: float = 0.0,
        every_step: bool = False,
    ) -> None:
        super().__init__()
        if kernel_size % 2 == 0 and not causal:
            raise ParamsError(
                f"a TCN that is not causal needs an odd kernel_size, not {kernel_size}: it looks as far back as ahead"
            )
        self.feature_dim = num_filters
        self.every_step = every_step
        self.causal = causal
        self.layers = nn.ModuleList(
            TcnLayer(
                feature_dim if index == 0 else num_filters,
                num_filters,
                num_dilations=num_dilations,
                kernel_size=kernel_size,
                causal=causal,
                norm=norm,
                dropout=dropout,
            )
            for index in range(num_layers)
        )

    def why_no_stream(self) -> str:
        """Return why the pooling cannot go on where a clip ended, or an empty string."""
        if not self.causal:
            return "its convolutions look ahead: set the model option causal"
        return "" if self.every_step else "it has one answer for a whole clip"

    def forward(self, features_BTD: Tensor, num_steps_B: Tensor | None = None) -> Tensor:
        """Return features_BD, or features_BTD where `every_step`; D = `num_filters`."""
        visible_B1T = _visible(features_BTD, num_steps_B)
        x_BDT = features_BTD.transpose(1, 2)
        for layer in self.layers:
            x_BDT = layer(x_BDT, visible_B1T)
        states_BTD = x_BDT.transpose(1, 2)
        if self.every_step:
            return states_BTD
        return last_step(states_BTD, num_steps_B) if self.causal else mean_step(states_BTD, num_steps_B)


class EncoderDecoderPooling(nn.Module):
    """Convolve and halve the steps a few times, then double and convolve as often; every step keeps its place.

    Each convolution is followed by dropout, ReLU and division by the largest channel of the step. Clips of any length
    are filled with zeros to a multiple of 2 to the number of levels.

    Args:
        feature_dim: D of the input.
        num_filters: of the first level; each deeper one has half as many more.
        num_levels: times that the steps are halved.
        kernel_size: taps; odd.
        dropout: of whole channels.
        every_step: return each step's vector; else their mean.

    Raises:
        ParamsError: the kernel is even.

    Source: Lea et al. 2017, Temporal convolutional networks for action segmentation and detection, 3.1 (ED-TCN).
    """

    def __init__(
        self,
        *,
        feature_dim: int,
        num_filters: int = 64,
        num_levels: int = 2,
        kernel_size: int = 5,
        dropout: float = 0.0,
        every_step: bool = False,
    ) -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise ParamsError(f"an encoder-decoder TCN needs an odd kernel_size, not {kernel_size}: it is centred")
        widths = [num_filters + index * (num_filters // 2) for index in range(num_levels)]
        self.feature_dim = widths[0]
        self.every_step = every_step
        self.num_levels = num_levels

        def convs(dims: list[int]) -> nn.ModuleList:
            return nn.ModuleList(
                TemporalConv(before, size, kernel_size=kernel_size, dilation=1, causal=False)
                for before, size in pairwise(dims)
            )

        self.encoder = convs([feature_dim, *widths])
        self.decoder = convs([widths[-1], *reversed(widths)])
        self.dropout = nn.Dropout1d(dropout)

    def forward(self, features_BTD: Tensor, num_steps_B: Tensor | None = None) -> Tensor:
        """Return features_BD, or features_BTD where `every_step`; D = `num_filters`."""
        batch_size, num_steps, _ = features_BTD.shape
        lengths_B = num_steps_B
        if lengths_B is None:
            lengths_B = torch.full((batch_size,), num_steps, device=features_BTD.device)
        lengths_B = lengths_B.to(features_BTD.device)
        x_BDT = F.pad(features_BTD.transpose(1, 2), (0, -num_steps % 2**self.num_levels))
        lengths = [lengths_B]
        for conv in self.encoder:
            x_BDT = F.max_pool1d(self._activate(conv, x_BDT, lengths[-1]), 2)
            lengths.append((lengths[-1] + 1) // 2)
        for conv, level_lengths_B in zip(self.decoder, reversed(lengths[:-1]), strict=True):
            x_BDT = self._activate(conv, x_BDT.repeat_interleave(2, dim=2), level_lengths_B)
        states_BTD = x_BDT[:, :, :num_steps].transpose(1, 2)
        return states_BTD if self.every_step else mean_step(states_BTD, num_steps_B)

    def _activate(self, conv: nn.Module, x_BDT: Tensor, lengths_B: Tensor) -> Tensor:
        visible_B1T = visible_steps(lengths_B, num_steps=x_BDT.shape[2])[:, None]
        rectified_BDT = F.relu(self.dropout(conv(hide(x_BDT, visible_B1T))))
        normed_BDT = rectified_BDT / (rectified_BDT.amax(dim=1, keepdim=True) + 1e-5)
        return hide(normed_BDT, visible_B1T)


class StepNorm(nn.Module):
    """Layer norm over each step's channels."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)

    def forward(self, x_BDT: Tensor) -> Tensor:
        """Return (B, D, T)."""
        normed: Tensor = self.norm(x_BDT.transpose(1, 2)).transpose(1, 2)
        return normed


def build_norm(norm: Norm, dim: int) -> nn.Module:
    """Return the norm of this name for x_BDT; that of the weights is the convolution's own."""
    if norm == "batch":
        return nn.BatchNorm1d(dim)
    return StepNorm(dim) if norm == "layer" else nn.Identity()


def hide(x_BDT: Tensor, visible_B1T: Tensor | None) -> Tensor:
    """Return x with zeros where a step is padding, as a convolution's own padding would be."""
    return x_BDT if visible_B1T is None else x_BDT.masked_fill(~visible_B1T, 0)


def _visible(features_BTD: Tensor, num_steps_B: Tensor | None) -> Tensor | None:
    if num_steps_B is None:
        return None
    return visible_steps(num_steps_B.to(features_BTD.device), num_steps=features_BTD.shape[1])[:, None]


def _build_dilated(feature_dim: int, task: Task, options: Options) -> nn.Module:
    norm: Norm = options["norm"]  # type: ignore[assignment]  # one of the spec's choices
    return TcnPooling(
        feature_dim=feature_dim,
        num_filters=int(options["num_filters"]),
        num_layers=int(options["num_layers"]),
        num_dilations=int(options["num_dilations"]),
        kernel_size=int(options["kernel_size"]),
        causal=bool(options["causal"]),
        norm=norm,
        dropout=float(options["tcn_dropout"]),
        every_step=task == "frame",
    )


def _build_encoder_decoder(feature_dim: int, task: Task, options: Options) -> nn.Module:
    return EncoderDecoderPooling(
        feature_dim=feature_dim,
        num_filters=int(options["num_filters"]),
        num_levels=int(options["num_levels"]),
        kernel_size=int(options["kernel_size"]),
        dropout=float(options["tcn_dropout"]),
        every_step=task == "frame",
    )


SPECS = (
    PoolingSpec(
        name="tcn",
        build=_build_dilated,
        tasks=ANY_BACKBONE,
        source="Lea et al. 2016, Temporal convolutional networks; sizes of the mouse LSTM and TCN thesis, 4.3",
        options={
            "num_filters": 256,
            "num_layers": 1,
            "num_dilations": 6,
            "kernel_size": 3,
            "causal": True,
            "norm": "batch",
            "tcn_dropout": 0.0,
        },
        choices={"norm": ("batch", "layer", "weight", "none")},
        padded=True,
    ),
    PoolingSpec(
        name="tcn_ed",
        build=_build_encoder_decoder,
        tasks=ANY_BACKBONE,
        source="Lea et al. 2017, Temporal convolutional networks for action segmentation and detection",
        why_apart={"3d": "it halves the time steps twice, and clips leave few of them"},
        options={"num_filters": 64, "num_levels": 2, "kernel_size": 5, "tcn_dropout": 0.0},
        padded=True,
    ),
)
