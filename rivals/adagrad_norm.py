"""AdaGrad-Norm: DoG without the distance.

Source: Ward, Wu, Bottou, "AdaGrad stepsizes: Sharp convergence over nonconvex landscapes", arXiv
1806.01811, 2018, algorithm 1.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim.optimizer import ParamsT

from rivals.by_group import ByGroup


class AdaGradNorm(ByGroup):
    r"""AdaGrad with one step size for all parameters of a group.

    .. math::
        x_{t+1} = x_t - \frac{\eta}{b_t}\, g_t, \qquad b_t^2 = b_{t-1}^2 + \|g_t\|^2

    It is DoG with a constant η in place of the distance r̄_t. A step does not wait for the device.

    Args:
        params: parameters, or dicts that define parameter groups. A parameter without a gradient is
            left as it is.
        lr: η, to be tuned: it has the unit of a distance. Default: 1.
        b0: b before the first step. The default, 1e-4, is the square root of DoG's ε.
        weight_decay: L2 penalty; ``weight_decay * x_t`` joins the gradient, while ``p.grad`` stays
            as it was. Default: 0.

    Raises:
        ValueError: for an argument that is out of its range.
    """

    def __init__(
        self, params: ParamsT, lr: float = 1.0, b0: float = 1e-4, weight_decay: float = 0.0
    ) -> None:
        if not (lr >= 0 and b0 > 0 and weight_decay >= 0):
            raise ValueError(
                "b0 must be positive, lr and weight_decay not negative; "
                f"got b0={b0}, lr={lr}, weight_decay={weight_decay}"
            )
        super().__init__(params, {"lr": lr, "b0": b0, "weight_decay": weight_decay})

    def _update(self, group: dict[str, Any], params: list[Tensor]) -> None:
        gradients: Any = [p.grad for p in params]
        if group["weight_decay"] != 0:
            gradients = torch._foreach_add(gradients, params, alpha=group["weight_decay"])
        norm2 = get_total_norm(gradients).double().square()
        # In the group, since loading would round what is in a parameter's state to its type.
        group["b2"] = group.get("b2", group["b0"] ** 2) + norm2
        group["eta"] = group["lr"] / group["b2"].sqrt()
        torch._foreach_sub_(params, torch._foreach_mul(gradients, group["eta"]))

    def telemetry(self) -> list[dict[str, float]]:
        """Return η as ``lr``, η / b_t of the latest step as ``eta``, and ``b``, of each group."""
        return [
            {"lr": group["lr"], "eta": float(group["eta"]), "b": float(group["b2"]) ** 0.5}
            for group in self.param_groups
            if "eta" in group
        ]
