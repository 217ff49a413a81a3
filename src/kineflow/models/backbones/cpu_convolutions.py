"""3D convolutions that are right on a CPU where oneDNN's are not, and fast where channels are convolved one by one."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Triple = tuple[int, int, int]
Padding = str | tuple[int, ...]

FEW_CHANNELS = 32  # of the input in each group; below, one step of a clip was seen to come out wrong


class SoundConv3d(nn.Conv3d):
    """A convolution that pads short clips by itself where it runs on a CPU: zeros in the input mean the same.

    Where oneDNN pads them (torch 2.13), values are what happens to be in memory, or the process ends:

    - two steps, a kernel of three: the gradient of the kernel, bf16, AVX512-BF16;
    - one step, an odd and small number of channels in each group: the output, bf16, AMX;
    - five to seven steps, a kernel of seven with stride two: the gradient of the kernel, float32.
    """

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Return what `nn.Conv3d` does."""
        if x_BCTHW.device.type != "cpu" or not self._is_at_risk(x_BCTHW.shape[2]):
            return self.convolve(x_BCTHW, self.padding)
        in_time, *in_space = (int(side) for side in self.padding)
        return self.convolve(F.pad(x_BCTHW, (0, 0, 0, 0, in_time, in_time)), (0, *in_space))

    def convolve(self, x_BCTHW: Tensor, padding: Padding) -> Tensor:
        """Return the convolution of `x_BCTHW` with `padding` zeros round it."""
        if self.padding_mode != "zeros":
            return super().forward(x_BCTHW)
        return F.conv3d(x_BCTHW, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def _is_at_risk(self, num_steps: int) -> bool:
        if isinstance(self.padding, str) or self.padding_mode != "zeros":
            return False
        if self.padding[0] == 0 or num_steps > self.kernel_size[0]:
            return False
        has_few_channels = self.in_channels // self.groups < FEW_CHANNELS
        return num_steps == 2 or has_few_channels or self.kernel_size[0] > 3


class DepthwiseConv3d(SoundConv3d):
    """A convolution of each channel by itself, of which a CPU finds the gradients fast.

    oneDNN (torch 2.13) has kernels for the gradients of depthwise convolutions in 2D, and none in 3D. What
    `_is_depthwise` does not want is left to PyTorch.
    """

    def convolve(self, x_BCTHW: Tensor, padding: Padding) -> Tensor:
        """Return the convolution of `x_BCTHW` with `padding` zeros round it."""
        if _runs_elsewhere(x_BCTHW) or not _is_depthwise(self):
            return super().convolve(x_BCTHW, padding)
        assert not isinstance(padding, str)
        weight_C1THW = self.weight
        if torch.is_autocast_enabled("cpu") and x_BCTHW.dtype != torch.float64:  # which a Function does not heed itself
            dtype = torch.get_autocast_dtype("cpu")
            x_BCTHW, weight_C1THW = x_BCTHW.to(dtype), weight_C1THW.to(dtype)
        if self.kernel_size[1:] == (1, 1) and self.stride[1:] == (1, 1):  # of which oneDNN has all in 2D
            return _convolve_in_time(x_BCTHW, weight_C1THW, self.stride[0], padding[0])
        y_BCTHW: Tensor = _Depthwise.apply(x_BCTHW, weight_C1THW, self.stride, padding)
        return y_BCTHW


class PointwiseConv3d(nn.Conv3d):
    """A convolution of one position at a time: a matrix product, which leaves clips channels-last on a CPU."""

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Return what `nn.Conv3d` does."""
        if _runs_elsewhere(x_BCTHW):
            return super().forward(x_BCTHW)
        in_time, in_height, in_width = self.stride
        x_BTHWC = x_BCTHW[:, :, ::in_time, ::in_height, ::in_width].permute(0, 2, 3, 4, 1)
        return F.linear(x_BTHWC, self.weight.flatten(1), self.bias).permute(0, 4, 1, 2, 3)


def with_cpu_convolutions(network: nn.Module) -> nn.Module:
    """Make every plain 3D convolution of `network` one of this module, in place; names and values stay.

    Pointwise ones become matrix products only beside depthwise ones, where everything else is channels-last too.
    """
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv3d)]
    has_depthwise = any(map(_is_depthwise, convolutions))
    for module in convolutions:
        if type(module).forward is not nn.Conv3d.forward:
            continue
        if _is_depthwise(module):
            module.__class__ = DepthwiseConv3d
        else:
            module.__class__ = PointwiseConv3d if has_depthwise and _is_pointwise(module) else SoundConv3d
    return network


def _is_depthwise(convolution: nn.Conv3d) -> bool:
    """Whether `DepthwiseConv3d` can do what `convolution` does."""
    if convolution.padding_mode != "zeros" or isinstance(convolution.padding, str) or convolution.bias is not None:
        return False
    if not 1 < convolution.groups == convolution.in_channels == convolution.out_channels:
        return False
    if convolution.dilation != (1, 1, 1):
        return False
    return all(zeros < side for zeros, side in zip(convolution.padding, convolution.kernel_size, strict=True))


def _is_pointwise(convolution: nn.Conv3d) -> bool:
    return convolution.kernel_size == (1, 1, 1) and convolution.padding == (0, 0, 0) and convolution.groups == 1


def _runs_elsewhere(x: Tensor) -> bool:
    """Whether a GPU, a compiler or an exporter takes care of it."""
    return x.device.type != "cpu" or torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined]


def _convolve_in_time(x_BCTHW: Tensor, weight_C1T11: Tensor, stride: int, padding: int) -> Tensor:
    """As a 2D convolution over steps and positions."""
    num_batch, channels, num_steps, height, width = x_BCTHW.shape
    x_BTPC = x_BCTHW.permute(0, 2, 3, 4, 1).reshape(num_batch, num_steps, height * width, channels)
    kernel_C1T1 = weight_C1T11[..., 0]
    y_BCTP = F.conv2d(x_BTPC.permute(0, 3, 1, 2), kernel_C1T1, None, (stride, 1), (padding, 0), groups=channels)
    return y_BCTP.unflatten(3, (height, width))


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BCTHW: Tensor, weight_C1THW: Tensor, stride: Triple, padding: Triple) -> Tensor:
        ctx.save_for_backward(x_BCTHW, weight_C1THW)
        ctx.stride, ctx.padding = stride, padding
        return F.conv3d(x_BCTHW, weight_C1THW, None, stride, padding, groups=len(weight_C1THW))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BCTHW: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x_BCTHW, weight_C1THW = ctx.saved_tensors
        wants_x, wants_weight = ctx.needs_input_grad[:2]
        of_x = of_weight = None
        with torch.autocast("cpu", enabled=False):
            if wants_x:
                shape_THW: Triple = tuple(x_BCTHW.shape[2:])
                of_x = _input_gradient(grad_BCTHW, weight_C1THW, shape_THW, ctx.stride, ctx.padding)
            if wants_weight:
                of_weight = _kernel_gradient(grad_BCTHW, x_BCTHW, weight_C1THW, ctx.stride, ctx.padding)
        return of_x, of_weight, None, None


def _input_gradient(
    grad_BCTHW: Tensor, weight_C1THW: Tensor, shape_THW: Triple, stride: Triple, padding: Triple
) -> Tensor:
    """The gradient of the output, spread out by the stride, convolved with the kernel turned round."""
    kernel_THW = weight_C1THW.shape[2:]
    if stride != (1, 1, 1):
        dense = [
            side + 2 * zeros - reach + 1 for side, zeros, reach in zip(shape_THW, padding, kernel_THW, strict=True)
        ]
        spread_BCTHW = grad_BCTHW.new_zeros(len(grad_BCTHW), *dense, grad_BCTHW.shape[1]).permute(0, 4, 1, 2, 3)
        spread_BCTHW[:, :, :: stride[0], :: stride[1], :: stride[2]] = grad_BCTHW
        grad_BCTHW = spread_BCTHW
    in_time, *in_space = (reach - 1 - zeros for reach, zeros in zip(kernel_THW, padding, strict=True))
    if grad_BCTHW.shape[2] <= kernel_THW[0]:  # as in `SoundConv3d`
        grad_BCTHW, in_time = F.pad(grad_BCTHW, (0, 0, 0, 0, in_time, in_time)), 0
    turned_C1THW = weight_C1THW.flip(2, 3, 4)
    return F.conv3d(grad_BCTHW, turned_C1THW, None, 1, (in_time, *in_space), groups=len(turned_C1THW))


def _kernel_gradient(
    grad_BCTHW: Tensor, x_BCTHW: Tensor, weight_C1THW: Tensor, stride: Triple, padding: Triple
) -> Tensor:
    """For each step of the kernel the gradient of a 2D kernel, which looked at the frames that the step falls on."""
    num_in, num_out = x_BCTHW.shape[2], grad_BCTHW.shape[2]
    in_time, *in_space = padding
    reach_HW = map(max, weight_C1THW.shape[3:], stride[1:])
    if any(side <= reach for side, reach in zip(x_BCTHW.shape[3:], reach_HW, strict=True)):
        of_height, of_width = in_space  # where oneDNN pads them, the gradient is what happens to be in memory
        x_BCTHW, in_space = F.pad(x_BCTHW, (of_width, of_width, of_height, of_height)), [0, 0]
    gradient_C1THW = torch.zeros_like(weight_C1THW)
    for step in range(weight_C1THW.shape[2]):
        shift = step - in_time  # the step looks at frame t * stride + shift for output t
        first = max(0, -(shift // stride[0]))
        stop = min(num_out, (num_in - 1 - shift) // stride[0] + 1)
        if first >= stop:
            continue
        start = first * stride[0] + shift
        seen = x_BCTHW[:, :, start : start + (stop - first - 1) * stride[0] + 1 : stride[0]]
        _, gradient_C1THW[:, :, step], _ = torch.ops.aten.convolution_backward(
            _frames(grad_BCTHW[:, :, first:stop]),
            _frames(seen),
            weight_C1THW[:, :, step].contiguous(memory_format=torch.channels_last),
            None,
            stride[1:],
            in_space,
            (1, 1),
            False,
            (0, 0),
            len(weight_C1THW),
            (False, True, False),
        )
    return gradient_C1THW


def _frames(x_BCTHW: Tensor) -> Tensor:
    """As (B * T, C, H, W), channels-last."""
    return x_BCTHW.permute(0, 2, 3, 4, 1).flatten(0, 1).permute(0, 3, 1, 2)
