"""How the learning rate goes from the first step to the last."""

import math
from collections.abc import Iterable
from typing import Any

from runner.specs import OptimizerSpec


def set_learning_rates(
    groups: Iterable[dict[str, Any]], opt: OptimizerSpec, step: int, steps: int
) -> None:
    """Set the learning rate of param groups, where they have one, for a step (0 ≤ step < steps).

    The peak stays in each group as ``initial_lr``, as with torch's schedulers.
    """
    now = factor(step, steps, opt.schedule, opt.warmup)
    for group in groups:
        if "lr" in group:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * now


def factor(step: int, steps: int, schedule: str, warmup: float) -> float:
    """Return what the peak learning rate is multiplied by at a step (0 ≤ step < steps).

    A linear warm-up over the first ``warmup`` part of the steps, then constant, or half a cosine
    that would reach 0 at step ``steps``.
    """
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    if schedule == "constant":
        return 1.0
    return (1 + math.cos(math.pi * (step - rising) / (steps - rising))) / 2
