"""A run that trains by itself."""

import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from runner import checkpoint
from runner.errors import Stopped
from runner.evaluation import autocast, validate
from runner.metrics import MetricsLog, metrics_file
from runner.optimizer import step_sizes, summary, take_step
from runner.schedule import set_learning_rates
from runner.signals import stop_request
from runner.tracking import Tracker
from runner.train import train
from runner.training_state import TrainingState
from tasks.task import Task

if TYPE_CHECKING:
    from runner.run import Job


def train_alone(state: TrainingState, task: Task, job: "Job", tracker: Tracker) -> None:
    """Train a run until the protocol's last step, or until it has diverged.

    Raises:
        Stopped: after SIGINT or SIGTERM, with the state saved.
        Busy: if another process took the run over.
    """
    steps = job.spec.train.steps
    with (
        metrics_file(job.folder, state) as log,
        stop_request() as stop,
        progress_bar(state.step, steps, job.execution.progress) as bar,
    ):
        run = SingleRun(state, task, job, log, tracker, bar)
        train(run, stop)
    if stop.signum and not (run.is_over or run.step == steps):
        raise Stopped(stop.signum, run.step, job.spec.opt.resumable)


class SingleRun:
    """One run, as the training loop trains it (:class:`runner.train.Trainable`)."""

    def __init__(
        self,
        state: TrainingState,
        task: Task,
        job: "Job",
        log: MetricsLog,
        tracker: Tracker,
        bar: tqdm,
    ) -> None:
        self.state, self.task, self.job, self.device = state, task, job, state.device
        self.metrics, self.tracker, self.bar = log, tracker, bar
        self.seeds = [job.spec.seed]
        self.batch: Any = None  # of the step
        self.loss: Tensor = torch.zeros(())
        self.clock = time.monotonic()
        task.set_training(state.network)

    @property
    def step(self) -> int:
        """Steps taken."""
        return self.state.step

    @property
    def is_over(self) -> bool:
        """Whether the run has diverged."""
        return self.state.diverged

    def compute_gradients(self, batches: Sequence[Any]) -> None:
        """Compute the loss and the gradients of the step's batch, unless its closure will."""
        (self.batch,) = batches
        if self.job.spec.opt.step != "closure":
            self._backward()

    @torch.enable_grad()  # a step that calls it may have switched gradients off
    def _backward(self) -> Tensor:
        """Compute the gradients of the step's batch anew; return its loss, detached."""
        inputs, targets = self.batch
        network, clip_norm = self.state.network, self.job.spec.opt.clip_norm
        self.state.optimizer.zero_grad()
        with autocast(self.device, self.task.train.precision):
            loss = self.task.loss(self.task.forward(network, inputs), targets)
        loss.backward()
        self.loss = loss.detach()
        if clip_norm is not None:
            nn.utils.clip_grad_norm_(network.parameters(), clip_norm)
        return self.loss

    def update(self) -> None:
        """Step the optimizer, with the learning rate of this step, and the averager."""
        state, opt, steps = self.state, self.job.spec.opt, self.job.spec.train.steps
        set_learning_rates(state.optimizer.param_groups, opt, state.step, steps)
        take_step(state.optimizer, opt, self.loss, self._backward)
        if state.averager is not None:
            state.averager.step()
        state.step += 1
        state.count(self.loss)
        self.bar.update()

    def log(self) -> None:
        """Log loss and step size."""
        self._read_loss()
        numbers = summary(step_sizes(self.state.optimizer, self.job.spec.opt))
        line = {"step": self.step, "loss": self.state.train_loss, **numbers}
        self.bar.set_postfix(shown(line))
        self._write(line)

    def look(self) -> None:
        """Find out whether the run has diverged."""
        self._read_loss()
        self.state.look()

    def validate(self) -> None:
        """Score both iterates on validation, and log the scores."""
        (line,) = validate([self.state], self.task, self.job.execution)
        self._write(line)
        self.task.set_training(self.state.network)

    def save(self) -> None:
        """Write a checkpoint, unless the optimizer cannot go on from one."""
        if not self.job.spec.opt.resumable:
            return
        self.state.metrics_bytes = self.metrics.size()
        self.job.folder.lock.check()
        checkpoint.save_run(self.job, self.state)

    def apportion_time(self, trained: bool) -> None:
        """Count the time since the latest call as training, if it was; all time is this run's."""
        now = time.monotonic()
        if trained:
            self.state.train_seconds += now - self.clock
        self.clock = now

    def _read_loss(self) -> None:
        self.state.train_loss = self.loss.item()

    def _write(self, line: Mapping[str, float]) -> None:
        self.metrics(line)
        self.tracker.log(line)


def progress_bar(step: int, steps: int, wanted: bool) -> tqdm:
    """Show where the run is; a line every ten seconds where nobody watches a terminal."""
    return tqdm(
        total=steps,
        initial=step,
        unit="step",
        disable=not wanted,
        mininterval=0.2 if sys.stderr.isatty() else 10,
    )


def shown(line: Mapping[str, float]) -> dict[str, str]:
    """Return the part of a log line that the progress bar shows."""
    symbols = {"loss": "loss", "eta": "η", "lr": "lr"}
    return {symbols[name]: f"{line[name]:.3g}" for name in symbols if name in line}
