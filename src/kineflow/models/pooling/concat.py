"""Concatenation: the steps of a clip side by side, one long vector, which knows their order."""

from collections.abc import Mapping

from torch import Tensor, nn

from kineflow.errors import ParamsError
from kineflow.models.specs import InputKind, Options, PoolingSpec, Task

CLIP_ONLY: Mapping[InputKind, tuple[Task, ...]] = {"2d": ("clip",), "3d": ("clip",), "embedding": ("clip",)}
WHY_NOT_FRAMES = "a concatenation has one answer for the clip"


class ConcatPooling(nn.Module):
    """Join the features of all steps, in their order; then, where asked for, one linear layer with ReLU.

    Args:
        feature_dim: D of the input.
        num_steps: T; clips of another length are refused.
        fc_dim: size of the linear layer; None: no such layer.

    Source: Kalfaoglu 2020, 3.3.1 and 4.2.3.
    """

    def __init__(self, *, feature_dim: int, num_steps: int, fc_dim: int | None = None) -> None:
        super().__init__()
        self.num_steps = num_steps
        self.feature_dim = fc_dim or num_steps * feature_dim
        self.fc: nn.Module = nn.Identity()
        if fc_dim is not None:
            self.fc = nn.Sequential(nn.Linear(num_steps * feature_dim, fc_dim), nn.ReLU())

    def forward(self, features_BTD: Tensor) -> Tensor:
        """Return features (B, num_steps x D), or (B, fc_dim).

        Raises:
            ParamsError: the clips have another number of steps.
        """
        if features_BTD.shape[1] != self.num_steps:
            raise ParamsError(
                f"the clip has {features_BTD.shape[1]} steps but concatenation was made for {self.num_steps}: set "
                f"the model option num_steps to {features_BTD.shape[1]}"
            )
        joined: Tensor = self.fc(features_BTD.flatten(1))
        return joined


def build_concat(feature_dim: int, task: Task, options: Options) -> nn.Module:
    """Build it from the options `num_steps` and, where there is one, `fc_dim`."""
    fc_dim = int(options["fc_dim"]) if "fc_dim" in options else None
    return ConcatPooling(feature_dim=feature_dim, num_steps=int(options["num_steps"]), fc_dim=fc_dim)


SPECS = (
    PoolingSpec(
        name="concat",
        build=build_concat,
        tasks=CLIP_ONLY,
        source="Kalfaoglu 2020, 3.3.1",
        why_not=WHY_NOT_FRAMES,
        options={"num_steps": 16},
    ),
    PoolingSpec(
        name="concat_fc",
        build=build_concat,
        tasks=CLIP_ONLY,
        source="Kalfaoglu 2020, 4.2.3",
        why_not=WHY_NOT_FRAMES,
        options={"num_steps": 16, "fc_dim": 512},
    ),
)
