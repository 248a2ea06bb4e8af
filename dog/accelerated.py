"""A-DoG: DoG with Nesterov's acceleration.

Source: Kreisler, Ivgi, Hinder, Carmon, "Accelerated Parameter-Free Stochastic Optimization", arXiv
2404.00666, 2024.
"""

from collections.abc import Callable, Sequence
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from dog.closure import loss_of

# What is kept of a param group, in this order.
NUMBERS = (
    "step",  # steps taken
    "eta",  # η_t of the latest step
    "G",  # G_t = ε + Σ_k α_k² ‖g_k‖²
    "gradient_norm",  # ‖g_t‖, weight decay included
    "distance",  # ‖z_{t+1} − x_0‖
    "rbar",  # r̄_{t+1} = max(r_ε, max_k ‖z_k − x_0‖)
    "rbar_sum",  # Σ_k r̄_k
    "alpha",  # α_{t+1} = Σ_k r̄_k / r̄_{t+1}
    "alpha_sum",  # Σ_k α_k
    "skipped",  # steps not taken because a gradient was not finite
)


class ADoG(Optimizer):
    r"""Accelerated DoG: Nesterov's method whose step sizes need no learning rate.

    With :math:`g_t` the gradient at :math:`x_t`, which are the model's parameters, and
    :math:`y_0 = z_0 = x_0`,

    .. math::
        y_{t+1} = x_t - \eta_t g_t, \qquad z_{t+1} = z_t - \alpha_t \eta_t g_t, \qquad
        x_t = (1 - \tau_t)\, y_t + \tau_t z_t, \qquad
        \tau_t = \frac{\alpha_t}{\sum_{k \le t} \alpha_k},

    .. math::
        \eta_t = c\,\frac{\bar r_t}{\sqrt{G_t}}, \qquad
        \alpha_t = \frac{1}{\bar r_t} \sum_{k \le t} \bar r_k, \qquad
        \bar r_t = \max\bigl(r_\epsilon, \max_{k \le t} \|z_k - x_0\|\bigr), \qquad
        G_t = \epsilon + \sum_{k \le t} \alpha_k^2 \|g_k\|^2,

    and :math:`r_\epsilon` = ``reps_rel`` :math:`\cdot (1 + \|x_0\|)`. On smooth convex losses
    without noise it converges like 1/t², where DoG converges like 1/t. With noisy gradients that
    gain is lost: the paper reports mixed results on neural networks.

    The paper's text was not at hand when this was written. The factors of log t by which such
    guarantees damp the steps (:class:`TDoG` has DoG's) are left out; that z alone counts in r̄, and
    ε, are choices of this implementation.

    Every param group is one vector with step sizes of its own. A step does not wait for the device;
    if a gradient is not finite, the group's step is skipped. Evaluate averaged weights, as with DoG
    (:class:`PolynomialDecayAverager`). Sharded parameters are not supported.

    Args:
        params: parameters in float32 or float64, or dicts that define parameter groups. A parameter
            without a gradient is left as it is.
        reps_rel: the size of the first step relative to ``1 + ‖x_0‖``. Default: 1e-6.
        lr: the factor c; leave it at 1. Default: 1.
        weight_decay: L2 penalty; ``weight_decay * x_t`` joins the gradient (and so G), while
            ``p.grad`` stays as it was. Default: 0.
        eps: ε, the G before the first step. Default: 1e-8.

    Raises:
        ValueError: for an argument that is out of its range, or parameters of another type.

    Example:
        >>> import torch
        >>> from dog import ADoG
        >>> optimizer = ADoG(torch.nn.Linear(3, 1).parameters(), reps_rel=1e-4)
    """

    def __init__(
        self,
        params: ParamsT,
        reps_rel: float = 1e-6,
        lr: float = 1.0,
        weight_decay: float = 0.0,
        eps: float = 1e-8,
    ) -> None:
        defaults = {"reps_rel": reps_rel, "lr": lr, "weight_decay": weight_decay, "eps": eps}
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters, with step sizes of their own that start anew."""
        options = self.defaults | param_group
        for name in ("reps_rel", "lr"):
            if not options[name] > 0:
                raise ValueError(f"{name} must be positive; got {options[name]}")
        for name in ("weight_decay", "eps"):
            if not options[name] >= 0:
                raise ValueError(f"{name} must not be negative; got {options[name]}")
        super().add_param_group(param_group)
        for p in self.param_groups[-1]["params"]:
            if p.dtype not in (torch.float32, torch.float64):
                raise ValueError(
                    f"A-DoG needs float32 or float64 parameters; got {p.dtype} (with autocast the "
                    "parameters stay float32)"
                )

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update the parameters that have a gradient; return the closure's loss, if given one."""
        loss = loss_of(closure)
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                self._update(group, params)
        return loss

    def _update(self, group: dict[str, Any], params: list[Tensor]) -> None:
        scalars = self._start(group, params)
        old = dict(zip(NUMBERS, scalars, strict=True))
        gradients: Any = [p.grad for p in params]
        if group["weight_decay"] != 0:
            gradients = torch._foreach_add(gradients, params, alpha=group["weight_decay"])

        # η_t, from the r̄_t and α_t that the step before has found.
        gradient2 = _norm2(gradients)
        finite = gradient2.isfinite()
        G = old["G"] + old["alpha"] ** 2 * gradient2
        eta = torch.where(G > 0, group["lr"] * old["rbar"] / G.sqrt(), 0.0)

        # y_{t+1}, in the place of x_t, and z_{t+1}.
        z = [self.state[p]["z"] for p in params]
        moves = [torch.where(finite, move, 0.0) for move in torch._foreach_mul(gradients, eta)]
        torch._foreach_sub_(params, moves)
        torch._foreach_mul_(moves, old["alpha"])
        torch._foreach_sub_(z, moves)

        # r̄_{t+1}, α_{t+1} and with them τ_{t+1}.
        states = [self.state[p] for p in group["params"] if p in self.state]
        distance = _norm2(torch._foreach_sub([s["z"] for s in states], [s["x0"] for s in states]))
        distance = distance.sqrt()
        rbar = torch.maximum(old["rbar"], distance)
        rbar_sum = old["rbar_sum"] + rbar
        alpha = rbar_sum / rbar
        alpha_sum = old["alpha_sum"] + alpha

        # x_{t+1} = y_{t+1} + τ_{t+1} (z_{t+1} − y_{t+1}).
        to_z = torch._foreach_sub(z, params)
        torch._foreach_mul_(to_z, torch.where(finite, alpha / alpha_sum, 0.0))
        torch._foreach_add_(params, to_z)

        new = {
            "step": old["step"] + 1,
            "eta": eta,
            "G": G,
            "gradient_norm": gradient2.sqrt(),
            "distance": distance,
            "rbar": rbar,
            "rbar_sum": rbar_sum,
            "alpha": alpha,
            "alpha_sum": alpha_sum,
            "skipped": old["skipped"],
        }
        taken = torch.stack([new[name] for name in NUMBERS])
        skipped = torch.stack([*(old | {"skipped": old["skipped"] + 1}).values()])
        scalars.copy_(torch.where(finite, taken, skipped))

    def _start(self, group: dict[str, Any], params: list[Tensor]) -> Tensor:
        """Return the group's numbers, after giving state to what has none yet."""
        if "scalars" not in group:
            trained = [p for p in group["params"] if p.requires_grad]
            rbar = group["reps_rel"] * (1 + _norm2(trained or params).sqrt())
            first = dict.fromkeys(NUMBERS, torch.zeros_like(rbar))
            first |= {"G": torch.full_like(rbar, group["eps"]), "rbar": rbar, "rbar_sum": rbar}
            first |= dict.fromkeys(("alpha", "alpha_sum"), torch.ones_like(rbar))
            # In the group, since loading would round what is in a parameter's state to its type.
            group["scalars"] = torch.stack([first[name] for name in NUMBERS])
        for p in params:
            if not self.state[p]:
                for name in ("x0", "z"):
                    self.state[p][name] = p.clone(memory_format=torch.preserve_format)
        group["scalars"] = group["scalars"].to(params[0].device)  # a state from elsewhere
        return group["scalars"]

    def telemetry(self) -> list[dict[str, float]]:
        """Return the numbers of the latest step, one dict for each param group.

        Keys: ``step``, ``eta`` (η_t, the step size taken), ``G``, ``gradient_norm`` (‖g_t‖, weight
        decay included), ``distance`` (‖z − x_0‖), ``rbar`` and ``alpha`` (as the next step will use
        them) with their sums ``rbar_sum`` and ``alpha_sum``, ``skipped`` (steps not taken because a
        gradient was not finite). Empty before the first step. Reading synchronises with the GPU;
        :meth:`step` does not.
        """
        rows = [group["scalars"].tolist() for group in self.param_groups if "scalars" in group]
        return [dict(zip(NUMBERS, row, strict=True)) for row in rows]


def _norm2(tensors: Sequence[Tensor]) -> Tensor:
    """Return the squared norm of all tensors as one vector, float64, 0-dim."""
    return torch.stack(torch._foreach_norm(list(tensors), dtype=torch.float64)).square().sum()
