"""Late fusion of SlowFast's pathways: one BERT for each, over its own frames.

Source: Kalfaoglu 2020, 4.1.3.
"""

import torch
from torch import Tensor, nn

from kineflow.errors import ParamsError
from kineflow.models.backbones.slowfast import ALPHA, FAST_DIM, REDUCED_SLOW_DIM
from kineflow.models.pooling.bert import BertPooling
from kineflow.models.specs import ANY_BACKBONE, Options, PoolingSpec, Task


class LateBertPooling(nn.Module):
    """Take both pathways' features apart, let a BERT read each, and put the two class tokens side by side.

    Args:
        feature_dim: of the input: 512 slow channels, then 256 fast ones for each of 4 frames.
        max_steps: learned positions of the slow pathway; the fast one has four times as many.
        num_heads: attention heads.
        num_blocks: transformer blocks.
        mask_prob: in training, the share of steps hidden from attention.
        dropout: inside the feed-forward networks.
    """

    def __init__(
        self,
        *,
        feature_dim: int,
        max_steps: int,
        num_heads: int,
        num_blocks: int,
        mask_prob: float,
        dropout: float,
    ) -> None:
        super().__init__()
        if feature_dim != REDUCED_SLOW_DIM + ALPHA * FAST_DIM:
            raise ParamsError(
                f"bert_late reads the features of slowfast_50_late, {REDUCED_SLOW_DIM + ALPHA * FAST_DIM} of them, "
                f"not {feature_dim}"
            )
        self.feature_dim = REDUCED_SLOW_DIM + FAST_DIM
        self.slow, self.fast = (
            BertPooling(
                feature_dim=dim,
                max_steps=steps,
                num_heads=num_heads,
                num_blocks=num_blocks,
                mask_prob=mask_prob,
                dropout=dropout,
            )
            for dim, steps in ((REDUCED_SLOW_DIM, max_steps), (FAST_DIM, ALPHA * max_steps))
        )

    def forward(self, features_BTD: Tensor) -> Tensor:
        """Return features_BD of 768: the slow pathway's token, then the fast one's."""
        slow_BTD = features_BTD[..., :REDUCED_SLOW_DIM]
        fast_BTD = features_BTD[..., REDUCED_SLOW_DIM:].unflatten(2, (ALPHA, FAST_DIM)).flatten(1, 2)
        return torch.cat((self.slow(slow_BTD), self.fast(fast_BTD)), dim=1)


def _build(feature_dim: int, task: Task, options: Options) -> nn.Module:
    return LateBertPooling(
        feature_dim=feature_dim,
        max_steps=int(options["max_steps"]),
        num_heads=int(options["num_heads"]),
        num_blocks=int(options["num_blocks"]),
        mask_prob=float(options["mask_prob"]),
        dropout=float(options["bert_dropout"]),
    )


SPECS = (
    PoolingSpec(
        name="bert_late",
        build=_build,
        tasks={"2d": (), "3d": ("clip",), "embedding": ()},
        source="Kalfaoglu 2020, 4.1.3",
        why_apart=dict.fromkeys(ANY_BACKBONE, "it takes the two pathways of slowfast_50_late apart"),
        why_not="two BERTs over different frames have one answer for the clip",
        options={"max_steps": 16, "num_heads": 8, "num_blocks": 1, "mask_prob": 0.2, "bert_dropout": 0.9},
    ),
)
