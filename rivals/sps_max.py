"""SPS_max: SGD with a stochastic Polyak step size.

Source: Loizou, Vaswani, Laradji, Lacoste-Julien, "Stochastic Polyak Step-size for SGD: An Adaptive
Learning Rate for Fast Convergence", arXiv 2002.10542, 2020, equation (SPS_max).
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT


class SPSMax(Optimizer):
    r"""SGD whose step size is found from the loss of each batch.

    .. math::
        x_{t+1} = x_t - \eta_t g_t, \qquad
        \eta_t = \min\Bigl(\frac{f_t(x_t) - f^*}{c\,\|g_t\|^2},\ \eta_{\max}\Bigr)

    where :math:`f_t` is the loss of the batch and :math:`f^*` its minimum. All parameters share one
    step size. A loss below :math:`f^*` gives a step of 0. A step does not wait for the device. The
    authors' code has another bound for deep networks, which lets the step size at most double in an
    epoch; that variant is not here.

    Args:
        params: parameters, or dicts that define parameter groups. A parameter without a gradient is
            left as it is.
        c: the factor of the denominator. Default: 0.5, as in the authors' code.
        eta_max: the largest step size. Default: 1.
        f_star: the least loss that a batch can have. Default: 0, which cross-entropy has.

    Raises:
        ValueError: for an argument that is out of its range, or a :meth:`step` without a loss.
    """

    def __init__(
        self, params: ParamsT, c: float = 0.5, eta_max: float = 1.0, f_star: float = 0.0
    ) -> None:
        if not (c > 0 and eta_max > 0 and math.isfinite(f_star)):
            raise ValueError(
                "c and eta_max must be positive, f_star finite; "
                f"got c={c}, eta_max={eta_max}, f_star={f_star}"
            )
        super().__init__(params, {"c": c, "eta_max": eta_max, "f_star": f_star})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None, loss: Any = None) -> Any:
        """Update the parameters that have a gradient; return the loss.

        Args:
            closure: computes the loss and the gradients, and returns the loss.
            loss: the loss that the gradients are of, where there is no closure.
        """
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if loss is None:
            raise ValueError("SPS_max needs the loss: step(loss=loss), or step(closure)")
        params = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        if not params:
            return loss
        gradients: Any = [p.grad for p in params]
        norm2 = get_total_norm(gradients).double().square()
        c, eta_max, f_star = (self.defaults[name] for name in ("c", "eta_max", "f_star"))
        excess = (torch.as_tensor(loss, dtype=torch.float64).detach() - f_star).clamp(min=0)
        # A gradient of 0 moves nothing, with any step size.
        eta = torch.where(norm2 > 0, (excess / (c * norm2)).clamp(max=eta_max), eta_max)
        torch._foreach_sub_(params, torch._foreach_mul(gradients, eta))
        for group in self.param_groups:
            group["eta"] = eta
        return loss

    def telemetry(self) -> list[dict[str, float]]:
        """Return η_t of the latest step as ``eta``; empty before the first step."""
        group = self.param_groups[0]
        return [{"eta": float(group["eta"])}] if "eta" in group else []
