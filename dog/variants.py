"""L-DoG and T-DoG: DoG with another scope, and with the step sizes of its guarantee."""

from typing import Any

from torch.optim.optimizer import ParamsT

from dog.equations import Dampening, guaranteed
from dog.optimizer import DoG


class LDoG(DoG):
    """Layer-wise DoG: the DoG formula for every parameter tensor by itself.

    Arguments, errors and the need for averaging are those of :class:`DoG`; the paper's
    ``reps_rel`` is 1e-4 for vision and 1e-8 for language (Ivgi et al. 2023, section 4.1);
    ``"auto"`` decides for each tensor by itself whether its step size grows faster.

    Example:
        >>> import torch
        >>> from dog import LDoG
        >>> optimizer = LDoG(torch.nn.Linear(3, 1).parameters(), reps_rel=1e-4)
    """

    _usual_scope = "tensor"


class TDoG(DoG):
    r"""Tamed DoG: DoG with the step sizes that its guarantee needs.

    As :class:`DoG`, but with

    .. math:: \eta_t = c\,\frac{\bar r_t}{\sqrt{G'_t}}, \qquad
        G'_t = 8^4\,\theta_{T,\delta}\,\log_+^2(t+1)\,
        \bigl(G_{t-1} + 16\,\theta_{T,\delta}\max(\|g_t\|^2, L^2)\bigr),

    :math:`\theta_{T,\delta} = \log(60 \log(6T) / \delta)` and :math:`\log_+ x = 1 + \log x` (Ivgi
    et al. 2023, section 3.3). On a convex loss whose stochastic gradients are no longer than L,
    if :math:`r_\epsilon \le 3 d_0`, where :math:`d_0` is the distance from the start to the nearest
    minimum, then with probability at least :math:`1 - \delta` the iterates stay within
    :math:`3 d_0` of the start for all T steps. The constants make the steps hundreds of times
    shorter than DoG's: this is for checking theory, and for losses on which DoG runs away.

    Args:
        params: as for :class:`DoG`, and so are the arguments not named here.
        steps: T, the number of steps that the promise is to hold for.
        delta: δ, the probability that it may fail with. Default: 0.01.
        lipschitz: L, a bound on ‖g‖. Default: 0, the latest gradient's own norm; the promise then
            holds for gradients without noise.

    Raises:
        ValueError: for an argument that is out of its range.

    Example:
        >>> import torch
        >>> from dog import TDoG
        >>> optimizer = TDoG(torch.nn.Linear(3, 1).parameters(), steps=1000)
    """

    _options = (*DoG._options, "steps", "delta", "lipschitz")

    def __init__(
        self,
        params: ParamsT,
        steps: int,
        reps_rel: float = 1e-6,
        *,
        delta: float = 0.01,
        lipschitz: float = 0.0,
        **options: Any,
    ) -> None:
        if reps_rel == "auto":
            raise ValueError("the guarantee needs a number for reps_rel: r_ε is at most 3 d_0")
        if not steps >= 1:
            raise ValueError(f"steps must be at least 1; got {steps}")
        if not 0 < delta < 1:
            raise ValueError(f"delta must be between 0 and 1; got {delta}")
        if not lipschitz >= 0:
            raise ValueError(f"lipschitz must not be negative; got {lipschitz}")
        self.steps, self.delta, self.lipschitz = steps, delta, lipschitz
        # G starts at 0: what keeps η finite here is max(‖g‖, L).
        super().__init__(params, reps_rel, **{"eps": 0.0} | options)

    def _dampening(self) -> Dampening:
        return guaranteed(self.steps, self.delta, self.lipschitz)
