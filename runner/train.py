"""The training loop, of one run and of replicas that train together."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch

from runner.batches import TrainBatches, iterate_batches
from runner.signals import StopRequest
from runner.training_state import CHECK_EVERY
from tasks.task import Task, to_device

if TYPE_CHECKING:
    from runner.run import Job

# Steps that are logged besides every log_every-th: DoG's step size grows most at the beginning.
EARLY = (1, 2, 3, 5, 7)
# The part of the time that checkpoints of a large network may take.
SAVING_SHARE = 0.05


class Trainable(Protocol):
    """What the loop trains: a SingleRun, or a ReplicaGroup of runs that are at the same step."""

    task: Task
    job: "Job"  # or any of theirs: they are alike in all that the loop asks for
    device: torch.device

    @property
    def step(self) -> int:
        """Steps taken."""

    @property
    def seeds(self) -> Sequence[int]:
        """Seeds of the batches that it needs at each step."""

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left to train here, whatever the step."""

    def compute_gradients(self, batches: Sequence[Any]) -> None:
        """Compute losses and gradients of the batches of one step, one batch for each seed."""

    def update(self) -> None:
        """Change the weights, with the learning rate of this step, and the averages."""

    def log(self) -> None:
        """Log loss and step size of the latest step."""

    def look(self) -> None:
        """Find out whether runs have diverged, which waits for the device."""

    def validate(self) -> None:
        """Score both iterates on validation, and log the scores."""

    def save(self) -> None:
        """Write checkpoints."""

    def apportion_time(self, trained: bool) -> None:
        """Charge the runs with the time since the latest call, and as training if it was that."""


def train(runs: Trainable, stop: StopRequest) -> None:
    """Train until the budget's last step, until nothing is left to train, or until a signal."""
    budget, execution = runs.job.spec.train, runs.job.execution
    steps, keeps_best = budget.steps, budget.checkpoint == "best"
    batches = TrainBatches(runs.task, budget.batch_size, runs.seeds)
    due_at = time.monotonic() + execution.checkpoint_seconds  # when the next checkpoint is

    for batch in iterate_batches(batches, range(runs.step, steps), execution.workers):
        if runs.is_over:
            break
        runs.compute_gradients(to_device(batch, runs.device))
        runs.update()

        step, last = runs.step, runs.step == steps
        if last or step % execution.log_every == 0 or step in EARLY:
            runs.log()
        if last or step % CHECK_EVERY == 0:
            runs.look()
        runs.apportion_time(trained=True)

        # The last step's scores are those of the result, unless an earlier step may beat them.
        due = keeps_best if last else step % budget.eval_every == 0
        if due and not runs.is_over:
            runs.validate()
        if stop.signum or last or time.monotonic() > due_at:
            began = time.monotonic()
            runs.save()
            cost = time.monotonic() - began
            due_at = began + max(execution.checkpoint_seconds, cost / SAVING_SHARE)
            if stop.signum:
                break
        runs.apportion_time(trained=False)
