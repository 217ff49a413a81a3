"""A plain transformer encoder over a clip's steps: fixed positions, no class token, no masking."""

import math

import torch
from torch import Tensor, nn

from kineflow.errors import ParamsError
from kineflow.models.pooling.bert import TransformerBlock
from kineflow.models.pooling.steps import mean_step, visible_steps
from kineflow.models.specs import ANY_BACKBONE, Options, PoolingSpec, Task


def sinusoidal_positions(num_steps: int, *, dim: int) -> Tensor:
    """Return positions_TD, float32: step t has sin(t w_i) in column 2 i and cos(t w_i) beside it, w_i = 10000^(-2i/D).

    Source: Vaswani et al. 2017, 3.5.
    """
    steps_T1 = torch.arange(num_steps)[:, None]
    columns_D = torch.arange(dim)
    rates_D = torch.exp((columns_D // 2 * 2) * (-math.log(10000.0) / dim))
    angles_TD = steps_T1 * rates_D
    return torch.where(columns_D % 2 == 0, angles_TD.sin(), angles_TD.cos())


class TransformerPooling(nn.Module):
    """Add fixed positions, attend, and take the mean over the steps; clips may have any length.

    Args:
        feature_dim: D, kept in the output; divisible by `num_heads`.
        num_heads: attention heads.
        num_blocks: transformer blocks, each with norms before its two halves.
        dropout: inside the feed-forward networks.
        every_step: return each step's vector; else their mean.

    Raises:
        ParamsError: the features cannot be divided among the heads.

    Source: Vaswani et al. 2017, Attention is all you need (the encoder).
    """

    def __init__(
        self, *, feature_dim: int, num_heads: int, num_blocks: int, dropout: float, every_step: bool = False
    ) -> None:
        super().__init__()
        if feature_dim % num_heads:
            raise ParamsError(
                f"a transformer cannot divide {feature_dim} features among {num_heads} heads: choose num_heads "
                f"among the divisors of {feature_dim}"
            )
        self.feature_dim = feature_dim
        self.every_step = every_step
        self.blocks = nn.ModuleList(
            TransformerBlock(dim=feature_dim, num_heads=num_heads, dropout=dropout) for _ in range(num_blocks)
        )
        self.norm = nn.LayerNorm(feature_dim)

    def forward(self, features_BTD: Tensor, num_steps_B: Tensor | None = None) -> Tensor:
        """Return features_BD, or features_BTD where `every_step`."""
        num_steps, dim = features_BTD.shape[1:]
        visible_BT = None
        if num_steps_B is not None:
            visible_BT = visible_steps(num_steps_B.to(features_BTD.device), num_steps=num_steps)
        x_BTD = features_BTD + sinusoidal_positions(num_steps, dim=dim).to(features_BTD)
        for block in self.blocks:
            x_BTD = block(x_BTD, visible_BT)
        x_BTD = self.norm(x_BTD)
        return x_BTD if self.every_step else mean_step(x_BTD, num_steps_B)


def _build(feature_dim: int, task: Task, options: Options) -> nn.Module:
    return TransformerPooling(
        feature_dim=feature_dim,
        num_heads=int(options["num_heads"]),
        num_blocks=int(options["num_blocks"]),
        dropout=float(options["transformer_dropout"]),
        every_step=task == "frame",
    )


SPECS = (
    PoolingSpec(
        name="transformer",
        build=_build,
        tasks=ANY_BACKBONE,
        source="Vaswani et al. 2017, Attention is all you need",
        options={"num_heads": 8, "num_blocks": 2, "transformer_dropout": 0.1},
        padded=True,
    ),
)
