"""Which examples each step sees: a pure function of the seed, so that any step can be resumed."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tasks.errors import UserError
from tasks.task import Task


def seed_for(seed: int, purpose: str, index: int = 0) -> int:
    """Return a seed for one purpose, the same on every machine and unlike that of any other."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{index}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


class Order:
    """A stream of example indices that shuffles anew each time all have been seen."""

    def __init__(self, examples: int, batch_size: int, seed: int) -> None:
        self.examples, self.batch_size, self.seed = examples, batch_size, seed
        self._epochs: dict[int, Tensor] = {}

    def batch(self, step: int) -> Tensor:
        """Return the indices of a step's examples, int64 [batch_size]."""
        positions = range(step * self.batch_size, (step + 1) * self.batch_size)
        parts = []
        for epoch in range(positions[0] // self.examples, positions[-1] // self.examples + 1):
            start = epoch * self.examples
            low, high = max(positions[0] - start, 0), positions[-1] + 1 - start
            parts.append(self._epoch(epoch)[low:high])
        return torch.cat(parts)

    def _epoch(self, epoch: int) -> Tensor:
        if epoch not in self._epochs:
            generator = torch.Generator().manual_seed(seed_for(self.seed, "order", epoch))
            self._epochs = {  # only neighbours are ever needed again
                e: p for e, p in self._epochs.items() if abs(e - epoch) <= 1
            } | {epoch: torch.randperm(self.examples, generator=generator)}
        return self._epochs[epoch]


class TrainBatches(Dataset[Any]):
    """The augmented training batches of each step, one for each seed, in the order of the seeds.

    They do not depend on which process prepares them.
    """

    def __init__(self, task: Task, batch_size: int, seeds: Sequence[int]) -> None:
        self.task = task
        examples = len(task.splits["train"])
        self.orders = [Order(examples, batch_size, seed) for seed in seeds]

    def __getitem__(self, step: int) -> tuple[Any, ...]:
        return tuple(self._batch(order, step) for order in self.orders)

    def _batch(self, order: Order, step: int) -> Any:
        generator = torch.Generator().manual_seed(seed_for(order.seed, "augment", step))
        return self.task.batch("train", order.batch(step), generator)


class EvalBatches(Dataset[Any]):
    """The batches of a split, in the split's order and not augmented."""

    def __init__(self, task: Task, split: str, batch_size: int) -> None:
        self.task, self.split = task, split
        self.indices = torch.arange(len(task.splits[split])).split(batch_size)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, number: int) -> Any:
        return self.task.batch(self.split, self.indices[number])


def iterate_batches(batches: Dataset[Any], numbers: Iterable[int], workers: int) -> Iterator[Any]:
    """Yield the batches of these numbers, which so many processes prepare ahead (0: this one)."""
    loader = DataLoader(
        _ReturnsUserErrors(batches),
        batch_size=None,
        sampler=numbers,
        num_workers=workers,
        # Without one it draws from the global generator, and a resumed run would draw twice.
        generator=torch.Generator(),
    )
    for batch in loader:
        if isinstance(batch, UserError):
            raise batch
        yield batch


class _ReturnsUserErrors(Dataset[Any]):
    """Returns a UserError in place of a batch: raised in a process, it would be a traceback."""

    def __init__(self, batches: Dataset[Any]) -> None:
        self.batches = batches

    def __getitem__(self, number: int) -> Any:
        try:
            return self.batches[number]
        except UserError as error:
            return error
