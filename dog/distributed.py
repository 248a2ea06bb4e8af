"""What makes a step the same on all processes that hold a part of the parameters."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeGuard

import torch
from torch import Tensor, nn
from torch import distributed as dist

from dog.kernels.bundle import is_constant

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def is_sharded(p: Tensor) -> "TypeGuard[DTensor]":
    """Return whether a tensor is a DTensor (FSDP2, HSDP, tensor parallelism)."""
    return hasattr(p, "placements")


def local(tensor: Tensor) -> Tensor:
    """Return the part of a tensor that lies in this process, as real numbers."""
    if is_sharded(tensor):
        tensor = tensor.to_local()
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def local_gradient(p: Tensor) -> Tensor:
    """Return this process's part of a parameter's gradient.

    Raises:
        RuntimeError: for a sparse gradient.
    """
    gradient = p.grad
    assert gradient is not None
    if gradient.layout != torch.strided:
        raise RuntimeError("DoG does not support sparse gradients; use sparse=False")
    if is_sharded(p) and is_sharded(gradient) and gradient.placements != p.placements:
        gradient = gradient.redistribute(placements=p.placements)
    gradient = local(gradient.resolve_conj())  # autograd leaves conjugates to be computed later
    # Kernels take x_0 as a single element, expanded; of a gradient they want all elements.
    return gradient.contiguous() if is_constant(gradient) else gradient


def let_go_of_gathered(model: nn.Module | None) -> None:
    """Have FSDP2 gather the weights anew at the next forward pass."""
    for module in model.modules() if model is not None else ():
        if callable(reshard := getattr(module, "reshard", None)):
            reshard()


class Processes:
    """The processes that the parameters of an optimizer are spread over.

    Args:
        params: all parameters; DTensors name their processes by themselves.
        group: the process group of plain tensors that are each a shard of a parameter (of what
            FSDP1 and ZeRO make); None: plain tensors are whole, and the same on every process.

    Raises:
        ValueError: if DTensors lie on different processes and no group is given.
    """

    def __init__(self, params: Iterable[Tensor], group: "dist.ProcessGroup | None") -> None:
        self.plain_are_shards = group is not None
        self.groups: list[dist.ProcessGroup | None]
        meshes = list({p.device_mesh: None for p in params if is_sharded(p)})
        if group is None and len({tuple(m.mesh.flatten().tolist()) for m in meshes}) > 1:
            raise ValueError(
                "the parameters are DTensors on meshes of different processes: give the "
                "process_group that holds them all"
            )
        if group is not None:
            self.groups = [group]
        elif not meshes:
            self.groups = []
        elif meshes[0].size() == dist.get_world_size():
            self.groups = [None]  # the default group: all processes
        else:  # a part of the processes: one axis of the mesh after the other
            self.groups = list(meshes[0].get_all_groups())
        self.rank = dist.get_rank(group) if group is not None else _rank(meshes)

    def contributes(self, p: Tensor) -> bool:
        """Return whether this process's part of a tensor counts in sums over all of them."""
        if not self.groups:
            return True
        if not is_sharded(p):  # a whole tensor counts once
            return self.plain_are_shards or self.rank == 0
        coordinate = p.device_mesh.get_coordinate()
        return coordinate is not None and all(
            not placement.is_replicate() or place == 0
            for placement, place in zip(p.placements, coordinate, strict=True)
        )

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum over all processes, the same bits on each."""
        for group in self.groups:
            dist.all_reduce(tensor, group=group)
        return tensor


def _rank(meshes: list) -> int:
    """Return 0 in the first process of the mesh alone."""
    return sum(meshes[0].get_coordinate() or (1,)) if meshes else 0
