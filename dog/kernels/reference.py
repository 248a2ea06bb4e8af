"""The plain implementation: every equation a line, every parameter by itself. The oracle."""

import torch
from torch import Tensor

from dog.kernels.bundle import Bundle


def gradient2(bundle: Bundle, grad_scale: Tensor | None = None) -> Tensor:
    """Return ‖g_t‖² of each parameter, weight decay included, float64 [n].

    ``grad_scale`` is what the gradients have been multiplied by (0-dim).
    """
    return _squares(
        [_gradient(bundle, i, exact(bundle, i), grad_scale) for i in range(len(bundle.params))]
    )


def distance2(bundle: Bundle) -> Tensor:
    """Return ‖x_t − x_0‖² of each parameter, float64 [n]."""
    return _squares([_apart(bundle, i) for i in range(len(bundle.params))])


def update(
    bundle: Bundle,
    eta: Tensor,
    average_weight: Tensor | None,
    take: Tensor,
    grad_scale: Tensor | None = None,
) -> Tensor | None:
    """Make the step x_{t+1} = x_t − η_t g_t in place, and take it into the averages.

    Args:
        bundle: the parameters; its ``params``, ``averages`` and ``compensations`` change.
        eta: η of each parameter, [n].
        average_weight: w in x̄ = (1 − w) x̄ + w x for each parameter, [n]; None: no averages.
        take: whether the step is taken at all, bool, 0-dim.
        grad_scale: what the gradients have been multiplied by (0-dim).

    Returns:
        ‖x_{t+1} − x_0‖² of each parameter, float64 [n], where the pass has measured it; None
        where, as here, :func:`distance2` is to be asked.
    """
    for i, p in enumerate(bundle.params):
        x, gradient = p.to(bundle.wide), _gradient(bundle, i, exact(bundle, i), grad_scale)
        if bundle.averages_previous_iterate:
            average(bundle, i, average_weight, take)
        # What is small is added to what is small first, so that p does not swallow it.
        move = -eta[i] * gradient
        if bundle.compensations:
            move = bundle.compensations[i] + move
        rounded = (x + move).to(p.dtype)
        if bundle.compensations:
            rest = bundle.compensations[i]
            lost = (x - rounded.to(bundle.wide)) + move
            rest.copy_(torch.where(take, lost.to(rest.dtype), rest))
        p.copy_(torch.where(take, rounded, p))
        if not bundle.averages_previous_iterate:
            average(bundle, i, average_weight, take)
    return None


def exact(bundle: Bundle, i: int) -> Tensor:
    """Return x_t of one parameter in the type that arithmetic is done in."""
    x = bundle.params[i].to(bundle.wide)
    return x + bundle.compensations[i] if bundle.compensations else x


def average(bundle: Bundle, i: int, average_weight: Tensor | None, take: Tensor) -> None:
    """Take x_t of one parameter into its average, in place."""
    if average_weight is not None:
        kept, w = bundle.averages[i], average_weight[i]
        kept.copy_(torch.where(take, (1 - w) * kept + w * exact(bundle, i), kept))


def _apart(bundle: Bundle, i: int) -> Tensor:
    """Return x_t − x_0, which is exact although both may be large."""
    apart = bundle.params[i].to(bundle.wide) - bundle.starts[i].to(bundle.wide)
    return apart + bundle.compensations[i] if bundle.compensations else apart


def _gradient(bundle: Bundle, i: int, x: Tensor, grad_scale: Tensor | None) -> Tensor:
    gradient = bundle.grads[i].to(x.dtype)
    if grad_scale is not None:
        gradient = gradient / grad_scale
    return gradient + bundle.weight_decay * x if bundle.weight_decay else gradient


def _squares(tensors: list[Tensor]) -> Tensor:
    return torch.stack([torch.linalg.vector_norm(t, dtype=torch.float64).square() for t in tensors])
