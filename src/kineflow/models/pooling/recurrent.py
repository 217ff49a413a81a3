"""LSTM over a clip's time steps."""

from typing import Literal

import torch
from torch import Tensor, nn

from kineflow.models.specs import ANY_BACKBONE, Options, PoolingSpec, Task

Summary = Literal["last", "mean"]


class LstmPooling(nn.Module):
    """Run an LSTM over time; answer for the clip or for every step.

    Args:
        feature_dim: D of the input.
        hidden_dim: size of the state, in each direction.
        num_layers: stacked layers.
        bidirectional: also read the clip backwards, which doubles the output's size.
        dropout: between stacked layers.
        every_step: return each step's state; else one vector a clip by `summary`.
        summary: `last` takes the state after the whole clip was read (in both directions), `mean` the mean
            over the steps.

    Source: Kalfaoglu 2020, 3.3.1 (two layers of 512); Hochreiter and Schmidhuber 1997.
    """

    def __init__(
        self,
        *,
        feature_dim: int,
        hidden_dim: int = 512,
        num_layers: int = 2,
        bidirectional: bool = False,
        dropout: float = 0.0,
        every_step: bool = False,
        summary: Summary = "last",
    ) -> None:
        super().__init__()
        self.lstm = nn.LSTM(
            feature_dim,
            hidden_dim,
            num_layers,
            batch_first=True,
            bidirectional=bidirectional,
            dropout=dropout if num_layers > 1 else 0.0,  # torch warns of dropout that has no place
        )
        self.hidden_dim = hidden_dim
        self.every_step = every_step
        self.summary = summary
        self.feature_dim = hidden_dim * (2 if bidirectional else 1)

    def forward(self, features_BTD: Tensor) -> Tensor:
        """Return features_BD, or features_BTD where `every_step`."""
        states_BTD: Tensor = self.lstm(features_BTD)[0]
        if self.every_step:
            return states_BTD
        if self.summary == "mean":
            return states_BTD.mean(dim=1)
        if not self.lstm.bidirectional:
            return states_BTD[:, -1]
        # The backward direction has read the whole clip at the first step.
        return torch.cat((states_BTD[:, -1, : self.hidden_dim], states_BTD[:, 0, self.hidden_dim :]), dim=1)


def _build(feature_dim: int, task: Task, options: Options) -> nn.Module:
    return LstmPooling(
        feature_dim=feature_dim,
        hidden_dim=int(options["hidden_dim"]),
        num_layers=int(options["num_layers"]),
        bidirectional=bool(options["bidirectional"]),
        dropout=float(options["lstm_dropout"]),
        every_step=task == "frame",
        summary="mean" if options["summary"] == "mean" else "last",
    )


SPECS = (
    PoolingSpec(
        name="lstm",
        build=_build,
        tasks=ANY_BACKBONE,
        source="Hochreiter and Schmidhuber 1997; sizes of Kalfaoglu 2020, 3.3.1",
        options={
            "hidden_dim": 512,
            "num_layers": 2,
            "bidirectional": False,
            "lstm_dropout": 0.0,
            "summary": "last",
        },
    ),
)
