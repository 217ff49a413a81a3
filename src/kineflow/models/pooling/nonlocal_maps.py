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
        self.theta = nn.Conv3d(channels, inner_channels, 1)
        # Softmax does not see what is added to all keys alike, so a bias there could not learn.
        self.phi = nn.Conv3d(channels, inner_channels, 1, bias=False)
        self.g = nn.Conv3d(channels, inner_channels, 1)
        self.out = nn.Conv3d(inner_channels, channels, 1)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Return (B, C, T, H, W)."""
        query_BNC, key_BNC, value_BNC = (
            layer(x_BCTHW).flatten(2).transpose(1, 2) for layer in (self.theta, self.phi, self.g)
        )
        # Products are not scaled: the paper's softmax is of the plain ones.
        attended_BNC = F.scaled_dot_product_attention(query_BNC, key_BNC, value_BNC, scale=1.0)
        attended_BCTHW = attended_BNC.transpose(1, 2).unflatten(2, x_BCTHW.shape[2:])
        answer: Tensor = x_BCTHW + self.out(attended_BCTHW)
        return answer


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
