"""SWATS: Adam at first, and SGD from where Adam's own steps say which learning rate SGD should have.

Source: Keskar and Socher, Improving generalization performance by switching from Adam to SGD, 2017, algorithm 1.
"""

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor


class Swats(torch.optim.Optimizer):
    """Adam, until the learning rate that SGD would need to make Adam's steps has settled; then SGD with momentum.

    The rate is one for all parameters, as in the paper. A schedule goes on after the switch: what it multiplied
    Adam's rate by since then multiplies SGD's. Weight decay is decoupled in both phases. Whether it has switched, and
    to which rate, is in the state dict.

    Args:
        params: parameters or groups of them.
        lr: of Adam.
        betas: of Adam.
        momentum: of SGD; the paper takes the first of the betas.
        eps: of Adam.
        switch_eps: the rates of one step and of the running mean differ by less than this at the switch.
        weight_decay: of the groups that do not say otherwise.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        momentum: float = 0.9,
        eps: float = 1e-8,
        switch_eps: float = 1e-9,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "momentum": momentum, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)
        self.param_groups[0]["swats"] = {
            "step": 0,
            "mean_rate": 0.0,
            "switch_eps": switch_eps,
            "sgd_rate": None,
            "lr_at_switch": None,
        }

    @property
    def sgd_rate(self) -> float | None:
        """The rate of SGD that was found; None while Adam steps."""
        found: float | None = self.param_groups[0]["swats"]["sgd_rate"]
        return found

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step of whichever phase it is in."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        shared = self.param_groups[0]["swats"]
        shared["step"] += 1
        if shared["sgd_rate"] is None:
            self._step_adam(shared)
        else:
            self._step_sgd(shared)
        return loss

    def _step_adam(self, shared: dict[str, Any]) -> None:
        squared_step, along_gradient = 0.0, 0.0
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["mean"], state["square"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
                gradient = parameter.grad
                state["mean"].lerp_(gradient, 1 - beta1)
                state["square"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
                corrected_mean = state["mean"] / (1 - beta1 ** shared["step"])
                corrected_root = (state["square"] / (1 - beta2 ** shared["step"])).sqrt_().add_(group["eps"])
                step = corrected_mean.div_(corrected_root).mul_(-group["lr"])
                parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(step)
                squared_step += float((step * step).sum())
                along_gradient += float((step * gradient).sum())
        if along_gradient != 0.0:
            self._watch_rate(shared, squared_step / -along_gradient)

    def _watch_rate(self, shared: dict[str, Any], rate: float) -> None:
        beta2 = self.param_groups[0]["betas"][1]
        shared["mean_rate"] = beta2 * shared["mean_rate"] + (1 - beta2) * rate
        corrected = shared["mean_rate"] / (1 - beta2 ** shared["step"])
        if shared["step"] > 1 and corrected > 0 and abs(corrected - rate) < shared["switch_eps"]:
            shared["sgd_rate"] = corrected
            shared["lr_at_switch"] = self.param_groups[0]["lr"]
            for state in self.state.values():
                state.clear()

    def _step_sgd(self, shared: dict[str, Any]) -> None:
        for group in self.param_groups:
            momentum = group["momentum"]
            rate = shared["sgd_rate"] * group["lr"] / max(shared["lr_at_switch"], 1e-30)
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["velocity"] = torch.zeros_like(parameter)
                state["velocity"].mul_(momentum).add_(parameter.grad)
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(state["velocity"], alpha=-(1 - momentum) * rate)
