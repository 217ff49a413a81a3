"""Rep-Flow-50: a (2+1)D ResNet-50 that computes the optical flow of its own features in the middle.

Source: Piergiovanni and Ryoo 2019, Representation flow for action recognition. Sizes and constants as in
https://github.com/piergiaj/representation-flow-cvpr19/blob/ac5c3ff133d5956685ceb61dbefec413e569ca3f/rep_flow_layer.py
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kineflow.models.backbones.bottleneck3d import NUM_BLOCKS, Stage, Triple, build_stage, chain
from kineflow.models.backbones.clip_network import CLIP_POOLINGS, ClipNetwork
from kineflow.models.backbones.resnet2d import initialise_convolutions
from kineflow.models.backbones.same_padding import SameConv3d, SameMaxPool3d
from kineflow.models.specs import BackboneSpec, Options, Task

NUM_ITERATIONS = 10
FLOW_CHANNELS = 32
_TINY = 1e-12


class RepresentationFlow(nn.Module):
    """TV-L1 optical flow between neighbouring time steps of features, as a layer that learns its kernels and weights.

    Features are reduced to few channels and scaled to 0..255 over each clip; a fixed number of the primal-dual
    iterations of TV-L1 gives a flow of two numbers for each of these channels; the flow, expanded again, is added to
    the features. As the paper has it, and unlike its published code, each channel has its own flow and kernels along x
    and y; and a clip is scaled by its own values, so that its answer does not depend on its neighbours.

    Args:
        channels: of input and output.
        flow_channels: in which flow is computed.
        num_iterations: of TV-L1.
    """

    def __init__(
        self, channels: int, *, flow_channels: int = FLOW_CHANNELS, num_iterations: int = NUM_ITERATIONS
    ) -> None:
        super().__init__()
        self.num_iterations = num_iterations
        self.bottleneck = nn.Conv3d(channels, flow_channels, 1, bias=False)
        self.unbottleneck = nn.Conv3d(2 * flow_channels, channels, 1, bias=False)
        self.bn = nn.BatchNorm3d(channels)
        central, forward = torch.tensor([-0.5, 0.0, 0.5]), torch.tensor([-1.0, 1.0])
        self.gradient_x = nn.Parameter(central.repeat(flow_channels, 1))
        self.gradient_y = nn.Parameter(central.repeat(flow_channels, 1))
        self.flow_gradient_x = nn.Parameter(forward.repeat(flow_channels, 1))
        self.flow_gradient_y = nn.Parameter(forward.repeat(flow_channels, 1))
        self.divergence_x = nn.Parameter(forward.repeat(flow_channels, 1))
        self.divergence_y = nn.Parameter(forward.repeat(flow_channels, 1))
        self.theta = nn.Parameter(torch.tensor(0.3))
        self.data_weight = nn.Parameter(torch.tensor(0.15))
        self.step = nn.Parameter(torch.tensor(0.25))

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Return (B, C, T - 1, H, W); T is 2 or more."""
        small_BCTHW = _scale_to_bytes(self.bottleneck(x_BCTHW).float())
        before, after = small_BCTHW[:, :, :-1], small_BCTHW[:, :, 1:]
        batch_size, _, num_steps = before.shape[:3]
        device = "cpu" if x_BCTHW.is_meta else x_BCTHW.device.type
        with torch.autocast(device, enabled=False):
            flow_NCHW = self.compute_flow(before.transpose(1, 2).flatten(0, 1), after.transpose(1, 2).flatten(0, 1))
        flow_BCTHW = flow_NCHW.unflatten(0, (batch_size, num_steps)).transpose(1, 2)
        answer = x_BCTHW[:, :, :-1] + self.bn(self.unbottleneck(flow_BCTHW))
        return F.relu(answer)

    def compute_flow(self, before_NCHW: Tensor, after_NCHW: Tensor) -> Tensor:
        """Return (N, 2 C, H, W): the flow along x of every channel, then along y, after all iterations."""
        slope_x = _differ(F.pad(after_NCHW, (1, 1, 0, 0), mode="replicate"), self.gradient_x, along="x")
        slope_y = _differ(F.pad(after_NCHW, (0, 0, 1, 1), mode="replicate"), self.gradient_y, along="y")
        slope_squared = slope_x.square() + slope_y.square() + _TINY
        difference = after_NCHW - before_NCHW
        limit = self.data_weight * self.theta
        flow_x, flow_y = torch.zeros_like(difference), torch.zeros_like(difference)
        dual_x = dual_y = (flow_x, flow_y)
        for _ in range(self.num_iterations):
            residual = difference + slope_x * flow_x + slope_y * flow_y
            # Thresholding: a step along the slope, as far as the residual asks but never beyond the limit.
            along = torch.minimum(torch.maximum(residual / slope_squared, -limit), limit)
            flow_x = flow_x - along * slope_x + self.theta * self._divergence(*dual_x)
            flow_y = flow_y - along * slope_y + self.theta * self._divergence(*dual_y)
            dual_x = self._ascend(dual_x, flow_x)
            dual_y = self._ascend(dual_y, flow_y)
        return torch.cat((flow_x, flow_y), dim=1)

    def _ascend(self, dual: tuple[Tensor, Tensor], flow_NCHW: Tensor) -> tuple[Tensor, Tensor]:
        rate = self.step / self.theta
        # Forward differences, zero behind the last column and row.
        slope_x = _differ(F.pad(flow_NCHW, (0, 1, 0, 0), mode="replicate"), self.flow_gradient_x, along="x")
        slope_y = _differ(F.pad(flow_NCHW, (0, 0, 0, 1), mode="replicate"), self.flow_gradient_y, along="y")
        shrink = 1 + rate * (slope_x.square() + slope_y.square() + _TINY).sqrt()
        return (dual[0] + rate * slope_x) / shrink, (dual[1] + rate * slope_y) / shrink

    def _divergence(self, dual_x: Tensor, dual_y: Tensor) -> Tensor:
        # Backward differences: the last column and row count as zero, as what lies before the first.
        padded_x = F.pad(dual_x[..., :-1], (1, 1, 0, 0))
        padded_y = F.pad(dual_y[..., :-1, :], (0, 0, 1, 1))
        along_x = _differ(padded_x, self.divergence_x, along="x")
        return along_x + _differ(padded_y, self.divergence_y, along="y")


