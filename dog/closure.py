"""The closure that an optimizer's step may be given."""

from collections.abc import Callable
from typing import Any

import torch


def loss_of(closure: Callable[[], Any] | None, given: Any = None) -> Any:
    """Call a closure, which computes gradients, and return its loss; without one, the given."""
    if closure is None:
        return given
    with torch.enable_grad():
        return closure()
