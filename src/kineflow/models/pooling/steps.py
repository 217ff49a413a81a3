"""Which time steps of a padded clip are real."""

import torch
from torch import Tensor, nn


def visible_steps(num_steps_B: Tensor, *, num_steps: int) -> Tensor:
    """Return visible_BT, bool: True for the first `num_steps_B` of `num_steps` steps of each clip."""
    return torch.arange(num_steps, device=num_steps_B.device) < num_steps_B[:, None]


def norm_steps(norm: nn.Module, states_BTD: Tensor, visible_BT: Tensor | None) -> Tensor:
    """Return the states through `norm`, which reads states_ND: batch norm's statistics know nothing of padding.

    Args:
        visible_BT: bool; a step that is False is padding, whose answer is zero. None: all are real.
    """
    if visible_BT is None:
        normed_ND: Tensor = norm(states_BTD.flatten(0, 1))
        return normed_ND.unflatten(0, states_BTD.shape[:2])
    normed_ND = norm(states_BTD[visible_BT])
    normed_BTD = normed_ND.new_zeros(states_BTD.shape)
    normed_BTD[visible_BT] = normed_ND
    return normed_BTD


def last_step(states_BTD: Tensor, num_steps_B: Tensor | None) -> Tensor:
    """Return features_BD: each clip's last step, or the last before its padding."""
    if num_steps_B is None:
        return states_BTD[:, -1]
    clips_B = torch.arange(len(states_BTD), device=states_BTD.device)
    return states_BTD[clips_B, num_steps_B.to(states_BTD.device) - 1]


def mean_step(states_BTD: Tensor, num_steps_B: Tensor | None) -> Tensor:
    """Return features_BD: the mean over each clip's steps, padding left out."""
    if num_steps_B is None:
        return states_BTD.mean(dim=1)
    num_steps_B = num_steps_B.to(states_BTD.device)
    hidden_BT = ~visible_steps(num_steps_B, num_steps=states_BTD.shape[1])
    summed_BD = states_BTD.masked_fill(hidden_BT[..., None], 0).sum(dim=1)
    return summed_BD / num_steps_B[:, None]
