"""The tensors that one call of a kernel works on."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

# Where float32 sums the squares of a block to less, some may have been too small for it.
SMALLEST_SQUARE = 1e-25


@dataclass
class Bundle:
    """Real, local tensors of one device; entry i of each list belongs to parameter i.

    Attributes:
        index: place of each parameter among the members of the step (dog.layout.Members).
        params: x_t.
        grads: g_t, of the same shapes; empty where only distances are measured.
        starts: x_0, of the same shapes, in any float type that holds it exactly; a constant one
            is a single element, expanded.
        averages: the running averages, or empty.
        compensations: what rounded parameters lack of the exact ones (Kahan), or empty.
        weight_decay: λ of the L2 penalty: λ·x_t joins the gradient.
        averages_previous_iterate: whether the average takes x_t (before the update) or x_{t+1}.
    """

    index: list[int] = field(default_factory=list)
    params: list[Tensor] = field(default_factory=list)
    grads: list[Tensor] = field(default_factory=list)
    starts: list[Tensor] = field(default_factory=list)
    averages: list[Tensor] = field(default_factory=list)
    compensations: list[Tensor] = field(default_factory=list)
    weight_decay: float = 0.0
    averages_previous_iterate: bool = False

    def add(
        self,
        index: int,
        param: Tensor,
        grad: Tensor | None,
        start: Tensor,
        average: Tensor | None,
        compensation: Tensor | None,
    ) -> None:
        """Append one parameter."""
        self.index.append(index)
        self.params.append(param)
        self.starts.append(start)
        for tensors, tensor in (
            (self.grads, grad),
            (self.averages, average),
            (self.compensations, compensation),
        ):
            if tensor is not None:
                tensors.append(tensor)

    @property
    def wide(self) -> torch.dtype:
        """The type that arithmetic is done in."""
        return wide(self.params)


def wide(params: list[Tensor]) -> torch.dtype:
    """Return the type that arithmetic on parameters is done in: float32, or float64 for those."""
    return torch.float64 if any(p.dtype == torch.float64 for p in params) else torch.float32


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device: one on the host has arrived, one on a GPU is in its stream."""
    return tensor.to(device, non_blocking=device.type != "cpu")


def as_stored(tensor: Tensor) -> Tensor:
    """Return the tensor with its dimensions in the order that memory has them in."""
    return tensor.permute(sorted(range(tensor.dim()), key=tensor.stride, reverse=True))


def is_dense(tensor: Tensor) -> bool:
    """Return whether a tensor's elements lie in memory without gaps, in whatever order."""
    return tensor.is_contiguous() or as_stored(tensor).is_contiguous()


def is_constant(tensor: Tensor) -> bool:
    """Return whether a tensor is a single element, expanded."""
    return tensor.numel() > 1 and not any(tensor.stride())
