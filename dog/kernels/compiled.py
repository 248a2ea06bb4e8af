"""The fused passes on the CPU in C (cpu.c), where the installation could compile them.

Same functions as :mod:`dog.kernels.blocks`, which does what these cannot: tensors of other types
than float32 and bfloat16, or with gaps in memory.
"""

import ctypes
import functools
import importlib.machinery
import warnings
from array import array
from collections.abc import Collection, Sequence
from pathlib import Path

import torch
from torch import Tensor

from dog.kernels import blocks
from dog.kernels.bundle import is_constant, is_dense

VERSION, CHUNK = 1, 65536  # as in cpu.c
# Elements for which another thread pays.
_SHARE = 524288
_TYPES = {torch.float32: 1, torch.bfloat16: 2}
_CONSTANT_TYPES = {torch.float32: 3, torch.bfloat16: 4}
_GRADIENT2, _DISTANCE2, _UPDATE = 0, 1, 2


class _Arrays(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("numels", "params", "grads", "starts", "averages")),
        ("compensations", ctypes.c_void_p),
        ("start_types", ctypes.c_void_p),
        ("type", ctypes.c_int32),
    )


class _Numbers(ctypes.Structure):
    _fields_ = (
        ("scale", ctypes.c_double),
        ("weight_decay", ctypes.c_double),
        ("eta", ctypes.c_void_p),
        ("average_weight", ctypes.c_void_p),
        ("averages_previous_iterate", ctypes.c_int32),
    )


class _Work(ctypes.Structure):
    _fields_ = (
        ("arrays", ctypes.c_void_p),
        ("numbers", ctypes.c_void_p),
        ("partials", ctypes.c_void_p),
        ("tensors", ctypes.c_int64),
        ("thread_number", ctypes.c_void_p),
        ("thread_count", ctypes.c_void_p),
        ("which", ctypes.c_int32),
    )


@functools.cache
def library() -> ctypes.CDLL | None:
    """Return the compiled kernels, or None where the installation had no C compiler.

    None also where they were compiled from older sources, whose structs may be others.
    """
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        path = Path(__file__).with_name(f"_cpu{suffix}")
        if path.exists():
            found = ctypes.CDLL(str(path))
            if hasattr(found, "dog_version") and found.dog_version() == VERSION:
                return found
            warnings.warn(
                "DoG's kernels for the CPU were compiled from other sources, and slower ones are "
                "used: install the package again (in a checkout: pip install -e . --no-deps)",
                stacklevel=2,
            )
    return None


def gradient2(
    grads: list[Tensor],
    params: list[Tensor],
    compensations: list[Tensor],
    weight_decay: float,
    grad_scale: Tensor | None,
) -> Tensor:
    """See :func:`dog.kernels.blocks.gradient2`."""
    if not _can(params or grads, grads if params else [], compensations=compensations):
        return blocks.gradient2(grads, params, compensations, weight_decay, grad_scale)
    numbers = _Numbers(_inverse(grad_scale), weight_decay)
    return _run(_GRADIENT2, numbers, grads, params, compensations=compensations)


def distance2(params: list[Tensor], compensations: list[Tensor], starts: list[Tensor]) -> Tensor:
    """See :func:`dog.kernels.blocks.distance2`."""
    if not _can(params, compensations=compensations, starts=starts):
        return blocks.distance2(params, compensations, starts)
    return _run(_DISTANCE2, _Numbers(), [], params, starts, compensations=compensations)


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
    if not _can(params, grads, compensations=compensations, starts=starts, averages=averages):
        return blocks.update_(
            params, compensations, averages, grads, starts, eta, average_weight, take,
            weight_decay, grad_scale, averages_previous_iterate,
        )  # fmt: skip
    if not take.item():
        return distance2(params, compensations, starts)
    eta = eta.contiguous()
    weight = eta if average_weight is None else average_weight.contiguous()
    numbers = _Numbers(
        _inverse(grad_scale),
        weight_decay,
        eta.data_ptr(),
        weight.data_ptr(),
        averages_previous_iterate,
    )
    return _run(_UPDATE, numbers, grads, params, starts, averages, compensations)


