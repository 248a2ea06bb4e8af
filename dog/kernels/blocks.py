"""The fused passes on the CPU: torch's own kernels over blocks of memory that stay in cache."""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat

import torch
from torch import Tensor

from dog.kernels.bundle import SMALLEST_SQUARE, as_stored, is_constant
from dog.kernels.bundle import wide as wide_of

# Elements of a block for each thread: a block of float32 and what is made of it fit into the
# second-level cache, and hide what a call costs.
BLOCK = 131072

_Part = Tensor | None


def gradient2(
    grads: list[Tensor],
    params: list[Tensor],
    compensations: list[Tensor],
    weight_decay: float,
    grad_scale: Tensor | None,
) -> Tensor:
    """Return ‖g_t‖² of each parameter, float64 [n]; ``params`` only where weight decays."""
    scale = 1.0 if grad_scale is None else 1 / grad_scale.item()
    wide = wide_of(params or grads)
    return _totals(
        [_square(_gradient(g, p, c, wide, weight_decay, scale)) for g, p, c in _blocks(*entry)]
        for entry in _entries(grads, params, compensations)
    )


def distance2(params: list[Tensor], compensations: list[Tensor], starts: list[Tensor]) -> Tensor:
    """Return ‖x_t − x_0‖² of each parameter, float64 [n]."""
    wide = wide_of(params)
    return _totals(
        [_square(_apart(p, c, x0, wide)) for p, x0, c in _blocks(*entry)]
        for entry in _entries(params, starts, compensations)
    )


def update_(
    params: list[Tensor],
    compensations: list[Tensor],
    averages: list[Tensor],
    grads: list[Tensor],
    starts: list[Tensor],
    eta: Tensor,
    average_weight: Tensor | None,
    take: Tensor,
    weight_decay: float,
    grad_scale: Tensor | None,
    averages_previous_iterate: bool,
) -> Tensor:
    """Make the step in place and return ‖x_{t+1} − x_0‖² of each parameter, float64 [n]."""
    if not take.item():
        return distance2(params, compensations, starts)
    scale = 1.0 if grad_scale is None else 1 / grad_scale.item()
    wide = wide_of(params)
    etas = eta.tolist()
    weights = [0.0] * len(params) if average_weight is None else average_weight.tolist()
    scratch = torch.empty(min(_size(), max(p.numel() for p in params)), dtype=wide)
    totals = []
    for i, entry in enumerate(_entries(params, grads, starts, averages, compensations)):
        squares = []
        for p, g, x0, average, compensation in _blocks(*entry):
            if average is not None and averages_previous_iterate:
                average.lerp_(_exact(p, compensation, wide), weights[i])
            gradient = _gradient(g, p, compensation, wide, weight_decay, scale)
            if p.dtype == wide and compensation is None:
                p.add_(gradient, alpha=-etas[i])
            else:
                _move_rounded(p, compensation, gradient.mul(-etas[i]), wide)
            squares.append(_square(_apart(p, compensation, x0, wide, scratch)))
            if (
                average is not None and not averages_previous_iterate
            ):  # with weight 1, lerp copies exactly
                average.lerp_(_exact(p, compensation, wide), weights[i])
        totals.append(squares)
    return _totals(totals)


def _move_rounded(p: Tensor, compensation: _Part, move: Tensor, wide: torch.dtype) -> None:
    """Add to a parameter that rounds, and keep what it loses."""
    x = p.to(wide, copy=True)
    if compensation is not None:  # small to small first, so that x does not swallow it
        move = move.add_(compensation)
    p.copy_(x + move)
    if compensation is not None:
        compensation.copy_(x.sub_(p).add_(move))


def _apart(
    p: Tensor, compensation: _Part, x0: Tensor, wide: torch.dtype, scratch: _Part = None
) -> Tensor:
    """Return x_t − x_0, where it pays in memory that is at hand."""
    x = p.to(wide)
    if scratch is None or x.dim() != 1 or x.numel() > scratch.numel():
        apart = x - x0.to(wide)
    else:
        apart = torch.sub(x, x0, out=scratch[: x.numel()])
    return apart if compensation is None else apart.add_(compensation)


def _exact(p: Tensor, compensation: _Part, wide: torch.dtype) -> Tensor:
    x = p.to(wide)
    return x if compensation is None else x + compensation


def _gradient(
    g: Tensor, p: _Part, compensation: _Part, wide: torch.dtype, weight_decay: float, scale: float
) -> Tensor:
    gradient = g.to(wide)
    if scale != 1:
        gradient = gradient * scale
    if weight_decay and p is not None:
        gradient = gradient.add(_exact(p, compensation, wide), alpha=weight_decay)
    return gradient


def _square(x: Tensor) -> float:
    """Return the sum of squares, in double precision where float32 cannot hold it."""
    x = x.reshape(-1)
    square = torch.dot(x, x).item()
    if not SMALLEST_SQUARE < square < math.inf:
        x = x.double()
        square = torch.dot(x, x).item()
    return square


def _totals(squares: Iterable[list[float]]) -> Tensor:
    """Sum the blocks' partial sums of each parameter in double precision."""
    return torch.tensor([sum(parts) for parts in squares], dtype=torch.float64)


def _entries(*lists: Sequence[Tensor]) -> Iterator[tuple[Tensor, ...]]:
    """Walk lists of tensors together; an empty one gives None."""
    return zip(*(tensors or repeat(None, len(lists[0])) for tensors in lists), strict=True)


def _blocks(first: Tensor, *others: _Part) -> Iterator[tuple]:
    """Cut tensors of one shape into blocks; None stays None.

    Tensors that lie in memory in another order than ``first`` does, or with gaps, are one block.
    """
    flat = [_flat(t, first) if t is not None else None for t in (first, *others)]
    if any(f is None and t is not None for f, t in zip(flat, (first, *others), strict=True)):
        yield first, *others
        return
    size = _size()
    if first.numel() <= size:
        yield tuple(flat)
        return
    yield from zip(
        *(repeat(f) if f is None or f.dim() == 0 else f.split(size) for f in flat), strict=False
    )


def _size() -> int:
    return BLOCK * torch.get_num_threads()


def _flat(tensor: Tensor, like: Tensor) -> Tensor | None:
    """Return the tensor as a vector in the order of memory; None where ``like`` is otherwise.

    A constant tensor, a single element expanded, is that element, 0-dim.
    """
    if tensor.is_contiguous() and like.is_contiguous():
        return tensor.view(-1)
    if is_constant(tensor):
        return tensor[(0,) * tensor.dim()]
    if tensor.stride() != like.stride():
        return None
    tensor = as_stored(tensor)
    return tensor.view(-1) if tensor.is_contiguous() else None