def build_rep_flow_50(*, in_channels: int) -> ClipNetwork:
    """Build it; the flow layer stands between the second and the third stage, whose maps have 512 channels."""
    layers: dict[str, nn.Module] = {
        "conv1": nn.Conv3d(in_channels, 64, 7, stride=2, bias=False),
        "bn1": nn.BatchNorm3d(64, eps=1e-3, momentum=0.01),
        "relu": nn.ReLU(inplace=True),
        "maxpool": SameMaxPool3d((3, 3, 3), (2, 2, 2)),
    }
    channels = 64
    for index, num_blocks in enumerate(NUM_BLOCKS[50]):
        mid = 64 * 2**index
        temporal = tuple(3 if block in (0, 1) or block % 2 else 1 for block in range(num_blocks))
        stage = Stage(num_blocks, mid, 4 * mid, (1, 1, 1) if index == 0 else (1, 2, 2), temporal)
        layers[f"layer{index + 1}"] = build_stage(channels, stage, build_middle=_same_flat_middle)
        channels = 4 * mid
        if index == 1:
            layers["rep_flow"] = RepresentationFlow(channels)
    network = chain(layers)
    initialise_convolutions(network)
    return ClipNetwork(
        network, feature_dim=channels, first_layer="conv1", temporal_stride=4, min_frames=11, min_side_px=7
    )


def _same_flat_middle(channels: int, stride_THW: Triple, index: int) -> nn.Module:
    return SameConv3d(channels, channels, (1, 3, 3), stride_THW)


def _differ(x_NCHW: Tensor, taps_CK: Tensor, *, along: str) -> Tensor:
    """Convolve each channel by its own taps, along x or y."""
    weight = taps_CK[:, None, None, :] if along == "x" else taps_CK[:, None, :, None]
    return F.conv2d(x_NCHW, weight, groups=len(taps_CK))


def _scale_to_bytes(x_BCTHW: Tensor) -> Tensor:
    low = x_BCTHW.amin(dim=(1, 2, 3, 4), keepdim=True)
    high = x_BCTHW.amax(dim=(1, 2, 3, 4), keepdim=True)
    return 255 * (x_BCTHW - low) / (high - low).clamp_min(_TINY)


def _build(in_channels: int, task: Task, options: Options) -> nn.Module:
    return build_rep_flow_50(in_channels=in_channels)


SPECS = (
    BackboneSpec(
        name="rep_flow_50",
        input="3d",
        build=_build,
        poolings=CLIP_POOLINGS,
        source="Piergiovanni and Ryoo 2019, Representation flow for action recognition",
        tasks=("clip",),
        why_not="its strides leave one time step for every 4 frames",
        stated_THW=(32, 224, 224),
        receptive_frames=None,  # its flow layer scales features by the extremes of the clip
    ),
)
