"""The fused implementation: one pass over the gradients, one over everything else.

The second pass updates a parameter, takes it into the average and measures its distance from the
start while it is at hand, so that a step moves 20 bytes a float32 parameter, 28 with averaging.
On the CPU it is compiled C (:mod:`dog.kernels.compiled`) or, where nothing could be compiled,
torch over blocks of memory that stay in cache (:mod:`dog.kernels.blocks`); on CUDA it is Triton
(:mod:`dog.kernels.triton`). Both stand behind three torch operators, which
``torch.compile`` and dispatch modes see as a whole.
"""

import functools
import importlib.util
import warnings

import torch
from torch import Tensor

from dog.kernels import compiled
from dog.kernels.bundle import Bundle, is_constant, is_dense

_library = torch.library.Library("dog", "DEF")
_library.define(
    "gradient2(Tensor[] grads, Tensor[] params, Tensor[] compensations, float weight_decay, "
    "Tensor? grad_scale) -> Tensor"
)
_library.define("distance2(Tensor[] params, Tensor[] compensations, Tensor[] starts) -> Tensor")
_library.define(
    "update_(Tensor(a!)[] params, Tensor(b!)[] compensations, Tensor(c!)[] averages, "
    "Tensor[] grads, Tensor[] starts, Tensor eta, Tensor? average_weight, Tensor take, "
    "float weight_decay, Tensor? grad_scale, bool averages_previous_iterate) -> Tensor"
)


def gradient2(bundle: Bundle, grad_scale: Tensor | None = None) -> Tensor:
    """See :func:`dog.kernels.reference.gradient2`."""
    decays = bundle.weight_decay != 0
    return torch.ops.dog.gradient2(
        bundle.grads,
        bundle.params if decays else [],
        bundle.compensations if decays else [],
        bundle.weight_decay,
        grad_scale,
    )


def distance2(bundle: Bundle) -> Tensor:
    """See :func:`dog.kernels.reference.distance2`."""
    return torch.ops.dog.distance2(bundle.params, bundle.compensations, bundle.starts)


def update(
    bundle: Bundle,
    eta: Tensor,
    average_weight: Tensor | None,
    take: Tensor,
    grad_scale: Tensor | None = None,
) -> Tensor | None:
    """See :func:`dog.kernels.reference.update`; returns ‖x_{t+1} − x_0‖²."""
    result = torch.ops.dog.update_(
        bundle.params,
        bundle.compensations,
        bundle.averages,
        bundle.grads,
        bundle.starts,
        eta,
        average_weight,
        take,
        bundle.weight_decay,
        grad_scale,
        bundle.averages_previous_iterate,
    )
    if not torch.compiler.is_compiling():
        changed = (*bundle.params, *bundle.compensations, *bundle.averages)
        torch.autograd.graph.increment_version(changed)
    return result


def applies(tensors: list[Tensor], gradient: Tensor | None) -> bool:
    """Return whether the kernels can do a parameter; tensors: it and all that is kept of it."""
    if tensors[0].device.type == "cpu":
        return True
    if tensors[0].device.type != "cuda" or not _has_triton():
        return False
    if gradient is not None:
        if gradient.dtype != tensors[0].dtype:  # which the kernel reads it in
            return False
        tensors = [*tensors, gradient]
    # The kernel walks memory in order, so all have to lie in the same.
    same = all(t.stride() == tensors[0].stride() for t in tensors if not is_constant(t))
    return same and is_dense(tensors[0])


def engine(device: torch.device) -> str:
    """Return what makes the passes on a device: C, Triton, or torch's own operators.

    Sums come out otherwise in the last bits with each.
    """
    if device.type == "cuda":
        return "Triton" if _has_triton() else "torch"
    return "torch" if compiled.library() is None else "C"


@functools.cache
def _has_triton() -> bool:
    """Return whether Triton is installed and can start, for which it compiles a C file."""
    if importlib.util.find_spec("triton") is None:
        return False
    try:
        _start_triton()
    except Exception as error:  # whatever a compiler, a driver or a file system says
        warnings.warn(
            f"Triton cannot start ({error}), so DoG takes more passes over memory: it needs a C "
            "compiler and Python's headers (python3-dev)",
            stacklevel=2,
        )
        return False
    return True


def _start_triton() -> None:
    from triton.runtime.driver import driver

    driver.active.get_current_target()


def _cuda(name: str):
    """Return an operator's CUDA implementation, which imports Triton when it is first called."""

    def implementation(*arguments):
        from dog.kernels import triton

        return getattr(triton, name)(*arguments)

    return implementation


def _numbers(tensors: list[Tensor], *_) -> Tensor:
    """Stand for the result of each operator where nothing is computed (fake tensors)."""
    return tensors[0].new_empty(len(tensors), dtype=torch.float64)


for _name in ("gradient2", "distance2", "update_"):
    _library.impl(_name, getattr(compiled, _name), "CPU")
    _library.impl(_name, _cuda(_name), "CUDA")
    torch.library.register_fake(f"dog::{_name}", _numbers, lib=_library)
