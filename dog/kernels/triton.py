"""The fused passes on CUDA, in Triton: one launch walks all tensors of a bundle.

A program does one block of one tensor. Where the tensors lie it reads from a table on the device,
and so are ``take``, η, the average's weight and the gradients' scale read: nothing waits for the
device. Each block's sum has a place of its own, and a second, small launch adds those of a tensor
in float64 in the order of the blocks: no atomics, the same bits every time.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from dog.kernels.bundle import SMALLEST_SQUARE, is_constant, wide

# Elements of a block, eight for each thread: enough to load 16 bytes at a time, and few enough
# registers for many warps to wait for memory at once.
BLOCK = 1024
# Blocks' sums that are added at a time.
CHUNK = 1024
# Tables kept: a step needs two for each bundle.
TABLES = 64

# Every operation rounds, as in the reference: a product and a sum are not made one.
_OPTIONS = {"num_warps": 4, "enable_fp_fusion": False}

# A tensor's row in the table: addresses, how many elements, in what form x_0 is (a place in
# START_TYPES, higher by CONSTANT for a single element, expanded), and its first block.
PARAM, GRAD, START, AVERAGE, COMPENSATION, NUMEL, FORM, FIRST = map(tl.constexpr, range(8))
FIELDS = tl.constexpr(8)
START_TYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
CONSTANT = tl.constexpr(len(START_TYPES))
SMALLEST = tl.constexpr(SMALLEST_SQUARE)

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
    return _sums(
        _gradient2,
        (params, grads, [], [], compensations),
        grad_scale=grad_scale,
        weight_decay=weight_decay,
    )


def distance2(params: list[Tensor], compensations: list[Tensor], starts: list[Tensor]) -> Tensor:
    """See :func:`dog.kernels.blocks.distance2`."""
    return _sums(_distance2, (params, [], starts, [], compensations))


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
    """See :func:`dog.kernels.blocks.update_`."""
    return _sums(
        _update,
        (params, grads, starts, averages, compensations),
        take=take,
        eta=eta,
        weight=average_weight if averages else None,
        grad_scale=grad_scale,
        weight_decay=weight_decay,
        averages_previous_iterate=averages_previous_iterate,
    )


@dataclass(frozen=True)
class _Case:
    """What a kernel is compiled for."""

    param_type: tl.dtype
    wide: tl.dtype  # that arithmetic is done in
    average_type: tl.dtype | None
    rest_type: tl.dtype | None  # of the compensations
    decays: bool
    averages_previous_iterate: bool
    # From one number to the next: one η for all is a single element, expanded.
    eta_stride: int
    weight_stride: int
    aligned: bool  # whether all addresses are multiples of 16 bytes


def _sums(
    body: Any,
    lists: tuple[list[Tensor], ...],
    take: Tensor | None = None,
    eta: Tensor | None = None,
    weight: Tensor | None = None,
    grad_scale: Tensor | None = None,
    weight_decay: float = 0.0,
    averages_previous_iterate: bool = False,
) -> Tensor:
    """Make a pass over all blocks and return each tensor's sum, float64 [n]."""
    params, grads, _, averages, compensations = lists
    like = params or grads
    totals = like[0].new_empty(len(like), dtype=torch.float64)
    if grad_scale is not None:  # there is one for all devices
        grad_scale = grad_scale.to(totals.device, non_blocking=True)
    with torch.cuda.device_of(totals):
        table = _table(lists, like)
        case = _Case(
            param_type=_TYPES[like[0].dtype],
            wide=_TYPES[wide(like[:1])],
            average_type=_TYPES[averages[0].dtype] if averages else None,
            rest_type=_TYPES[compensations[0].dtype] if compensations else None,
            decays=weight_decay != 0,
            averages_previous_iterate=averages_previous_iterate,
            eta_stride=0 if eta is None else eta.stride(0),
            weight_stride=0 if weight is None else weight.stride(0),
            aligned=table.aligned,
        )
        blocks = len(table.tensor_of)
        partials = totals.new_empty(blocks)
        if blocks:
            _walk[(blocks,)](
                table.rows, table.tensor_of, partials, take, eta, weight, grad_scale, weight_decay,
                BODY=body, CASE=case, BLOCK=BLOCK, **_OPTIONS,
            )  # fmt: skip
        _total[(len(like),)](table.rows, partials, totals, BLOCK=BLOCK, CHUNK=CHUNK, **_OPTIONS)
    return totals


# The table of addresses --------------------------------------------------------------------------


class _Table(NamedTuple):
    rows: Tensor  # int64 [n · FIELDS]
    tensor_of: Tensor  # int64 [blocks]: the row that each block belongs to
    aligned: bool


# The latest tables by all that is in them. Where the gradients lie where they did in the step
# before, and they mostly do, nothing is copied to the device.
_tables: dict[tuple, _Table] = {}
# What CUDA graphs copy from whenever they are replayed, by its bytes. No graph tells when it is
# gone; but one that is captured again, in the memory of the one before, needs nothing more.
_captured: dict[bytes, Tensor] = {}


