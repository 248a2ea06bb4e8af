"""Adam++: Adam whose step size is the distance from the start.

Source: Tao, Yuan, Zhou, Cao, Gu, "Towards Simple and Provable Parameter-Free Adaptive Gradient
Methods", arXiv 2412.19444, 2024, the algorithm Adam++ with its first choice of s_t.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim.optimizer import ParamsT

from rivals.by_group import ByGroup


class AdamPlusPlus(ByGroup):
    r"""Adam without a learning rate.

    With all operations element by element, t = 0, 1, …, and d parameters in a group,

    .. math::
        m_t = \beta m_{t-1} + (1 - \beta)\, g_t, \qquad
        s_t = \sqrt{\textstyle\sum_{k \le t} g_k^2}, \qquad
        x_{t+1} = x_t - \eta_t \frac{m_t}{\delta + s_t}, \qquad
        \eta_t = \max\Bigl(\eta_{t-1}, \frac{\|x_t - x_0\|}{\sqrt d}\Bigr).

    The paper has a second choice of s_t, √(t + 1) times the root of the largest of Adam's v. As v
    starts at 0, without Adam's correction for that, the first steps are three times η long, and η
    grows ten-thousandfold in 20 steps: it is not here. The paper lets β decay by a factor λ a step;
    λ is 1 here. It calls η before the first step a small constant; here that is ``reps_rel`` ·
    (1 + ‖x_0‖) / √d, DoG's initial step length as a distance of this kind. A step does not wait for
    the device.

    Args:
        params: parameters, or dicts that define parameter groups, each with a step size of its own.
            A parameter without a gradient is left as it is.
        reps_rel: the initial distance relative to ``1 + ‖x_0‖``. Default: 1e-6.
        lr: a factor of η; leave it at 1, or give it a schedule. Default: 1.
        beta: β. Default: 0.9.
        eps: δ. Default: 1e-8.
        weight_decay: L2 penalty; ``weight_decay * x_t`` joins the gradient, while ``p.grad`` stays
            as it was. Default: 0.

    Raises:
        ValueError: for an argument that is out of its range.
    """

    def __init__(
        self,
        params: ParamsT,
        reps_rel: float = 1e-6,
        lr: float = 1.0,
        beta: float = 0.9,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        if not (reps_rel > 0 and lr >= 0 and eps > 0 and weight_decay >= 0):
            raise ValueError(
                "reps_rel and eps must be positive, lr and weight_decay not negative; got "
                f"reps_rel={reps_rel}, eps={eps}, lr={lr}, weight_decay={weight_decay}"
            )
        if not 0 <= beta < 1:
            raise ValueError(f"beta must be at least 0 and below 1; got {beta}")
        options = {"reps_rel": reps_rel, "lr": lr, "beta": beta, "eps": eps}
        super().__init__(params, options | {"weight_decay": weight_decay})

    def _update(self, group: dict[str, Any], params: list[Tensor]) -> None:
        trained = [p for p in group["params"] if p.requires_grad or p.grad is not None]
        root_d = math.sqrt(sum(p.numel() for p in trained))
        if "distance" not in group:  # the largest ‖x − x_0‖ / √d so far
            norm = get_total_norm(trained).double()
            group["distance"] = group["reps_rel"] * (1 + norm) / root_d
        for p in params:
            if not self.state[p]:
                zeros = {name: torch.zeros_like(p) for name in ("m", "g2_sum")}
                self.state[p] |= {"x0": p.clone()} | zeros
        known = [p for p in group["params"] if p in self.state]
        moved: Any = torch._foreach_sub(known, [self.state[p]["x0"] for p in known])
        distance = get_total_norm(moved).double() / root_d
        group["distance"] = torch.maximum(group["distance"].to(distance.device), distance)
        group["eta"] = group["lr"] * group["distance"]

        gradients: Any = [p.grad for p in params]
        if group["weight_decay"] != 0:
            gradients = torch._foreach_add(gradients, params, alpha=group["weight_decay"])
        m, g2_sum = ([self.state[p][name] for p in params] for name in ("m", "g2_sum"))
        torch._foreach_lerp_(m, gradients, 1 - group["beta"])
        torch._foreach_addcmul_(g2_sum, gradients, gradients)
        denominators = torch._foreach_sqrt(g2_sum)
        torch._foreach_add_(denominators, group["eps"])
        moves = torch._foreach_div(m, denominators)
        torch._foreach_mul_(moves, group["eta"])
        torch._foreach_sub_(params, moves)

    def telemetry(self) -> list[dict[str, float]]:
        """Return η_t of the latest step as ``eta``, one dict for each group."""
        return [{"eta": float(g["eta"])} for g in self.param_groups if "eta" in g]
