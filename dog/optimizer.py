"""DoG and L-DoG, written so that the step reads like the paper's equation.

Source: Ivgi, Hinder, Carmon, "DoG is SGD's Best Friend: A Parameter-Free Dynamic Step Size
Schedule", arXiv 2302.12022, 2023.
"""

import logging
import math
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

logger = logging.getLogger(__name__)


class DoG(Optimizer):
    r"""Distance over Gradients: SGD whose step size needs no learning rate.

    With :math:`x_t` all parameters of a group as one vector and :math:`g_t` its gradient,

    .. math::
        x_{t+1} = x_t - \eta_t g_t, \qquad
        \eta_t = c\,\frac{\bar r_t}{\sqrt{G_t}}, \qquad
        \bar r_t = \max\bigl(r_\epsilon, \max_{k \le t} \|x_k - x_0\|\bigr), \qquad
        G_t = \epsilon + \sum_{k \le t} \|g_k\|^2,

    and :math:`r_\epsilon` = ``reps_rel`` :math:`\cdot (1 + \|x_0\|)`, so the first step has the
    length :math:`r_\epsilon` (Ivgi et al. 2023, equation (DoG) and section 4.1).

    DoG does not decay its step size: evaluate the *averaged* weights
    (:class:`PolynomialDecayAverager`), not the last ones.

    Args:
        params: parameters, or dicts that define parameter groups. DoG works on each group by
            itself. A parameter without a gradient is left as it is.
        reps_rel: the size of the first step relative to ``1 + ‖x_0‖``. The paper uses 1e-4 for
            vision and 1e-6 for language. Default: 1e-6, as in ``dog-optimizer``.
        lr: the factor c. The paper and this package advise against changing it. Default: 1.
        weight_decay: L2 penalty; ``weight_decay * x_t`` joins the gradient (and so G), while
            ``p.grad`` stays as it was. Default: 0.
        eps: added once to the sum of squared gradient norms. Default: 1e-8.
        init_eta: the first step size itself, in place of what ``reps_rel`` gives.

    Raises:
        ValueError: for an argument that is out of its range.
        RuntimeError: for a sparse gradient, in :meth:`step`.

    Example:
        >>> import torch
        >>> from dog import DoG, PolynomialDecayAverager
        >>> model = torch.nn.Linear(3, 1)
        >>> optimizer, averager = DoG(model.parameters()), PolynomialDecayAverager(model)
        >>> for _ in range(5):
        ...     optimizer.zero_grad()
        ...     model(torch.ones(4, 3)).pow(2).mean().backward()
        ...     _ = optimizer.step()
        ...     averager.step()
        >>> averager.averaged_model(torch.ones(1, 3)).shape
        torch.Size([1, 1])
    """

    def __init__(
        self,
        params: ParamsT,
        reps_rel: float = 1e-6,
        lr: float = 1.0,
        weight_decay: float = 0.0,
        eps: float = 1e-8,
        init_eta: float | None = None,
    ) -> None:
        if not lr > 0:
            raise ValueError(f"lr must be positive, and should be 1; got {lr}")
        if not weight_decay >= 0:
            raise ValueError(f"weight_decay must not be negative; got {weight_decay}")
        if not eps >= 0:
            raise ValueError(f"eps must not be negative; got {eps}")
        if init_eta is not None and not init_eta > 0:
            raise ValueError(f"init_eta must be positive; got {init_eta}")
        if init_eta is None and not reps_rel > 0:
            raise ValueError(
                f"reps_rel must be positive; got {reps_rel} (1e-6 suits most models, "
                "1e-4 those with batch normalization)"
            )
        if lr != 1:
            logger.warning("lr=%g: DoG is meant to be used with lr=1", lr)
        # With init_eta the first distance is 0, so that r̄ comes from the first step alone.
        reps_rel = reps_rel if init_eta is None else 0.0
        defaults = {
            "reps_rel": reps_rel,
            "lr": lr,
            "weight_decay": weight_decay,
            "eps": eps,
            "init_eta": init_eta,
        }
        super().__init__(params, defaults)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update the parameters that have a gradient; return the closure's loss, if given one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for block in self._blocks(group):
                if any(p.grad is not None for p in block):
                    self._step_block(block, group, self._scalars(block, group))
        return loss

    def _blocks(self, group: dict[str, Any]) -> list[list[Tensor]]:
        """Return the sets of tensors that share one step size."""
        return [group["params"]]

    def _scalars(self, block: list[Tensor], group: dict[str, Any]) -> dict[str, Any]:
        """Return where r̄, G and η of a block live."""
        return group

    def _step_block(
        self, block: list[Tensor], group: dict[str, Any], scalars: dict[str, Any]
    ) -> None:
        first_step = "G" not in scalars
        if first_step:
            # x_0 is all that is being trained: a parameter's first gradient may come later.
            x0_norm = _norm(p for p in block if p.requires_grad or p.grad is not None)
            scalars["rbar"] = group["reps_rel"] * (1 + x0_norm)  # r_ε
            scalars["G"] = group["eps"]
        parameters = [p for p in block if p.grad is not None]
        gradients = [_gradient(p, group["weight_decay"]) for p in parameters]
        for p in parameters:
            if "x0" not in self.state[p]:
                self.state[p]["x0"] = p.clone(memory_format=torch.preserve_format)

        distance = _norm(p - self.state[p]["x0"] for p in block if p in self.state)  # ‖x_t − x_0‖
        gradient_norm = _norm(gradients)  # ‖g_t‖
        scalars["rbar"] = max(scalars["rbar"], distance)  # r̄_t = max(r_ε, max_k ‖x_k − x_0‖)
        scalars["G"] += gradient_norm**2  # G_t = ε + Σ_k ‖g_k‖²
        # η_t = c · r̄_t / √G_t. G is 0 only if every gradient was, and then any η will do.
        eta = group["lr"] * scalars["rbar"] / math.sqrt(scalars["G"]) if scalars["G"] else 0.0
        if first_step and group["init_eta"] is not None:
            eta = group["init_eta"]
        for p, g in zip(parameters, gradients, strict=True):
            p.add_(g, alpha=-eta)  # x_{t+1} = x_t − η_t g_t
        scalars.update(eta=eta, gradient_norm=gradient_norm, distance=distance)

    def telemetry(self) -> list[dict[str, float]]:
        """Return the numbers of the latest step, one dict for each set that shares a step size.

        Keys: ``eta`` (η_t, the step size taken), ``rbar`` (r̄_t), ``G`` (G_t), ``gradient_norm``
        (‖g_t‖, weight decay included) and ``distance`` (‖x_t − x_0‖). Empty before the first step.
        """
        names = ("eta", "rbar", "G", "gradient_norm", "distance")
        return [
            {name: self._scalars(block, group)[name] for name in names}
            for group in self.param_groups
            for block in self._blocks(group)
            if any(p in self.state for p in block)
        ]