def _table(lists: Sequence[list[Tensor]], like: list[Tensor]) -> _Table:
    """Return the table of params, grads, starts, averages, compensations; any may be empty."""
    device = like[0].device
    cuda = device.type == "cuda"
    # Gradients made in a capture have addresses of their own, and a graph may be replayed when
    # a table from before is gone: it has its own, from addresses that are the same ever after.
    if cuda and torch.cuda.is_current_stream_capturing():
        return _new_table(lists, like)
    key = (
        device,
        # Memory of a table that is dropped is safe from new owners on its own stream alone.
        torch.cuda.current_stream(device).cuda_stream if cuda else 0,
        BLOCK,
        *(tuple(map(Tensor.data_ptr, tensors)) for tensors in lists),
        *map(Tensor.numel, like),
        *((x0.dtype, x0.stride()) for x0 in lists[2]),
    )
    if key not in _tables:
        while len(_tables) >= TABLES:
            del _tables[next(iter(_tables))]
        _tables[key] = _new_table(lists, like)
    return _tables[key]


def _new_table(lists: Sequence[list[Tensor]], like: list[Tensor]) -> _Table:
    nothing = [0] * len(like)
    addresses = [[t.data_ptr() for t in tensors] or nothing for tensors in lists]
    numels = [t.numel() for t in like]
    forms = [START_TYPES.index(x0.dtype) + CONSTANT.value * is_constant(x0) for x0 in lists[2]]
    counts = [triton.cdiv(numel, BLOCK) for numel in numels]
    firsts = accumulate(counts[:-1], initial=0)
    columns = torch.tensor([*addresses, numels, forms or nothing, [*firsts]], dtype=torch.int64)
    tensor_of = torch.repeat_interleave(torch.tensor(counts, dtype=torch.int64))
    numbers = _on_device(torch.cat([columns.T.reshape(-1), tensor_of]), like[0].device)
    rows, tensor_of = numbers.split([columns.numel(), len(tensor_of)])
    aligned = all(address % 16 == 0 for column in addresses for address in column)
    return _Table(rows, tensor_of, aligned)


def _on_device(numbers: Tensor, device: torch.device) -> Tensor:
    """Return a copy that is there when the stream's next kernel runs; nothing waits for it."""
    if device.type == "cpu":  # in Triton's interpreter
        return numbers
    if torch.cuda.is_current_stream_capturing():
        numbers = _kept(numbers)
    else:
        numbers = numbers.pin_memory()
    return numbers.to(device, non_blocking=True)


def _kept(numbers: Tensor) -> Tensor:
    """Return a pinned copy that stays, the same for the same numbers."""
    content = ctypes.string_at(numbers.data_ptr(), numbers.nbytes)
    if content not in _captured:
        _captured[content] = numbers.pin_memory()
    return _captured[content]


# Kernels -----------------------------------------------------------------------------------------


