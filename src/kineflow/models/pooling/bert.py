"""Late temporal modelling with BERT: self-attention over a clip's time steps and a class token.

Source: Kalfaoglu 2020, 4.1.1 and 4.2.2; Kalfaoglu, Kalkan and Alatan, ECCV Workshops 2020. The thesis leaves
the place of norm and shortcut open: here they come before and around each half of a block, as is usual, which
also gives the published number of parameters.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kineflow.errors import ParamsError
from kineflow.models.pooling.steps import mean_step, visible_steps
from kineflow.models.specs import ANY_BACKBONE, Options, PoolingSpec, Task

INITIAL_STD = 0.02

Summary = Literal["token", "mean"]


class SelfAttention(nn.Module):
    """Multi-head self-attention.

    Args:
        dim: D, divisible by `num_heads`.
        num_heads: each attends in D / num_heads dimensions.
    """

    def __init__(self, *, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.project = nn.Linear(dim, dim)

    def forward(self, x_BND: Tensor, visible_BN: Tensor | None) -> Tensor:
        """Return (B, N, D).

        Args:
            x_BND: N tokens of D features.
            visible_BN: bool; a token that is False gets no attention weight. None: all are visible.
        """
        query, key, value = (
            layer(x_BND).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        visible_B11N = None if visible_BN is None else visible_BN[:, None, None, :]
        attended_BHNE = F.scaled_dot_product_attention(query, key, value, attn_mask=visible_B11N)
        projected: Tensor = self.project(attended_BHNE.transpose(1, 2).flatten(2))
        return projected


class TransformerBlock(nn.Module):
    """Self-attention, then a position-wise feed-forward network of 4 D hidden units with GELU."""

    def __init__(self, *, dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = SelfAttention(dim=dim, num_heads=num_heads)
        self.feed_forward_norm = nn.LayerNorm(dim)
        self.feed_forward = nn.Sequential(
            nn.Linear(dim, 4 * dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * dim, dim)
        )

    def forward(self, x_BND: Tensor, visible_BN: Tensor | None) -> Tensor:
        """Return (B, N, D)."""
        x_BND = x_BND + self.attention(self.attention_norm(x_BND), visible_BN)
        attended_BND: Tensor = x_BND + self.feed_forward(self.feed_forward_norm(x_BND))
        return attended_BND


class BertPooling(nn.Module):
    """Attend over the time steps and a learned class token.

    Args:
        feature_dim: D, kept in the output; divisible by `num_heads`.
        max_steps: learned positions; shorter clips use the first ones.
        num_heads: attention heads.
        num_blocks: transformer blocks.
        mask_prob: in training, the share of steps that are hidden from attention; the class token never is.
        dropout: inside the feed-forward network.
        every_step: return each step's vector; else one vector a clip by `summary`.
        summary: `token` takes the vector of a learned class token, `mean` does without one and takes the mean over
            the steps.
        normal_init: draw the linear layers' weights from a normal distribution of deviation 0.02, as the thesis does
            behind I3D alone; else torch's default.

    Raises:
        ParamsError: the features cannot be divided among the heads.
    """

    def __init__(
        self,
        *,
        feature_dim: int,
        max_steps: int = 16,
        num_heads: int = 8,
        num_blocks: int = 1,
        mask_prob: float = 0.2,
        dropout: float = 0.9,
        every_step: bool = False,
        summary: Summary = "token",
        normal_init: bool = False,
    ) -> None:
        super().__init__()
        if feature_dim % num_heads:
            raise ParamsError(
                f"BERT pooling cannot divide {feature_dim} features among {num_heads} heads: choose num_heads "
                f"among the divisors of {feature_dim}"
            )
        self.feature_dim = feature_dim
        self.max_steps = max_steps
        self.mask_prob = mask_prob
        self.every_step = every_step
        self.class_token: nn.Parameter | None = None
        if summary == "token":
            self.class_token = nn.Parameter(torch.randn(feature_dim) * INITIAL_STD)
        num_positions = max_steps + (summary == "token")
        self.positions = nn.Parameter(torch.randn(num_positions, feature_dim) * INITIAL_STD)
        self.blocks = nn.ModuleList(
            TransformerBlock(dim=feature_dim, num_heads=num_heads, dropout=dropout) for _ in range(num_blocks)
        )
        if normal_init:
            for module in self.blocks.modules():
                if isinstance(module, nn.Linear):
                    nn.init.normal_(module.weight, std=INITIAL_STD)

    def forward(self, features_BTD: Tensor, num_steps_B: Tensor | None = None) -> Tensor:
        """Return features_BD, or features_BTD where `every_step`.

        Raises:
            ParamsError: the clip has more steps than there are learned positions.
        """
        batch_size, num_steps, _ = features_BTD.shape
        if num_steps > self.max_steps:
            raise ParamsError(
                f"the clip has {num_steps} steps but BERT pooling learned {self.max_steps} positions: "
                f"set the model option max_steps to {num_steps} or more"
            )
        visible_BT = self._visible(features_BTD, num_steps_B)
        x_BND, visible_BN = features_BTD, visible_BT
        if self.class_token is not None:
            x_BND = torch.cat((self.class_token.expand(batch_size, 1, -1), x_BND), dim=1)
            visible_BN = None if visible_BT is None else F.pad(visible_BT, (1, 0), value=True)
        x_BND = x_BND + self.positions[: x_BND.shape[1]]
        for block in self.blocks:
            x_BND = block(x_BND, visible_BN)
        if self.every_step:
            return x_BND[:, -num_steps:]
        return mean_step(x_BND, num_steps_B) if self.class_token is None else x_BND[:, 0]

    def _visible(self, features_BTD: Tensor, num_steps_B: Tensor | None) -> Tensor | None:
        visible_BT = None
        if num_steps_B is not None:
            visible_BT = visible_steps(num_steps_B.to(features_BTD.device), num_steps=features_BTD.shape[1])
        if not self.training or self.mask_prob == 0:
            return visible_BT
        drawn_BT = torch.rand(features_BTD.shape[:2], device=features_BTD.device) >= self.mask_prob
        drawn_BT = drawn_BT if visible_BT is None else drawn_BT & visible_BT
        if self.class_token is not None:
            return drawn_BT
        # Without a token, a clip whose steps are all hidden has nothing to attend to: it keeps them.
        kept_BT = torch.ones_like(drawn_BT) if visible_BT is None else visible_BT
        return torch.where(drawn_BT.any(dim=1, keepdim=True), drawn_BT, kept_BT)


def _build(feature_dim: int, task: Task, options: Options) -> nn.Module:
    return BertPooling(
        feature_dim=feature_dim,
        max_steps=int(options["max_steps"]),
        num_heads=int(options["num_heads"]),
        num_blocks=int(options["num_blocks"]),
        mask_prob=float(options["mask_prob"]),
        dropout=float(options["bert_dropout"]),
        every_step=task == "frame",
        summary="mean" if options["summary"] == "mean" else "token",
        normal_init=bool(options["normal_init"]),
    )


SPECS = (
    PoolingSpec(
        name="bert",
        build=_build,
        tasks=ANY_BACKBONE,
        source="Kalfaoglu 2020, 4.1.1 and 4.2.2",
        options={
            "max_steps": 16,
            "num_heads": 8,
            "num_blocks": 1,
            "mask_prob": 0.2,
            "bert_dropout": 0.9,
            "summary": "token",
            "normal_init": False,
        },
        choices={"summary": ("token", "mean")},
        padded=True,
    ),
)
