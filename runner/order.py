"""Which examples each step sees: a pure function of the seed, so that any step can be resumed."""

import hashlib
from collections.abc import Iterable, Iterator
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


class Batches(Dataset[Any]):
    """A training run's batches by step, augmented; the same whoever prepares them."""

    def __init__(self, task: Task, batch_size: int, seed: int) -> None:
        self.task, self.seed = task, seed
        self.order = Order(len(task.splits["train"]), batch_size, seed)

    def __getitem__(self, step: int) -> Any:
        generator = torch.Generator().manual_seed(seed_for(self.seed, "augment", step))
        return self.task.batch("train", self.order.batch(step), generator)


class Parts(Dataset[Any]):
    """A split in batches, in its own order and not augmented."""

    def __init__(self, task: Task, split: str, batch_size: int) -> None:
        self.task, self.split = task, split
        self.indices = torch.arange(len(task.splits[split])).split(batch_size)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, number: int) -> Any:
        return self.task.batch(self.split, self.indices[number])


def prepared(batches: Dataset[Any], numbers: Iterable[int], workers: int) -> Iterator[Any]:
    """Yield the batches of these numbers, prepared ahead by so many processes (0: by this one)."""
    loader = DataLoader(
        _Messenger(batches),
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


class _Messenger(Dataset[Any]):
    """Hands over a UserError as it is: raised in a process, it would arrive as a traceback."""

    def __init__(self, batches: Dataset[Any]) -> None:
        self.batches = batches

    def __getitem__(self, number: int) -> Any:
        try:
            return self.batches[number]
        except UserError as error:
            return error