def _can(
    like: list[Tensor],
    *lists: list[Tensor],
    starts: Sequence[Tensor] = (),
    averages: Sequence[Tensor] = (),
    compensations: Sequence[Tensor] = (),
) -> bool:
    """Return whether the library is there and knows these types and layouts."""
    dtype = like[0].dtype
    if library() is None or dtype not in _TYPES or (compensations and dtype == torch.float32):
        return False
    contiguous = all(map(Tensor.is_contiguous, like))

    def fit(tensors: Sequence[Tensor], types: Collection[torch.dtype], one: bool = False) -> bool:
        """Return whether tensors of these types lie in memory as `like` does."""
        if not all(t.dtype in types for t in tensors):
            return False
        if contiguous and all(map(Tensor.is_contiguous, tensors)):  # quick to see, and usual
            return True
        return all(
            t.stride() == p.stride()
            or (t.is_contiguous() and p.is_contiguous())
            or (one and is_constant(t))
            for t, p in zip(tensors, like, strict=False)
        )

    return (
        all(p.dtype == dtype and (contiguous or is_dense(p)) for p in like)
        and all(fit(tensors, (dtype,)) for tensors in (*lists, compensations))
        and fit(averages, (torch.float32,))
        and fit(starts, _TYPES, one=True)
    )


def _inverse(grad_scale: Tensor | None) -> float:
    return 1.0 if grad_scale is None else 1 / grad_scale.item()


def _run(
    which: int,
    numbers: _Numbers,
    grads: list[Tensor],
    params: list[Tensor],
    starts: Sequence[Tensor] = (),
    averages: Sequence[Tensor] = (),
    compensations: Sequence[Tensor] = (),
) -> Tensor:
    """Do a pass and return each parameter's sum, float64 [n]."""
    kernels = library()
    assert kernels is not None
    like = params or grads
    numels = array("q", map(Tensor.numel, like))
    lists = [
        array("q", map(Tensor.data_ptr, tensors))
        for tensors in (params, grads, starts, averages, compensations)
    ]
    types = array("i", [_start_type(x0) for x0 in starts])
    arrays = _Arrays(
        _address(numels), *map(_address, lists), _address(types), _TYPES[like[0].dtype]
    )
    chunks = sum(-(-n // CHUNK) for n in numels)
    partials = torch.empty(chunks, dtype=torch.float64)
    totals = torch.empty(len(like), dtype=torch.float64)

    parallel, thread_number, thread_count = _openmp()
    work = _Work(
        ctypes.addressof(arrays), ctypes.addressof(numbers), partials.data_ptr(),
        len(like), thread_number, thread_count, which,
    )  # fmt: skip
    threads = max(1, min(torch.get_num_threads(), chunks * CHUNK // _SHARE))
    kernels.dog_pass(ctypes.byref(work), ctypes.c_int32(threads), ctypes.c_void_p(parallel))
    kernels.dog_totals(
        ctypes.c_void_p(_address(numels)), ctypes.c_int64(len(like)),
        ctypes.c_void_p(partials.data_ptr()), ctypes.c_void_p(totals.data_ptr()),
    )  # fmt: skip
    return totals


def _start_type(x0: Tensor) -> int:
    one = not x0.is_contiguous() and is_constant(x0)  # the first is quick to see
    return (_CONSTANT_TYPES if one else _TYPES)[x0.dtype]


def _address(numbers: array) -> int | None:
    """Return where an array lies; None where it is empty."""
    return numbers.buffer_info()[0] if numbers else None


@functools.cache
def _openmp() -> tuple[int | None, ...]:
    """Return the addresses of GNU OpenMP's functions, which torch has loaded on Linux, or None."""
    names = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")
    try:
        loaded = ctypes.CDLL(None)
        return tuple(ctypes.cast(getattr(loaded, n), ctypes.c_void_p).value for n in names)
    except (AttributeError, OSError, TypeError):
        return None, None, None
