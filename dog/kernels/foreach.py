"""The multi-tensor implementation: torch's own foreach kernels, few launches for many tensors."""

import torch
from torch import Tensor

from dog.kernels.bundle import Bundle

_Tensors = list[Tensor] | tuple[Tensor, ...]


def gradient2(bundle: Bundle, grad_scale: Tensor | None = None) -> Tensor:
    """See :func:`dog.kernels.reference.gradient2`."""
    return _squares(_gradients(bundle, _exact(bundle), grad_scale))


def distance2(bundle: Bundle) -> Tensor:
    """See :func:`dog.kernels.reference.distance2`."""
    x, x0 = _widened(bundle, bundle.params), _widened(bundle, bundle.starts)
    apart = torch._foreach_sub(x, x0)
    if bundle.compensations:
        torch._foreach_add_(apart, _widened(bundle, bundle.compensations))
    return _squares(apart)


def update(
    bundle: Bundle,
    eta: Tensor,
    average_weight: Tensor | None,
    take: Tensor,
    grad_scale: Tensor | None = None,
) -> Tensor | None:
    """See :func:`dog.kernels.reference.update`."""
    before = _exact(bundle)
    moves = _times(_gradients(bundle, before, grad_scale), eta)
    for move in moves:  # 0 · inf is not 0: a step that is not taken has to be cut out
        move.masked_fill_(~take, 0)
    if average_weight is not None:
        weight = torch.where(take, average_weight, 0.0)
        if bundle.averages_previous_iterate:
            _average(bundle.averages, before, weight)
    if bundle.compensations:
        _move_compensated(bundle, moves, take)
    else:
        torch._foreach_sub_(bundle.params, moves)
    if average_weight is not None and not bundle.averages_previous_iterate:
        _average(bundle.averages, _exact(bundle), weight)
    return None


def _move_compensated(bundle: Bundle, moves: _Tensors, take: Tensor) -> None:
    # What is small is added to what is small first, so that x does not swallow it.
    x = _widened(bundle, bundle.params)
    moves = torch._foreach_sub(_widened(bundle, bundle.compensations), moves)
    after = torch._foreach_add(x, moves)
    rounded = [a.to(p.dtype) for a, p in zip(after, bundle.params, strict=True)]
    lost = torch._foreach_add(torch._foreach_sub(x, _widened(bundle, rounded)), moves)
    # Rounding again what was rounded can take another way at a tie.
    for old, new in ((bundle.compensations, lost), (bundle.params, rounded)):
        for a, b in zip(old, new, strict=True):
            a.copy_(torch.where(take, b.to(a.dtype), a))


def _exact(bundle: Bundle) -> _Tensors:
    x = _widened(bundle, bundle.params)
    return (
        torch._foreach_add(x, _widened(bundle, bundle.compensations)) if bundle.compensations else x
    )


def _widened(bundle: Bundle, tensors: list[Tensor]) -> list[Tensor]:
    return [t.to(bundle.wide) for t in tensors]


def _gradients(bundle: Bundle, x: _Tensors, grad_scale: Tensor | None) -> _Tensors:
    gradients: _Tensors = _widened(bundle, bundle.grads)
    if grad_scale is not None:
        gradients = torch._foreach_div(gradients, grad_scale)
    if bundle.weight_decay:
        gradients = torch._foreach_add(gradients, x, alpha=bundle.weight_decay)
    return gradients


def _squares(tensors: _Tensors) -> Tensor:
    return torch.stack(torch._foreach_norm(tensors, dtype=torch.float64)).square()


def _times(tensors: _Tensors, factors: Tensor) -> _Tensors:
    """Return each tensor times its factor; one factor for all is one kernel."""
    if factors.stride(0) == 0:
        return torch._foreach_mul(tensors, factors[0])
    return torch._foreach_mul(tensors, list(factors.unbind()))


def _average(averages: list[Tensor], x: _Tensors, weight: Tensor) -> None:
    # With weight 1, lerp copies exactly.
    weights = [w.to(a.dtype) for w, a in zip(weight.unbind(), averages, strict=True)]
    torch._foreach_lerp_(averages, x, weights)
