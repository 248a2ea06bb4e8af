"""Reads the options of a command line that are not a run's: numbers, truths, what trains."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from sweeps import executors
from sweeps.executors.specs import ExecutorSpec, LocalSpec
from tasks.errors import UserError


def executor_of(options: Mapping[str, str], on_cpu: bool) -> ExecutorSpec:
    """Return the settings of the executor that the options choose; `on_cpu`: all runs say so."""
    words = [f"{key}={value}" for key, value in options.items() if key.startswith("executor")]
    if "jobs" in options:
        if "executor.workers" in options:
            raise UserError("jobs= is short for executor.workers=: give one of them")
        if options.get("executor", "local") != "local":
            raise UserError(
                f"jobs= is for executor=local; see configs/executor/{options['executor']}.yaml"
            )
        words.append(f"executor.workers={number('jobs', options, int)}")
    chosen = executors.settings(words)
    if isinstance(chosen, LocalSpec) and chosen.gpus is None and on_cpu:
        return chosen.replaced(gpus=0)  # as many workers as cores have room for
    return chosen


def boolean(key: str, options: Mapping[str, str]) -> bool:
    """Return a truth; false if it was not given."""
    value = options.get(key, "false").lower()
    if value not in ("true", "false"):
        raise UserError(f"{key}={value}: must be true or false")
    return value == "true"


def number(key: str, options: Mapping[str, str], kind: Callable[[str], Any]) -> Any:
    """Return a number above 0, of the type `kind`; None if it was not given."""
    if key not in options:
        return None
    try:
        value = kind(options[key])
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        what = "a whole number" if kind is int else "a number"
        raise UserError(f"{key}={options[key]}: must be {what} above 0")
    return value
