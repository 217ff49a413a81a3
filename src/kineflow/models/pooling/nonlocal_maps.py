"""Non-local attention over the maps of all steps, before averaging or concatenation."""

from functools import partial
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from kineflow.models.pooling.average import AveragePooling, SpatialAverage
from kineflow.models.pooling.concat import CLIP_ONLY, WHY_NOT_FRAMES, build_concat
from kineflow.models.specs import Options, PoolingSpec, Task

After = Literal["avg", "concat"]


class NonLocalBlock(nn.Module):
    """Every position of every step attends to all others: softmax of query and key products, and a shortcut.

    Args:
        channels: of input and output.
        inner_channels: of queries, keys and values.

    Source: Wang et al. 2018, Non-local neural networks (embedded Gaussian); Kalfaoglu 2020, 2.2.5 and 3.3.1.
    """

    def __init__(self, *, channels: int, inner_channels: int) -> None:
        super().__init__()
        self.theta = nn.Linear(channels, inner_channels)
        # Softmax does not see what is added to all keys alike, so a bias there could not learn.
        self.phi = nn.Linear(channels, inner_channels, bias=False)
        self.g = nn.Linear(channels, inner_channels)
        self.out = nn.Linear(inner_channels, channels)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Return (B, C, T, H, W)."""
        x_BNC = x_BCTHW.flatten(2).transpose(1, 2)
        # Products are not scaled: the paper's softmax is of the plain ones.
        attended_BNC = F.scaled_dot_product_attention(self.theta(x_BNC), self.phi(x_BNC), self.g(x_BNC), scale=1.0)
        answer_BNC = x_BNC + self.out(attended_BNC)
        return answer_BNC.transpose(1, 2).unflatten(2, x_BCTHW.shape[2:])


class NonLocalPooling(nn.Module):
    """A non-local block on the maps, the mean over each step's positions, then another pooling over the steps."""

    reads_maps = True

    def __init__(self, *, block: NonLocalBlock, pooling: nn.Module) -> None:
        super().__init__()
        self.block = block
        self.average = SpatialAverage()
        self.pooling = pooling
        self.feature_dim = int(pooling.feature_dim)  # type: ignore[arg-type]

    def forward(self, maps_BDTHW: Tensor) -> Tensor:
        """Return features_BD, D as of the pooling."""
        features_BD: Tensor = self.pooling(self.average(self.block(maps_BDTHW)))
        return features_BD


def _build(after: After, feature_dim: int, task: Task, options: Options) -> nn.Module:
    block = NonLocalBlock(channels=feature_dim, inner_channels=int(options["inner_channels"]))
    if after == "avg":
        return NonLocalPooling(block=block, pooling=AveragePooling(feature_dim=feature_dim))
    return NonLocalPooling(block=block, pooling=build_concat(feature_dim, task, options))


_SOURCE = "Wang et al. 2018, Non-local neural networks; Kalfaoglu 2020, 3.3.1"

SPECS = (
    PoolingSpec(
        name="nonlocal_avg",
        build=partial(_build, "avg"),
        tasks=CLIP_ONLY,
        source=_SOURCE,
        why_not="an average over time has one answer for the clip",
        options={"inner_channels": 512},
    ),
    PoolingSpec(
        name="nonlocal_concat",
        build=partial(_build, "concat"),
        tasks=CLIP_ONLY,
        source=_SOURCE,
        why_not=WHY_NOT_FRAMES,
        options={"inner_channels": 512, "num_steps": 16},
    ),
    PoolingSpec(
        name="nonlocal_concat_fc",
        build=partial(_build, "concat"),
        tasks=CLIP_ONLY,
        source=f"{_SOURCE} and 4.2.3",
        why_not=WHY_NOT_FRAMES,
        options={"inner_channels": 512, "num_steps": 16, "fc_dim": 512},
    ),
)
