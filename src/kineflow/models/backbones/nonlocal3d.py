"""The non-local block inside 3D networks: every position attends to all positions of all frames."""

import torch.nn.functional as F
from torch import Tensor, nn

INITIAL_STD = 0.01


class NonLocal3d(nn.Module):
    """Attention over space and time with half the channels, batch norm and a shortcut.

    Keys and values are read from maps whose height and width are halved by max pooling, which saves three quarters
    of the products.

    Args:
        channels: of input and output; even.

    Source: Wang et al. 2018, Non-local neural networks (embedded Gaussian); Kalfaoglu 2020, 2.2.5. Names as in
    https://github.com/artest08/LateTemporalModeling3DCNN/blob/9ead09e41b38fb681be020e1924c6845bca426ed/models/non_local/models/resnet.py
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // 2
        self.theta = nn.Conv3d(channels, inner, 1)
        self.maxpool = nn.MaxPool3d((1, 2, 2))
        self.phi = nn.Conv3d(channels, inner, 1)
        self.g = nn.Conv3d(channels, inner, 1)
        self.out = nn.Conv3d(inner, channels, 1)
        self.bn = nn.BatchNorm3d(channels)
        self.initialise()

    def initialise(self) -> None:
        """Draw small kernels: with He's rule the softmax of a fresh block sees one position and no other."""
        for convolution in (self.theta, self.phi, self.g, self.out):
            nn.init.normal_(convolution.weight, std=INITIAL_STD)
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Return (B, C, T, H, W); H and W are 2 or more."""
        pooled_BCTHW = self.maxpool(x_BCTHW)
        query_BNC = self.theta(x_BCTHW).flatten(2).transpose(1, 2)
        key_BMC = self.phi(pooled_BCTHW).flatten(2).transpose(1, 2)
        value_BMC = self.g(pooled_BCTHW).flatten(2).transpose(1, 2)
        context_BNC = F.scaled_dot_product_attention(query_BNC, key_BMC, value_BMC)
        context_BCTHW = context_BNC.transpose(1, 2).unflatten(2, x_BCTHW.shape[2:])
        answer: Tensor = x_BCTHW + self.bn(self.out(context_BCTHW))
        return answer
