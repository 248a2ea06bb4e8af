"""What an optimizer step does to memory, counted operator by operator instead of timed."""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from types import FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# Operators whose answer the host has to wait for.
_READ_ON_HOST = {"_local_scalar_dense", "equal", "nonzero", "masked_select", "_unique2"}
# In-place operators that do not look at what they overwrite.
_OVERWRITING = {
    "copy_", "fill_", "zero_", "normal_", "uniform_", "_foreach_copy_", "_foreach_zero_"
}  # fmt: skip
# Operators that make a tensor and leave its memory as it is.
_ALLOCATING = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}
_COPYING = {"copy_", "_to_copy", "_foreach_copy_"}


class Traffic(TorchDispatchMode):
    """Within, count the bytes that operators move, the reads by the host, and the operators.

        >>> gradient, x = torch.ones(1000), torch.ones(1000)
        >>> with Traffic() as traffic:
        ...     x.sub_(gradient).sum().item()
        0.0
        >>> traffic.bytes  # reads x and the gradient, writes x; reads x for the sum
        16000
        >>> traffic.syncs, traffic.calls
        (1, 2)

    An operator reads its tensor arguments and writes its results. What it changes in place, by its
    schema, it reads and writes; ``out=`` and the target of a copy or a fill it only writes. Views
    and allocations move nothing. A tensor that is given to one operator twice counts once, and an
    expanded one as what lies in memory. So these are the bytes that a step has to move where
    nothing stays in the cache between two operators.

    What an operator does inside is not seen: ``torch.ops.dog.update_`` is one operator, and so is
    a foreach operator, even where its implementation reads a number on the host or walks its
    tensors one by one. Neither seen is ``tolist()`` of a CPU tensor, which calls no operator.

    Args:
        smallest: tensors of fewer bytes are left out of ``bytes``, being numbers rather than
            parameters. 0 counts everything.
        device: the type of device that the parameters are on. The host waits for tensors on it.
        on_host: tensors that would be on the host wherever the parameters are, such as the step
            counters of torch's Adam. To read one is no sync.

    Attributes:
        bytes: bytes read and written.
        syncs: times the host needs the value of a tensor on the device: ``item()``, ``bool()``, a
            shape that depends on values, and blocking copies between a GPU and the host. With
            ``device="cpu"`` nothing is waited for, but the same code would wait on a GPU.
        calls: operators that compute; neither views nor allocations nor reads by the host.
        by_operator: the bytes of each operator, to see where they come from.
    """

    def __init__(
        self, smallest: int = 1024, device: str = "cpu", on_host: Iterable[Tensor] = ()
    ) -> None:
        super().__init__()
        self.smallest = smallest
        self.device = device
        self.on_host = {_storage(t) for t in on_host}
        self.bytes = 0
        self.syncs = 0
        self.calls = 0
        self.by_operator: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run an operator and count it."""
        result = func(*args, **(kwargs or {}))
        # Others are marks for the profiler and questions about a tensor's shape.
        if func.namespace not in ("profiler", "prim"):
            given = {
                argument.name: args[i] if i < len(args) else (kwargs or {}).get(argument.name)
                for i, argument in enumerate(func._schema.arguments)
            }
            self._count(func, given, result)
        return result

    def _count(self, func: Any, given: dict[str, Any], result: Any) -> None:
        name = func.overloadpacket.__name__
        read, written = _touched(func, given)
        storages = {_storage(t) for t in chain(read, written)}
        made = [t for t in _tensors(result) if _storage(t) not in storages]
        if self._waits(name, given, read) or _is_blocking(name, given, read, made):
            self.syncs += 1
        if name == "_local_scalar_dense" or name in _ALLOCATING:
            return
        # A view changes nothing and makes no memory; neither does what only looks at a shape.
        if torch.Tag.inplace_view in func.tags or not (written or made or name == "equal"):
            return
        self.calls += 1
        moved = self._size(read) + self._size(written + made)
        self.bytes += moved
        self.by_operator[str(func)] += moved

    def _waits(self, name: str, given: dict[str, Any], read: list[Tensor]) -> bool:
        if name in ("index", "index_put_"):  # the ones of a mask have to be counted first
            read = [t for t in _tensors(given["indices"]) if t.dtype == torch.bool]
        elif name not in _READ_ON_HOST:
            return False
        return any(t.device.type == self.device and _storage(t) not in self.on_host for t in read)

    def _size(self, tensors: Iterable[Tensor]) -> int:
        different = {(t.data_ptr(), t.shape, t.stride()): _extent(t) for t in tensors}
        return sum(size for size in different.values() if size >= self.smallest)


def held_bytes(holders: Iterable[Any], without: Iterable[Tensor] = ()) -> int:
    """Return the bytes of all tensors that some objects hold, each storage once.

    ``without`` are tensors that are not meant, such as parameters and their gradients. Walks
    lists, dicts and attributes, so that what an object keeps beside its ``state`` counts too.
    """
    seen: set[int] = set()
    known = {_storage(t) for t in without}
    total = 0
    waiting = list(holders)
    while waiting:
        held = waiting.pop()
        if id(held) in seen or isinstance(held, type | ModuleType | FunctionType | MethodType):
            continue
        seen.add(id(held))
        if isinstance(held, Tensor):
            if _storage(held) not in known:
                known.add(_storage(held))
                total += held.untyped_storage().nbytes()
            continue
        if isinstance(held, dict):
            waiting += held.values()  # the keys of an optimizer's state are parameters
        elif isinstance(held, list | tuple | set):
            waiting += held
        waiting += getattr(held, "__dict__", {}).values()
    return total


def _touched(func: Any, given: dict[str, Any]) -> tuple[list[Tensor], list[Tensor]]:
    """Return the arguments that an operator reads, and those that it writes."""
    name = func.overloadpacket.__name__
    # torch's fused optimizers are declared to change the gradients, and do with a scale only.
    spared = "grads" if name.startswith("_fused_") and given.get("grad_scale") is None else None
    read: list[Tensor] = []
    written: list[Tensor] = []
    for argument in func._schema.arguments:
        tensors = list(_tensors(given[argument.name]))
        alias = argument.alias_info
        changes = alias is not None and alias.is_write and argument.name != spared
        if changes:
            written += tensors
        if not changes or not (argument.is_out or name in _OVERWRITING):
            read += tensors
    return read, written


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _tensors(entry)


def _storage(tensor: Tensor) -> int:
    """Return what is the same for tensors that share memory."""
    return tensor.untyped_storage()._cdata


def _extent(tensor: Tensor) -> int:
    """Return the bytes of a tensor that lie in memory: an expanded dimension is there once."""
    count = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        count *= size if stride or not size else 1
    return count * tensor.element_size()


def _is_blocking(name: str, given: dict[str, Any], read: list[Tensor], made: list[Tensor]) -> bool:
    """Return whether this is a copy between a device and the host that the host waits for."""
    if name not in _COPYING or given.get("non_blocking"):
        return False
    devices = {t.device.type for t in chain(read, made or _tensors(given["self"]))}
    return len(devices) > 1 and "cpu" in devices
