"""The multi-tensor implementation: torch's own foreach kernels, few launches for many tensors."""

import torch
from torch import Tensor

from dog.kernels.bundle import Bundle, is_dense, sent

_Tensors = list[Tensor] | tuple[Tensor, ...]


def gradient2(bundle: Bundle, grad_scale: Tensor | None = None) -> Tensor:
    """See :func:`dog.kernels.reference.gradient2`."""
    x = _exact(bundle) if bundle.weight_decay else ()
    return _squares(_gradients(bundle, x, grad_scale))


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
    before: _Tensors = ()
    if bundle.weight_decay or bundle.averages_previous_iterate:
        before = _exact(bundle)
    if average_weight is not None:
        weight = torch.where(take, average_weight, 0.0)
        if bundle.averages_previous_iterate:
            _average(bundle.averages, before, weight)
    if _suits_sgd(bundle, grad_scale):
        _move_at_once(bundle, eta, take, grad_scale)
    else:
        moves = _times(_gradients(bundle, before, grad_scale), eta)
        for move in moves:  # 0 · inf is not 0: a step that is not taken has to be cut out
            move.masked_fill_(~take, 0)
        if bundle.compensations:
            _move_compensated(bundle, moves, take)
        else:
            torch._foreach_sub_(bundle.params, moves)
    if average_weight is not None and not bundle.averages_previous_iterate:
        _average(bundle.averages, _exact(bundle), weight)
    return None


def _suits_sgd(bundle: Bundle, grad_scale: Tensor | None) -> bool:
    """Return whether torch's fused SGD can make the step: it walks memory, and rounds once."""
    device = bundle.params[0].device.type
    return (
        not torch.compiler.is_compiling()  # which makes one pass of the operators by itself
        and not bundle.compensations
        and not (bundle.weight_decay and grad_scale is not None)
        # On CUDA it reads the learning rate in float32.
        and (device == "cpu" or (device == "cuda" and bundle.wide == torch.float32))
        and all(
            is_dense(p) and g.stride() == p.stride() and g.dtype == p.dtype and not g.is_neg()
            for p, g in zip(bundle.params, bundle.grads, strict=True)
        )
    )


def _move_at_once(bundle: Bundle, eta: Tensor, take: Tensor, grad_scale: Tensor | None) -> None:
    """Make the step in one pass over the parameters that have one η."""
    if bundle.params[0].device.type != "cpu":
        eta = eta.float()
    if grad_scale is not None:
        eta = eta / sent(grad_scale, eta.device)
    found_inf = (~take).float()
    if eta.stride(0) == 0:
        steps = [(bundle.params, bundle.grads, eta[0])]
    else:
        steps = [
            ([p], [g], one)
            for p, g, one in zip(bundle.params, bundle.grads, eta.unbind(), strict=True)
        ]
    for params, grads, lr in steps:
        torch._fused_sgd_(
            params, grads, [], weight_decay=bundle.weight_decay, momentum=0.0, lr=lr,
            dampening=0.0, nesterov=False, maximize=False, is_first_step=False,
            found_inf=found_inf,
        )  # fmt: skip


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
    if tensors[0].device.type == "cpu":  # where torch's norms are slow in float64
        return torch.ops.dog.gradient2(list(tensors), [], [], 0.0, None)
    return torch.stack(torch._foreach_norm(tensors, dtype=torch.float64)).square()


def _times(tensors: _Tensors, factors: Tensor) -> _Tensors:
    """Return each tensor times its factor; one factor for all is one kernel."""
    if factors.stride(0) == 0:
        return torch._foreach_mul(tensors, factors[0])
    return torch._foreach_mul(tensors, list(factors.unbind()))


def _average(averages: list[Tensor], x: _Tensors, weight: Tensor) -> None:
    # With weight 1, lerp copies exactly.
    torch._foreach_lerp_(averages, x, list(weight.to(averages[0].dtype).unbind()))
