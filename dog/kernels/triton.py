"""The fused passes on CUDA, in Triton: one launch walks all tensors of a bundle.

A program does one block of one tensor. Where the tensors lie it reads from a table on the device,
and so are ``take``, η, the average's weight and the gradients' scale read: nothing waits for the
device. Each block's sum has a place of its own, and a second, small launch adds those of a tensor
in float64 in the order of the blocks: no atomics, the same bits every time.
"""

from collections.abc import Callable
from itertools import accumulate
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from dog.kernels.bundle import is_constant

# Elements of a block: 16 for each thread, so that many loads are under way at a time.
BLOCK = 4096
WARPS = 8
# Partial sums that are added at a time.
CHUNK = 1024
# Tables kept: a step needs two for each bundle.
TABLES = 64

# A tensor's row in the table: addresses, how many elements, in what form x_0 is (a place in
# START_TYPES, higher by CONSTANT for a single element expanded), and its first block.
PARAM, GRAD, START, AVERAGE, COMPENSATION, NUMEL, FORM, FIRST = map(tl.constexpr, range(8))
FIELDS = tl.constexpr(8)
START_TYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
CONSTANT = tl.constexpr(len(START_TYPES))

_TYPES = {
    torch.float32: tl.float32,
    torch.bfloat16: tl.bfloat16,
    torch.float16: tl.float16,
    torch.float64: tl.float64,
}


def gradient2(
    grads: list[Tensor],
    params: list[Tensor],
    compensations: list[Tensor],
    weight_decay: float,
    grad_scale: Tensor | None,
) -> Tensor:
    """See :func:`dog.kernels.blocks.gradient2`."""
    decays = bool(weight_decay and params)
    table = _table(grads, params, grads, [], [], compensations)
    return _sums(
        _gradient2, table, grad_scale, weight_decay,
        TYPE=_TYPES[grads[0].dtype], WIDE=_wide(grads[0], compensations),
        COMPENSATED=bool(compensations), DECAYS=decays,
    )  # fmt: skip


def distance2(params: list[Tensor], compensations: list[Tensor], starts: list[Tensor]) -> Tensor:
    """See :func:`dog.kernels.blocks.distance2`."""
    table = _table(params, params, [], starts, [], compensations)
    return _sums(
        _distance2, table,
        TYPE=_TYPES[params[0].dtype], WIDE=_wide(params[0], compensations),
        COMPENSATED=bool(compensations),
    )  # fmt: skip


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
    average_first: bool,
) -> Tensor:
    """See :func:`dog.kernels.blocks.update_`."""
    table = _table(params, params, grads, starts, averages, compensations)
    weight = average_weight if averages else None
    return _sums(
        _update, table, take, eta, weight, grad_scale, weight_decay,
        # One η for all is a single element, expanded.
        ETA_STRIDE=eta.stride(0), WEIGHT_STRIDE=0 if weight is None else weight.stride(0),
        TYPE=_TYPES[params[0].dtype], WIDE=_wide(params[0], compensations),
        AVERAGE_TYPE=_TYPES[averages[0].dtype] if averages else None,
        COMPENSATED=bool(compensations), DECAYS=bool(weight_decay), AVERAGE_FIRST=average_first,
    )  # fmt: skip


# The table of addresses --------------------------------------------------------------------------


class _Table(NamedTuple):
    rows: Tensor  # int64 [n, FIELDS]
    tensor_of: Tensor  # int64 [blocks]: the row that each block belongs to
    alignment: int  # bytes that all addresses are multiples of


# The latest tables by all that is in them. Where gradients come to lie where they did in the step
# before, and they mostly do, a step copies nothing to the device.
_tables: dict[tuple, _Table] = {}
# What CUDA graphs copy from whenever they are replayed.
_captured: list[Tensor] = []


def _table(like: list[Tensor], *lists: list[Tensor]) -> _Table:
    """Return the table of params, grads, starts, averages, compensations; any may be empty."""
    device = like[0].device
    cuda = device.type == "cuda"
    # A graph is replayed when the table that was there at its capture may be gone, and gradients
    # made in a capture have addresses of their own: it makes its table itself, at every replay.
    if cuda and torch.cuda.is_current_stream_capturing():
        return _new_table(like, *lists)
    starts = lists[2]
    key = (
        device,
        # The allocator orders reuse of a dropped table's memory by the stream it was made on.
        torch.cuda.current_stream(device).cuda_stream if cuda else 0,
        BLOCK,
        *(tuple(map(Tensor.data_ptr, tensors)) for tensors in lists),
        tuple(map(Tensor.numel, like)),
        tuple((x0.dtype, x0.stride()) for x0 in starts),
    )
    if key not in _tables:
        while len(_tables) >= TABLES:
            del _tables[next(iter(_tables))]
        _tables[key] = _new_table(like, *lists)
    return _tables[key]


def _new_table(like: list[Tensor], *lists: list[Tensor]) -> _Table:
    addresses = [[t.data_ptr() for t in tensors] or [0] * len(like) for tensors in lists]
    numels = [t.numel() for t in like]
    counts = [triton.cdiv(numel, BLOCK) for numel in numels]
    firsts = list(accumulate(counts, initial=0))[:-1]
    forms = [START_TYPES.index(x0.dtype) + CONSTANT.value * is_constant(x0) for x0 in lists[2]]
    columns = [*addresses, numels, forms or numels, firsts]
    rows = torch.tensor(columns, dtype=torch.int64).T.reshape(-1)
    tensor_of = torch.repeat_interleave(torch.tensor(counts, dtype=torch.int64))
    numbers = _on_device(torch.cat([rows, tensor_of]), like[0].device)
    aligned = all(address % 16 == 0 for column in addresses for address in column)
    return _Table(numbers[: len(rows)], numbers[len(rows) :], 16 if aligned else 1)


def _on_device(numbers: Tensor, device: torch.device) -> Tensor:
    if device.type == "cpu":  # in Triton's interpreter
        return numbers
    numbers = numbers.pin_memory()
    if torch.cuda.is_current_stream_capturing():
        _captured.append(numbers)
    return numbers.to(device, non_blocking=True)


def _wide(like: Tensor, compensations: list[Tensor]) -> tl.dtype:
    """Return the type that arithmetic is done in, as :attr:`dog.kernels.bundle.Bundle.wide`."""
    narrow = like.dtype in (torch.float16, torch.bfloat16)
    plain = like.dtype == torch.float32 and not compensations
    return tl.float32 if narrow or plain else tl.float64


def _sums(kernel: Any, table: _Table, *arguments: Any, **constants: Any) -> Tensor:
    """Launch a pass over all blocks and return each tensor's sum, float64 [n]."""
    blocks, n = len(table.tensor_of), len(table.rows) // FIELDS.value
    partials = table.rows.new_empty(blocks, dtype=torch.float64)
    totals = table.rows.new_empty(n, dtype=torch.float64)
    with torch.cuda.device_of(totals):
        if blocks:
            kernel[(blocks,)](
                table.rows, table.tensor_of, partials, *arguments, **constants,
                ALIGNMENT=table.alignment, BLOCK=BLOCK, num_warps=WARPS,
            )  # fmt: skip
        _total[(n,)](table.rows, partials, totals, BLOCK=BLOCK, CHUNK=CHUNK)
    return totals
