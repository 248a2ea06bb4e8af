"""Steps for parameters without a gradient, of classes that would crash on them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.optim import Optimizer


@contextmanager
def only_with_gradients(optimizer: Optimizer) -> Iterator[list[dict[str, Any]]]:
    """Hide parameters without a gradient, and groups of nothing else; yield the groups left."""
    groups = optimizer.param_groups
    optimizer.param_groups = [
        {**group, "params": parameters}
        for group in groups
        if (parameters := [p for p in group["params"] if p.grad is not None])
    ]
    try:
        yield optimizer.param_groups
    finally:
        optimizer.param_groups = groups
