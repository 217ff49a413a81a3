"""The mean over time, then a wide layer: the head of X3D and of networks whose last maps have few channels."""

from torch import Tensor, nn

from kineflow.models.specs import ANY_BACKBONE, TASKS, Options, PoolingSpec, Task


class AverageFc(nn.Module):
    """Average over the time steps, then a linear layer without bias and ReLU.

    Args:
        feature_dim: D of the input.
        fc_dim: size of the answer.
        every_step: no average: the layer reads each step.

    Source: Feichtenhofer 2020, X3D.
    """

    def __init__(self, *, feature_dim: int, fc_dim: int, every_step: bool = False) -> None:
        super().__init__()
        self.feature_dim = fc_dim
        self.every_step = every_step
        self.fc = nn.Linear(feature_dim, fc_dim, bias=False)
        self.relu = nn.ReLU()

    def forward(self, features_BTD: Tensor) -> Tensor:
        """Return features_BD, or features_BTD where `every_step`."""
        read = features_BTD if self.every_step else features_BTD.mean(dim=1)
        activated: Tensor = self.relu(self.fc(read))
        return activated


def _build(feature_dim: int, task: Task, options: Options) -> nn.Module:
    return AverageFc(feature_dim=feature_dim, fc_dim=int(options["avg_fc_dim"]), every_step=task == "frame")


SPECS = (
    PoolingSpec(
        name="avg_fc",
        build=_build,
        tasks={"2d": ("clip",), "3d": TASKS, "embedding": ("clip",)},
        source="Feichtenhofer 2020, X3D",
        why_not="an average over time has one answer for the clip",
        why_apart=dict.fromkeys(ANY_BACKBONE, "its wide layer is for X3D, whose last maps have few channels"),
        options={"avg_fc_dim": 2048},
    ),
)
