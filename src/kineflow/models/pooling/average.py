"""Pooling without parameters: the mean over time, one frame, or every step as it is."""

import torch
from torch import Tensor, nn

from kineflow.models.pooling.steps import mean_step
from kineflow.models.specs import ANY_BACKBONE, TASKS, Options, PoolingSpec, Task


class SpatialAverage(nn.Module):
    """The mean over height and width: what poolings read that know no places in the image."""

    def forward(self, maps_BDTHW: Tensor) -> Tensor:
        """Return features_BTD."""
        return maps_BDTHW.mean(dim=(3, 4)).transpose(1, 2)


class AveragePooling(nn.Module):
    """The mean over the time steps."""

    def __init__(self, *, feature_dim: int) -> None:
        super().__init__()
        self.feature_dim = feature_dim

    def forward(self, features_BTD: Tensor, num_steps_B: Tensor | None = None) -> Tensor:
        """Return features_BD."""
        return mean_step(features_BTD, num_steps_B)


class MiddleFrame(nn.Module):
    """The step in the middle of the clip, T // 2: what a model without temporal pooling sees of a clip."""

    def __init__(self, *, feature_dim: int) -> None:
        super().__init__()
        self.feature_dim = feature_dim

    def choose_frames(self, clips_BCTHW: Tensor, num_frames_B: Tensor | None = None) -> Tensor:
        """Return the clip's middle frame alone, so that the backbone need not run on the others."""
        if num_frames_B is not None:
            clips_B = torch.arange(len(clips_BCTHW), device=clips_BCTHW.device)
            return clips_BCTHW[clips_B, :, num_frames_B.to(clips_BCTHW.device) // 2].unsqueeze(2)
        middle = clips_BCTHW.shape[2] // 2
        return clips_BCTHW[:, :, middle : middle + 1]

    def forward(self, features_BTD: Tensor) -> Tensor:
        """Return features_BD."""
        return features_BTD[:, features_BTD.shape[1] // 2]


class EveryStep(nn.Module):
    """Each time step's own features, for the frame task; those of padding too."""

    def __init__(self, *, feature_dim: int) -> None:
        super().__init__()
        self.feature_dim = feature_dim

    def forward(self, features_BTD: Tensor, num_steps_B: Tensor | None = None) -> Tensor:
        """Return features_BTD unchanged."""
        return features_BTD


def _build_one_frame(feature_dim: int, task: Task, options: Options) -> nn.Module:
    return MiddleFrame(feature_dim=feature_dim) if task == "clip" else EveryStep(feature_dim=feature_dim)


def _build_average(feature_dim: int, task: Task, options: Options) -> nn.Module:
    return AveragePooling(feature_dim=feature_dim) if task == "clip" else EveryStep(feature_dim=feature_dim)


SPECS = (
    PoolingSpec(
        name="none",
        build=_build_one_frame,
        tasks=ANY_BACKBONE,
        source="the middle frame of a clip; each frame by itself",
        why_apart={"3d": "it looks at one frame, which is no clip"},
        padded=True,
    ),
    PoolingSpec(
        name="avg",
        build=_build_average,
        tasks={"2d": ("clip",), "3d": TASKS, "embedding": ("clip",)},
        source="Wang et al. 2016, Temporal segment networks",
        why_not="an average over time has one answer for the clip",
        padded=True,
    ),
)
