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

from dog.closure import loss_of


class SPSMax(Optimizer):
    r"""SGD whose step size is found from the loss of each batch.

    .. math::
        x_{t+1} = x_t - \eta_t g_t, \qquad
        \eta_t = \min\Bigl(\frac{f_t(x_t) - f^*}{c\,\|g_t\|^2},\ \eta_{\max},\
                \gamma\, \eta_{t-1}\Bigr)

    where :math:`f_t` is the loss of the batch and :math:`f^*` its minimum. All parameters share one
    step size. A loss below :math:`f^*`, or a gradient of 0, moves nothing and leaves the step size
    as it is. A step does not wait for the device.

    The bound :math:`\gamma\, \eta_{t-1}` is the authors' for deep networks: γ is 2 to the power of
    batch size over number of examples, by which the step size at most doubles in an epoch.

    Args:
        params: parameters, or dicts that define parameter groups, of which the first one's options
            count. A parameter without a gradient is left as it is.
        c: the factor of the denominator. Default: 0.5, as in the authors' code.
        eta_max: the largest step size. Default: 1.
        f_star: the least loss that a batch can have. Default: 0, which cross-entropy has.
        growth: γ, by which a step size may be longer than the one before. Default: without bound.

    Raises:
        ValueError: for an argument that is out of its range, or a :meth:`step` without a loss.
    """

    def __init__(
        self,
        params: ParamsT,
        c: float = 0.5,
        eta_max: float = 1.0,
        f_star: float = 0.0,
        growth: float = math.inf,
    ) -> None:
        if not (c > 0 and eta_max > 0 and growth > 1 and math.isfinite(f_star)):
            raise ValueError(
                "c and eta_max must be positive, growth above 1, f_star finite; "
                f"got c={c}, eta_max={eta_max}, growth={growth}, f_star={f_star}"
            )
        super().__init__(params, {"c": c, "eta_max": eta_max, "f_star": f_star, "growth": growth})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None, loss: Any = None) -> Any:
        """Update the parameters that have a gradient; return the loss.

        Args:
            closure: computes the loss and the gradients, and returns the loss.
            loss: the loss that the gradients are of, where there is no closure.
        """
        loss = loss_of(closure, loss)
        if loss is None:
            raise ValueError("SPS_max needs the loss: step(loss=loss), or step(closure)")
        params = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        if not params:
            return loss
        gradients: Any = [p.grad for p in params]
        norm2 = get_total_norm(gradients).double().square()
        options = self.param_groups[0]
        excess = (torch.as_tensor(loss, dtype=torch.float64).detach() - options["f_star"]).clamp(0)
        last = self.param_groups[0].get("eta", torch.full_like(norm2, options["eta_max"]))
        bound = (last * options["growth"]).clamp(max=options["eta_max"])
        polyak = excess / (options["c"] * norm2)
        moves = (excess > 0) & (norm2 > 0)
        eta = torch.where(moves, torch.minimum(polyak, bound), last)
        torch._foreach_sub_(params, torch._foreach_mul(gradients, eta * moves))
        for group in self.param_groups:
            group["eta"] = eta
        return loss

    def telemetry(self) -> list[dict[str, float]]:
        """Return η_t of the latest step as ``eta``; empty before the first step."""
        group = self.param_groups[0]
        return [{"eta": float(group["eta"])}] if "eta" in group else []