class LDoG(DoG):
    """Layer-wise DoG: the DoG formula for every parameter tensor by itself.

    Arguments, errors and the need for averaging are those of :class:`DoG`; the paper's
    ``reps_rel`` is 1e-4 for vision and 1e-8 for language (Ivgi et al. 2023, section 4.1).

    Example:
        >>> import torch
        >>> from dog import LDoG
        >>> optimizer = LDoG(torch.nn.Linear(3, 1).parameters(), reps_rel=1e-4)
    """

    def _blocks(self, group: dict[str, Any]) -> list[list[Tensor]]:
        return [[p] for p in group["params"]]

    def _scalars(self, block: list[Tensor], group: dict[str, Any]) -> dict[str, Any]:
        return self.state[block[0]]


def _gradient(p: Tensor, weight_decay: float) -> Tensor:
    """Return the gradient with the L2 penalty added, without touching ``p.grad``."""
    assert p.grad is not None
    if p.grad.is_sparse:
        raise RuntimeError("DoG does not support sparse gradients; use sparse=False")
    return p.grad.add(p, alpha=weight_decay) if weight_decay else p.grad


def _norm(tensors: Iterable[Tensor]) -> float:
    """Return the Euclidean norm of the tensors laid end to end, summed in double precision."""
    norms = []
    for tensor in tensors:
        wide = torch.complex128 if tensor.is_complex() else torch.float64
        norms.append(torch.linalg.vector_norm(tensor, dtype=wide).item())
    return math.hypot(*norms)
