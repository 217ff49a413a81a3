"""A GRU whose state is a map: gates and candidate come from convolutions."""

import torch
from torch import Tensor, nn

from kineflow.models.pooling.average import SpatialAverage
from kineflow.models.pooling.steps import last_step
from kineflow.models.specs import ANY_BACKBONE, Options, PoolingSpec, Task


class ConvGruPooling(nn.Module):
    """Run a convolutional GRU over the maps, then take the mean over each state's positions.

    With x the step's map, h the state, and * a convolution: reset and update gates r, z = sigmoid(W * [x, h]); the
    candidate c = tanh(U * [x, r h]); the new state is (1 - z) h + z c. The first h is zero.

    Args:
        feature_dim: D of the maps.
        hidden_dim: channels of the state.
        kernel_size: odd; of the convolutions over height and width.
        every_step: return each step's state; else the last.

    Source: Ballas et al. 2016, Delving deeper into convolutional networks for learning video representations; 196
    channels of Kalfaoglu 2020, 3.3.1.
    """

    reads_maps = True

    def __init__(self, *, feature_dim: int, hidden_dim: int, kernel_size: int = 3, every_step: bool = False) -> None:
        super().__init__()
        self.every_step = every_step
        self.feature_dim = hidden_dim
        padding = kernel_size // 2
        self.gates = nn.Conv2d(feature_dim + hidden_dim, 2 * hidden_dim, kernel_size, padding=padding)
        self.candidate = nn.Conv2d(feature_dim + hidden_dim, hidden_dim, kernel_size, padding=padding)
        self.average = SpatialAverage()
        self.memory: list[object] | None = None

    def why_no_stream(self) -> str:
        """Return why the pooling cannot go on where a clip ended, or an empty string."""
        return "" if self.every_step else "it has one answer for a whole clip"

    def forward(self, maps_BDTHW: Tensor, num_steps_B: Tensor | None = None) -> Tensor:
        """Return features_BD, or features_BTD where `every_step`; D = `hidden_dim`."""
        batch_size, _, _, height, width = maps_BDTHW.shape
        state_BDHW = maps_BDTHW.new_zeros(batch_size, self.feature_dim, height, width)
        if self.memory:
            (remembered,) = self.memory
            assert isinstance(remembered, Tensor)
            state_BDHW = remembered
        states = []
        for map_BDHW in maps_BDTHW.unbind(2):
            state_BDHW = self._step(map_BDHW, state_BDHW)
            states.append(state_BDHW)
        if self.memory is not None:
            self.memory = [state_BDHW]
        states_BTD = self.average(torch.stack(states, dim=2))
        return states_BTD if self.every_step else last_step(states_BTD, num_steps_B)

    def _step(self, map_BDHW: Tensor, state_BDHW: Tensor) -> Tensor:
        gates = self.gates(torch.cat((map_BDHW, state_BDHW), dim=1)).sigmoid()
        reset, update = gates.chunk(2, dim=1)
        candidate = self.candidate(torch.cat((map_BDHW, reset * state_BDHW), dim=1)).tanh()
        return torch.lerp(state_BDHW.to(candidate.dtype), candidate, update)


def _build(feature_dim: int, task: Task, options: Options) -> nn.Module:
    return ConvGruPooling(feature_dim=feature_dim, hidden_dim=int(options["hidden_dim"]), every_step=task == "frame")


SPECS = (
    PoolingSpec(
        name="conv_gru",
        build=_build,
        tasks=ANY_BACKBONE,
        source="Ballas et al. 2016; size of Kalfaoglu 2020, 3.3.1",
        options={"hidden_dim": 196},
        padded=True,
    ),
)
