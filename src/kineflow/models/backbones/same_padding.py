"""TensorFlow's padding `same`, which networks that were trained there expect: uneven where a stride is."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


def same_padding(size: int, *, kernel: int, stride: int) -> tuple[int, int]:
    """Return what to add before and after one dimension, so that ceil(size / stride) windows fit."""
    total = max(kernel - (size % stride or stride), 0)
    return total // 2, total - total // 2


def pad_same(x_BCTHW: Tensor, *, kernel_THW: Sequence[int], stride_THW: Sequence[int]) -> Tensor:
    """Add zeros around time, height and width."""
    amounts: list[int] = []
    for size, kernel, stride in zip(x_BCTHW.shape[2:], kernel_THW, stride_THW, strict=True):
        amounts = [*same_padding(size, kernel=kernel, stride=stride), *amounts]  # F.pad begins with the last
    return F.pad(x_BCTHW, amounts)


class SameConv3d(nn.Conv3d):
    """A 3D convolution without bias, padded so."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: tuple[int, int, int], stride: tuple[int, int, int]
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, stride=stride, bias=False)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Return (B, out_channels, ceil(T / stride), ...)."""
        padded = pad_same(x_BCTHW, kernel_THW=self.kernel_size, stride_THW=self.stride)
        return F.conv3d(padded, self.weight, None, self.stride)


class SameMaxPool3d(nn.MaxPool3d):
    """3D max pooling of activations that are not negative, padded so."""

    def __init__(self, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> None:
        super().__init__(kernel, stride)
        self.kernel_THW = kernel
        self.stride_THW = stride

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Return (B, C, ceil(T / stride), ...)."""
        return super().forward(pad_same(x_BCTHW, kernel_THW=self.kernel_THW, stride_THW=self.stride_THW))
