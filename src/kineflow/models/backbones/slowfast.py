"""SlowFast-50: a wide pathway that sees few frames, a narrow one that sees many, joined by lateral connections.

Source: Feichtenhofer et al. 2019, SlowFast networks for video recognition (8x8); Kalfaoglu 2020, 2.2.6 and 4.1.3.
"""

from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kineflow.errors import ParamsError
from kineflow.models.backbones.bottleneck3d import NUM_BLOCKS, Stage, build_stage, chain, flat_middle, stem
from kineflow.models.backbones.clip_network import CLIP_POOLINGS, ClipNetwork
from kineflow.models.backbones.kinetics_resnet3d import build_reduction_block
from kineflow.models.backbones.resnet2d import initialise_convolutions
from kineflow.models.specs import BackboneSpec, Options, Task

Form = Literal["", "early", "late"]
ALPHA = 4  # frames of the fast pathway for each of the slow one
BETA_INVERSE = 8  # channels of the slow pathway for each of the fast one
LATERAL_RATIO = 2  # channels of a lateral connection for each of the fast pathway
LATERAL_FRAMES = 7
SLOW_DIM, FAST_DIM = 2048, 256
REDUCED_SLOW_DIM, REDUCED_FAST_DIM = 512, 128
_SLOW_TEMPORAL = (1, 1, 3, 3)


