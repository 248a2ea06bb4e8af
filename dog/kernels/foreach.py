"""The multi-tensor implementation: torch's own foreach kernels, few launches for many tensors."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dog.kernels.bundle import Bundle


def gradient2(bundle: Bundle, grad_scale: Tensor | None = None) -> Tensor:
    """See :func:`dog.kernels.reference.gradient2`."""
    return _squares(_gradients(bundle, _exact(bundle), grad_scale))


def distance2(bundle: Bundle) -> Tensor:
    """See :func:`dog.kernels.reference.distance2`."""
    return _squares(torch._foreach_sub(_exact(bundle), _widened(bundle, bundle.starts)))


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
        if bundle.average_first:
            _average(bundle.averages, before, weight)
    if bundle.compensations:
        after = torch._foreach_sub(before, moves)
        torch._foreach_copy_(bundle.params, after)
        rest = torch._foreach_sub(after, _widened(bundle, bundle.params))
        torch._foreach_copy_(bundle.compensations, rest)
    else:
        torch._foreach_sub_(bundle.params, moves)
        after = bundle.params
    if average_weight is not None and not bundle.average_first:
        _average(bundle.averages, after, weight)
    return None


def _exact(bundle: Bundle) -> Sequence[Tensor]:
    x = _widened(bundle, bundle.params)
    return (
        torch._foreach_add(x, _widened(bundle, bundle.compensations)) if bundle.compensations else x
    )


def _widened(bundle: Bundle, tensors: list[Tensor]) -> list[Tensor]:
    return [t.to(bundle.wide) for t in tensors]


def _gradients(bundle: Bundle, x: Sequence[Tensor], grad_scale: Tensor | None) -> Sequence[Tensor]:
    gradients: Sequence[Tensor] = _widened(bundle, bundle.grads)
    if grad_scale is not None:
        gradients = torch._foreach_div(gradients, grad_scale)
    if bundle.weight_decay:
        gradients = torch._foreach_add(gradients, x, alpha=bundle.weight_decay)
    return gradients


def _squares(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack(torch._foreach_norm(tensors)).double().square()


def _times(tensors: Sequence[Tensor], factors: Tensor) -> Sequence[Tensor]:
    """Return each tensor times its factor; one factor for all is one kernel."""
    if factors.stride(0) == 0:
        return torch._foreach_mul(tensors, factors[0])
    return torch._foreach_mul(tensors, list(factors.unbind()))


def _average(averages: list[Tensor], x: Sequence[Tensor], weight: Tensor) -> None:
    # (1 − w) x̄ + w x, and not x̄ + w (x − x̄): with w = 1 it copies exactly.
    kept, joined = _times(averages, 1 - weight), _times(x, weight)
    torch._foreach_copy_(averages, torch._foreach_add(kept, joined))
