"""MoMo and MoMo-Adam (Schaipp et al., arXiv 2305.07583), of the authors' package ``momo-opt``."""

from collections.abc import Callable
from typing import Any

import torch
from momo import Momo, MomoAdam
from torch import Tensor

from dog.closure import loss_of
from rivals.gradients import only_with_gradients

_COUNTERS = ("_number_steps", "loss_avg", "lb")
_Optimizer: Any = torch.optim.Optimizer  # Any: what the package's classes add has no types


class _Mended(_Optimizer):
    """Skips parameters without a gradient, saves its counters, and tells its step size.

    The package keeps the number of steps, the average loss and its lower bound as attributes, which
    no state_dict has. Here the first param group has them, too.
    """

    _watched: tuple[Tensor, Tensor, dict[str, Any]] | None = None

    def step(self, closure: Callable[[], Tensor] | None = None, loss: Tensor | None = None) -> Any:
        """Step once, with the loss, or a closure that computes it and the gradients."""
        loss = loss_of(closure, loss)
        with only_with_gradients(self) as groups:
            if not groups:
                return loss
            self._begin(p for group in groups for p in group["params"])
            p = groups[-1]["params"][-1]  # of the head: few weights, and its gradient is not 0
            self._watched = p, p.detach().clone(), groups[-1]
            super().step(loss=loss)
        self.param_groups[0]["counters"] = {name: getattr(self, name) for name in _COUNTERS}
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go back to where the state was saved."""
        super().load_state_dict(state_dict)
        for name, value in self.param_groups[0].get("counters", {}).items():
            setattr(self, name, value)

    def telemetry(self) -> list[dict[str, float]]:
        """Return τ_t, the step size along the averaged gradient (of MoMo-Adam: divided by D_t).

        The package does not keep it: it is measured by the change of one tensor. Reading waits for
        the device.
        """
        if self._watched is None:
            return []
        p, before, group = self._watched
        change = before - p.detach() * (1 + group["lr"] * group["weight_decay"])
        length = self._direction(p, group).norm()
        eta = (change.norm() / length).item() if length != 0 else 0.0
        return [{"lr": group["lr"], "eta": eta}]


class MomoAdapter(_Mended, Momo):
    """MoMo for parameters without a gradient, which can be resumed.

    The package prepares the averages of all parameters at the first step alone. A parameter whose
    gradient comes later begins here as the others did.
    """

    def _begin(self, parameters: Any) -> None:
        for p in parameters:
            if self._number_steps and "grad_avg" not in self.state[p]:
                grad = p.grad * (0 if self.bias_correction else 1)
                self.state[p].update(grad_avg=grad, grad_dot_w=torch.sum(p.detach() * grad))

    def _direction(self, p: Tensor, group: dict[str, Any]) -> Any:
        return self.state[p]["grad_avg"]


class MomoAdamAdapter(_Mended, MomoAdam):
    """MoMo-Adam that can be resumed."""

    def _begin(self, parameters: Any) -> None:
        """Do nothing: the package prepares each parameter when its first gradient comes."""

    def _direction(self, p: Tensor, group: dict[str, Any]) -> Any:
        state, beta2 = self.state[p], group["betas"][1]
        scale = (state["grad_avg_sq"] / (1 - beta2**self._number_steps)).sqrt() + group["eps"]
        return state["grad_avg"] / scale
