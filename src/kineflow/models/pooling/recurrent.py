"""LSTM and GRU over a clip's time steps."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from kineflow.errors import ParamsError
from kineflow.models.pooling.steps import last_step, mean_step, norm_steps, visible_steps
from kineflow.models.specs import ANY_BACKBONE, Options, PoolingSpec, Task

Cell = Literal["lstm", "gru"]
Summary = Literal["last", "mean"]


class RecurrentPooling(nn.Module):
    """Run recurrent layers over time; answer for the clip or for every step.

    Args:
        cell: `lstm` or `gru`; the first layer, and those of its size stacked on it, carry this name.
        feature_dim: D of the input.
        hidden_dims: size of the state in each direction, layer by layer. Layers of one size become one module; the
            others are one module each.
        bidirectional: also read the clip backwards, which doubles the output's size.
        dropout: between layers.
        input_dropout: before the first.
        projected_dim: size that a linear layer gives the features before all; None: no such layer.
        batch_norm: normalise the last layer's states over the clips and steps of a batch.
        every_step: return each step's state; else one vector a clip by `summary`.
        summary: `last` takes the state after the whole clip was read (in both directions), `mean` the mean
            over the steps.

    Attributes:
        feature_dim: size of the output.
        memory: what a stream goes on from, one state a layer; None outside a stream.
    """

    def __init__(
        self,
        *,
        cell: Cell,
        feature_dim: int,
        hidden_dims: Sequence[int],
        bidirectional: bool = False,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        projected_dim: int | None = None,
        batch_norm: bool = False,
        every_step: bool = False,
        summary: Summary = "last",
    ) -> None:
        super().__init__()
        directions = 2 if bidirectional else 1
        self.cell = cell
        self.bidirectional = bidirectional
        self.every_step = every_step
        self.summary = summary
        self.feature_dim = directions * hidden_dims[-1]
        self.projection = nn.Identity() if projected_dim is None else nn.Linear(feature_dim, projected_dim)
        self.input_dropout = nn.Dropout(input_dropout)
        make = {"lstm": nn.LSTM, "gru": nn.GRU}[cell]
        input_dim = projected_dim or feature_dim
        stacked = len(hidden_dims) if len(set(hidden_dims)) == 1 else 1
        # Torch warns of dropout that has no place.
        inner_dropout = dropout if stacked > 1 else 0.0
        first = make(
            input_dim, hidden_dims[0], stacked, batch_first=True, bidirectional=bidirectional, dropout=inner_dropout
        )
        self.add_module(cell, first)
        self.between = nn.Dropout(dropout)
        self.narrower = nn.ModuleList(
            make(directions * before, size, batch_first=True, bidirectional=bidirectional)
            for before, size in zip(hidden_dims[stacked - 1 :], hidden_dims[stacked:], strict=False)
        )
        self.norm = nn.BatchNorm1d(self.feature_dim) if batch_norm else nn.Identity()
        self.memory: list[object] | None = None

    def why_no_stream(self) -> str:
        """Return why the pooling cannot go on where a clip ended, or an empty string."""
        if self.bidirectional:
            return "its backward direction needs the whole clip"
        return "" if self.every_step else "it has one answer for a whole clip"

    def forward(self, features_BTD: Tensor, num_steps_B: Tensor | None = None) -> Tensor:
        """Return features_BD, or features_BTD where `every_step`."""
        states_BTD = self.input_dropout(self.projection(features_BTD))
        layers = [getattr(self, self.cell), *self.narrower]
        before = self.memory or [None] * len(layers)
        after: list[object] = []
        for index, layer in enumerate(layers):
            states_BTD = self.between(states_BTD) if index else states_BTD
            states_BTD, last = _run(layer, states_BTD, num_steps_B, before[index])
            after.append(last)
        if self.memory is not None:
            self.memory = after
        if isinstance(self.norm, nn.BatchNorm1d):
            visible_BT = None
            if num_steps_B is not None:
                visible_BT = visible_steps(num_steps_B.to(states_BTD.device), num_steps=states_BTD.shape[1])
            states_BTD = norm_steps(self.norm, states_BTD, visible_BT)
        if self.every_step:
            return states_BTD
        if self.summary == "mean":
            return mean_step(states_BTD, num_steps_B)
        last_BD = last_step(states_BTD, num_steps_B)
        if not self.bidirectional:
            return last_BD
        # The backward direction has read the whole clip at the first step.
        half = self.feature_dim // 2
        return torch.cat((last_BD[:, :half], states_BTD[:, 0, half:]), dim=1)


def _run(layer: nn.Module, x_BTD: Tensor, num_steps_B: Tensor | None, before: object) -> tuple[Tensor, object]:
    if num_steps_B is None:
        states_BTD, after = layer(x_BTD, before)
        return states_BTD, after
    # Packed, each clip's backward direction begins at its own end.
    packed = pack_padded_sequence(x_BTD, num_steps_B.cpu(), batch_first=True, enforce_sorted=False)
    states, after = layer(packed, before)
    states_BTD, _ = pad_packed_sequence(states, batch_first=True, total_length=x_BTD.shape[1])
    return states_BTD, after


def _hidden_dims(options: Options) -> list[int]:
    hidden_dim, num_layers = int(options["hidden_dim"]), int(options["num_layers"])
    if not options.get("halving", False):
        return [hidden_dim] * num_layers
    if hidden_dim % 2 ** (num_layers - 1):
        raise ParamsError(
            f"LSTM pooling cannot halve hidden_dim {hidden_dim} {num_layers - 1} times: choose a multiple of "
            f"{2 ** (num_layers - 1)}, or fewer num_layers"
        )
    return [hidden_dim >> index for index in range(num_layers)]


def _build_lstm(feature_dim: int, task: Task, options: Options) -> nn.Module:
    return RecurrentPooling(
        cell="lstm",
        feature_dim=feature_dim,
        hidden_dims=_hidden_dims(options),
        bidirectional=bool(options["bidirectional"]),
        dropout=float(options["lstm_dropout"]),
        input_dropout=float(options["input_dropout"]),
        projected_dim=int(options["representation_dim"]) if "representation_dim" in options else None,
        every_step=task == "frame",
        summary="mean" if options["summary"] == "mean" else "last",
    )


def _build_gru(feature_dim: int, task: Task, options: Options) -> nn.Module:
    return RecurrentPooling(
        cell="gru",
        feature_dim=feature_dim,
        hidden_dims=_hidden_dims(options),
        bidirectional=bool(options["bidirectional"]),
        dropout=float(options["gru_dropout"]),
        batch_norm=bool(options["batch_norm"]),
        every_step=task == "frame",
        summary="mean" if options["summary"] == "mean" else "last",
    )


_LSTM_OPTIONS: Options = {
    "hidden_dim": 512,
    "num_layers": 2,
    "bidirectional": False,
    "lstm_dropout": 0.0,
    "summary": "last",
    "halving": False,
    "input_dropout": 0.0,
}
_SUMMARIES = {"summary": ("last", "mean")}

SPECS = (
    PoolingSpec(
        name="lstm",
        build=_build_lstm,
        tasks=ANY_BACKBONE,
        source="Hochreiter and Schmidhuber 1997; sizes of Kalfaoglu 2020, 3.3.1",
        options=_LSTM_OPTIONS,
        choices=_SUMMARIES,
        padded=True,
    ),
    PoolingSpec(
        name="fc_lstm",
        build=_build_lstm,
        tasks=ANY_BACKBONE,
        source="a linear layer before the LSTM: image representations of 512 or 1024, fish thesis, 4.6.2",
        why_apart={"3d": "its linear layer represents single images"},
        options={**_LSTM_OPTIONS, "representation_dim": 512},
        choices=_SUMMARIES,
        padded=True,
    ),
    PoolingSpec(
        name="gru",
        build=_build_gru,
        tasks=ANY_BACKBONE,
        source="Cho et al. 2014; size and batch norm of the Inception-v3 and GRU thesis, 6.1",
        options={
            "hidden_dim": 512,
            "num_layers": 1,
            "bidirectional": False,
            "gru_dropout": 0.0,
            "batch_norm": True,
            "summary": "last",
        },
        choices=_SUMMARIES,
        padded=True,
    ),
)