class LateralConnection(nn.Module):
    """Bring the fast pathway's channels to the slow pathway's frames and put them behind its channels."""

    def __init__(self, fast_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(
            fast_channels,
            LATERAL_RATIO * fast_channels,
            (LATERAL_FRAMES, 1, 1),
            stride=(ALPHA, 1, 1),
            padding=(LATERAL_FRAMES // 2, 0, 0),
            bias=False,
        )
        self.bn = nn.BatchNorm3d(LATERAL_RATIO * fast_channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, slow_BCTHW: Tensor, fast_BCTHW: Tensor) -> Tensor:
        """Return the slow maps with 2 C' channels more, C' those of the fast ones, which have 4 T frames."""
        return torch.cat((slow_BCTHW, self.relu(self.bn(self.conv(fast_BCTHW)))), dim=1)


class SlowFast(nn.Module):
    """Both pathways, and how their last maps become one.

    Args:
        in_channels: channels of the clips.
        frame_stride: the fast pathway sees every `frame_stride`-th frame of the clip, the slow one every 4th of these.
        form: how the maps are joined at the slow pathway's frames.
            - nothing: fast maps are averaged over 4 frames; 2048 + 256 channels.
            - `early`: the same after reduction blocks; 512 + 128 channels.
            - `late`: the slow maps reduced to 512 channels, and behind them the fast maps of 4 frames, 256 channels
              each, unchanged: `bert_late` takes them apart again.
    """

    def __init__(self, *, in_channels: int, frame_stride: int, form: Form) -> None:
        super().__init__()
        self.frame_stride = frame_stride
        self.form = form
        self.slow = _build_pathway(in_channels, width=64, stem_frames=1, temporal=_SLOW_TEMPORAL, laterals=True)
        self.fast = _build_pathway(
            in_channels, width=64 // BETA_INVERSE, stem_frames=5, temporal=(3, 3, 3, 3), laterals=False
        )
        fast_channels = [64 // BETA_INVERSE, *(256 * 2**index // BETA_INVERSE for index in range(3))]
        self.laterals = nn.ModuleList(LateralConnection(channels) for channels in fast_channels)
        self.reduce_slow: nn.Module = nn.Identity()
        self.reduce_fast: nn.Module = nn.Identity()
        if form:
            self.reduce_slow = build_reduction_block(SLOW_DIM, out_channels=REDUCED_SLOW_DIM)
        if form == "early":
            self.reduce_fast = build_reduction_block(FAST_DIM, out_channels=REDUCED_FAST_DIM)

    def forward(self, clips_BCTHW: Tensor) -> Tensor:
        """Return maps_BDTHW at the slow pathway's frames.

        Raises:
            ParamsError: the form is `late` and the frames cannot be divided among the slow ones.
        """
        fast = clips_BCTHW[:, :, :: self.frame_stride]
        slow = fast[:, :, ::ALPHA]
        if self.form == "late" and fast.shape[2] % ALPHA:
            raise ParamsError(
                f"slowfast_50_late reads clips whose length is a multiple of {self.frame_stride * ALPHA} frames, not "
                f"{clips_BCTHW.shape[2]}: change num_frames or the option frame_stride"
            )
        for index, (slow_part, fast_part) in enumerate(zip(self.slow, self.fast, strict=True)):
            slow, fast = slow_part(slow), fast_part(fast)
            if index < len(self.laterals):
                slow = self.laterals[index](slow, fast)
        return self.join(self.reduce_slow(slow), self.reduce_fast(fast))

    def parallel_blocks(self) -> list[tuple[str, ...]]:
        """Return names of modules from input to output: what both pathways do at the same depth is one block."""
        blocks: list[tuple[str, ...]] = [("slow.0", "fast.0", "laterals.0")]
        for part, num_blocks in enumerate(NUM_BLOCKS[50], start=1):
            blocks += [(f"slow.{part}.{index}", f"fast.{part}.{index}") for index in range(num_blocks)]
            if part < len(self.laterals):
                blocks[-1] = (*blocks[-1], f"laterals.{part}")
        reductions = [name for name in ("reduce_slow", "reduce_fast") if list(getattr(self, name).parameters())]
        return [*blocks, tuple(reductions)] if reductions else blocks

    def join(self, slow_BCTHW: Tensor, fast_BCTHW: Tensor) -> Tensor:
        """Return one map of both pathways' channels at the slow one's frames, as `form` says."""
        if self.form == "late":
            by_step = fast_BCTHW.unflatten(2, (-1, ALPHA))  # (B, C, T, 4, H, W)
            fast_BCTHW = by_step.permute(0, 3, 1, 2, 4, 5).flatten(1, 2)
        else:
            fast_BCTHW = F.adaptive_avg_pool3d(fast_BCTHW, slow_BCTHW.shape[2:])  # type: ignore[arg-type]
        return torch.cat((slow_BCTHW, fast_BCTHW), dim=1)


def _build_pathway(
    in_channels: int, *, width: int, stem_frames: int, temporal: tuple[int, ...], laterals: bool
) -> nn.ModuleList:
    layers = stem(in_channels, kernel_THW=(stem_frames, 7, 7), stride_THW=(1, 2, 2), out_channels=width)
    layers["maxpool"] = nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))
    parts: list[nn.Module] = [chain(layers)]
    channels = width
    for index, (num_blocks, frames) in enumerate(zip(NUM_BLOCKS[50], temporal, strict=True)):
        joined = channels + (LATERAL_RATIO * channels // BETA_INVERSE if laterals else 0)
        mid = width * 2**index
        stage = Stage(num_blocks, mid, 4 * mid, (1, 1, 1) if index == 0 else (1, 2, 2), (frames,))
        parts.append(build_stage(joined, stage, build_middle=flat_middle))
        channels = 4 * mid
    return nn.ModuleList(parts)


def build_slowfast_50(*, in_channels: int, frame_stride: int = 2, form: Form = "") -> ClipNetwork:
    """Build SlowFast-50 8x8: of a clip of 64 frames the fast pathway sees 32 and the slow one 8."""
    network = SlowFast(in_channels=in_channels, frame_stride=frame_stride, form=form)
    initialise_convolutions(network)
    feature_dim = {
        "": SLOW_DIM + FAST_DIM,
        "early": REDUCED_SLOW_DIM + REDUCED_FAST_DIM,
        "late": REDUCED_SLOW_DIM + ALPHA * FAST_DIM,
    }[form]
    return ClipNetwork(
        network,
        feature_dim=feature_dim,
        first_layer=("slow.0.conv1", "fast.0.conv1"),
        temporal_stride=ALPHA * frame_stride,
    )


def _build(form: Form, in_channels: int, task: Task, options: Options) -> nn.Module:
    return build_slowfast_50(in_channels=in_channels, frame_stride=int(options["frame_stride"]), form=form)


_VARIANTS: tuple[tuple[str, Form, tuple[str, ...]], ...] = (
    ("slowfast_50", "", CLIP_POOLINGS),
    ("slowfast_50_early", "early", CLIP_POOLINGS),
    ("slowfast_50_late", "late", ("bert_late",)),
)

SPECS = tuple(
    BackboneSpec(
        name=name,
        input="3d",
        build=partial(_build, form),
        poolings=poolings,
        source="Feichtenhofer et al. 2019, SlowFast networks for video recognition"
        + ("; Kalfaoglu 2020, 4.1.3" if form else ""),
        tasks=("clip",),
        why_not="its slow pathway sees every fourth frame of the fast one",
        why_apart="its two pathways have to be taken apart again",
        stated_THW=(64, 224, 224),
        receptive_frames=209 if form else 193,
        options={"frame_stride": 2},
    )
    for name, form, poolings in _VARIANTS
)