@triton.jit
def _walk(
    rows, tensor_of, partials, take, eta, weight, grad_scale, weight_decay: tl.float64,
    BODY: tl.constexpr, CASE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Put what BODY returns for each block in its place."""
    i = tl.load(tensor_of + tl.program_id(0))
    row = rows + i * FIELDS
    begin = (tl.program_id(0) - tl.load(row + FIRST)) * BLOCK
    count = tl.load(row + NUMEL) - begin
    lanes = tl.arange(0, BLOCK)
    # The place: a row of the table, a first element, and the numbers and mask of those after it.
    if count >= BLOCK:  # without a mask, 16 bytes are loaded and stored at a time
        whole = row, begin, lanes, None
        square = BODY(whole, i, take, eta, weight, grad_scale, weight_decay, CASE)
    else:
        part = row, begin, lanes, lanes < count
        square = BODY(part, i, take, eta, weight, grad_scale, weight_decay, CASE)
    tl.store(partials + tl.program_id(0), square)


@triton.jit
def _total(rows, partials, totals, BLOCK: tl.constexpr, CHUNK: tl.constexpr):
    """Add the blocks' sums of each tensor."""
    row = rows + tl.program_id(0) * FIELDS
    partials += tl.load(row + FIRST)
    count = tl.cdiv(tl.load(row + NUMEL), BLOCK)
    lanes = tl.arange(0, CHUNK)
    total = tl.zeros((CHUNK,), tl.float64)
    for begin in range(0, count, CHUNK):
        total += tl.load(partials + begin + lanes, mask=begin + lanes < count, other=0.0)
    tl.store(totals + tl.program_id(0), tl.sum(total))


@triton.jit
def _gradient2(at, i, take, eta, weight, grad_scale, weight_decay, CASE: tl.constexpr):
    gradient = _read(at, GRAD, CASE.param_type, CASE)
    x = gradient  # not looked at where no weight decays
    if CASE.decays:
        x, rest = _parameter(at, CASE)
        x += rest
    return _sum_of_squares(at, _gradient(gradient, x, grad_scale, weight_decay, CASE))


@triton.jit
def _distance2(at, i, take, eta, weight, grad_scale, weight_decay, CASE: tl.constexpr):
    x, rest = _parameter(at, CASE)
    return _sum_of_squares(at, x - _start(at, CASE) + rest)


@triton.jit
def _update(at, i, take, eta, weight, grad_scale, weight_decay, CASE: tl.constexpr):
    # All is read before anything is written, so that the reads overlap.
    gradient = _read(at, GRAD, CASE.param_type, CASE)
    x, rest = _parameter(at, CASE)
    if weight is not None:
        average = _read(at, AVERAGE, CASE.average_type, CASE)
    x0 = _start(at, CASE)
    if tl.load(take):
        before = x + rest
        gradient = _gradient(gradient, before, grad_scale, weight_decay, CASE)
        # What is small is added to what is small first, so that x does not swallow it.
        move = rest - tl.load(eta + i * CASE.eta_stride).to(CASE.wide) * gradient
        rounded = _write(at, PARAM, CASE.param_type, x + move, CASE)
        if CASE.rest_type is not None:
            rest = _write(at, COMPENSATION, CASE.rest_type, (x - rounded) + move, CASE)
        x = rounded
        if weight is not None:
            w = tl.load(weight + i * CASE.weight_stride).to(tl.float64)
            joined = before if CASE.averages_previous_iterate else x + rest
            # Not x̄ + w (x − x̄): with w = 1 this copies exactly.
            average = (1 - w).to(CASE.wide) * average + w.to(CASE.wide) * joined
            _write(at, AVERAGE, CASE.average_type, average, CASE)
    return _sum_of_squares(at, x - x0 + rest)


@triton.jit
def _gradient(gradient, x, grad_scale, weight_decay, CASE: tl.constexpr):
    if grad_scale is not None:
        gradient *= (1.0 / tl.load(grad_scale).to(tl.float64)).to(CASE.wide)
    if CASE.decays:
        gradient += tl.full((), weight_decay, CASE.wide) * x
    return gradient


@triton.jit
def _parameter(at, CASE: tl.constexpr):
    """Return a parameter and its compensation, or 0."""
    x = _read(at, PARAM, CASE.param_type, CASE)
    rest = tl.zeros_like(x)
    if CASE.rest_type is not None:
        rest = _read(at, COMPENSATION, CASE.rest_type, CASE)
    return x, rest


@triton.jit
def _start(at, CASE: tl.constexpr):
    row, _, lanes, mask = at
    form = tl.load(row + FORM)
    if form < CONSTANT:
        x0 = _start_of_type(at, form, CASE)
    else:  # every element is the first
        x0 = _start_of_type((row, 0, lanes * 0, mask), form - CONSTANT, CASE)
    return x0


@triton.jit
def _start_of_type(at, place, CASE: tl.constexpr):
    if place == 0:  # in START_TYPES
        x0 = _read(at, START, tl.float32, CASE)
    elif place == 1:
        x0 = _read(at, START, tl.bfloat16, CASE)
    elif place == 2:
        x0 = _read(at, START, tl.float16, CASE)
    else:
        x0 = _read(at, START, tl.float64, CASE)
    return x0


@triton.jit
def _read(at, FIELD: tl.constexpr, TYPE: tl.constexpr, CASE: tl.constexpr):
    return tl.load(_pointers(at, FIELD, TYPE, CASE), mask=at[3]).to(CASE.wide)


@triton.jit
def _write(at, FIELD: tl.constexpr, TYPE: tl.constexpr, values, CASE: tl.constexpr):
    """Write values and return them as they have been rounded."""
    values = values.to(TYPE)
    tl.store(_pointers(at, FIELD, TYPE, CASE), values, mask=at[3])
    return values.to(CASE.wide)


@triton.jit
def _pointers(at, FIELD: tl.constexpr, TYPE: tl.constexpr, CASE: tl.constexpr):
    row, begin, lanes, _ = at
    first = tl.load(row + FIELD).to(tl.pointer_type(TYPE))
    if CASE.aligned:
        first = tl.multiple_of(first, 16)
    return first + begin + lanes


@triton.jit
def _sum_of_squares(at, values):
    """Return the sum, float64: of squares in the values' type, or in float64 where that fails."""
    if at[3] is not None:  # what lies beyond the mask is undefined
        values = tl.where(at[3], values, 0.0)
    square = tl.sum(values * values).to(tl.float64)
    # Too large for float32, or so small that some may have been lost. Most blocks are neither,
    # and many GPUs are slow in float64.
    if not (square > SMALLEST and square < float("inf")):
        exact = values.to(tl.float64)
        square = tl.sum(exact * exact)
    return square
