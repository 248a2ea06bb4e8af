"""Evaluation: what networks predict for a split, and how their iterates score on validation."""

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from runner.batches import EvalBatches, iterate_batches
from runner.specs import Execution
from runner.training_state import TrainingState
from tasks.errors import NotFinite
from tasks.task import Task, to_device

Name = TypeVar("Name")


@torch.no_grad()
def evaluate(
    task: Task,
    networks: Mapping[Name, nn.Module],
    split: str,
    execution: Execution,
    device: torch.device,
) -> dict[Name, np.ndarray]:
    """Return each network's predictions for all of a split, [N, ...], in the split's order.

    Networks whose outputs are not finite have none.
    """
    predictions: dict[Name, list[Tensor]] = {name: [] for name in networks}
    for network in networks.values():
        network.eval()
    batches = EvalBatches(task, split, execution.eval_batch_size)
    for batch in iterate_batches(batches, range(len(batches)), execution.workers):
        inputs, _ = to_device(batch, device)
        for name in list(predictions):
            try:
                with autocast(device, task.train.precision):
                    predictions[name].append(task.predict(networks[name], inputs).cpu())
            except NotFinite:
                del predictions[name]
    return {name: torch.cat(parts).numpy() for name, parts in predictions.items()}


def validate(
    states: Sequence[TrainingState], task: Task, execution: Execution
) -> list[dict[str, float]]:
    """Return each run's log line with the validation scores of its iterates.

    Iterates that are their run's best so far are kept, where the protocol asks.
    """
    networks = {
        (i, name): network
        for i, state in enumerate(states)
        for name, network in state.iterates.items()
    }
    lines: list[dict[str, float]] = [{"step": state.step} for state in states]
    with ExitStack() as modes:
        for state in states:
            modes.enter_context(state.in_eval_mode())
        predictions = evaluate(task, networks, "validation", execution, states[0].device)
        for i, name in networks:
            answers = predictions.get((i, name))
            score = math.nan if answers is None else task.score("validation", answers)
            lines[i][f"validation_{name}"] = score
            if task.train.checkpoint == "best":
                states[i].keep_if_best(name, score if task.spec.higher_is_better else -score)
    return lines


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context in which the network runs in the given precision."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
