"""Replicas: runs of one problem that differ in optimizer, its settings or seed train together.

They share the process, the data and one pass over each batch. Each gives the record that it would
give alone: what they share (sweeps/stack.py) does not change a bit of what a run computes.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch

from runner import checkpoint, tracking
from runner import config as configuration
from runner.config import Config
from runner.errors import Busy, Crash, Stopped
from runner.evaluation import validate
from runner.metrics import MetricsLog, metrics_file
from runner.run import (
    Job,
    Provenance,
    build_task,
    prepare_training,
    results,
    set_up,
    translate_errors,
    what_was_read,
    write_record,
)
from runner.run_record import RunRecord
from runner.signals import StopRequest, stop_request
from runner.single_run import train_alone
from runner.train import train
from runner.training_state import TrainingState
from sweeps.stack import SharedOptimizer, Stack, sharing
from tasks.errors import UserError
from tasks.task import Task

# How one of several runs ended: with its record, or with the reason why there is none.
RunResult = RunRecord | UserError | Busy | Stopped | Crash

# Steps in a row with a loss that was not finite, of a run that has just taken a step in a group.
NONE_LOST = torch.zeros((), dtype=torch.int64)


@dataclass(eq=False)
class Replica:
    """A run that trains together with others."""

    place: int  # in the list of runs that were asked for
    job: Job
    state: TrainingState  # as of a run alone, once ReplicaGroup has written back what is shared
    provenance: Provenance
    log: MetricsLog = field(init=False)
    outcome: RunResult | None = None  # if the run ended without a record

    @property
    def seed(self) -> int:
        """The run's seed, which decides the batches that it sees."""
        return self.job.spec.seed

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left to train."""
        return self.state.diverged or self.state.step == self.job.spec.train.steps

    def save(self) -> None:
        """Write a checkpoint, from which the run can also go on alone, if the lock is still ours.

        If not, that is the run's outcome.
        """
        try:
            self.job.folder.lock.check()
        except Busy as error:
            self.outcome = error
            return
        self.state.metrics_bytes = self.log.size()
        checkpoint.save_run(self.job, self.state)


def run_together(configs: Sequence[Config]) -> Iterator[tuple[int, RunResult]]:
    """Train the runs of these configurations of one problem; yield the place and result of each.

    An exception is no single run's fault: each run may then be tried alone, and goes on from its
    checkpoint.

    Raises:
        ValueError: if they differ in more than optimizer and seed, or cannot be replicas.
        UserError: if wandb is wanted and not installed.
    """
    if len(set(map(configuration.replica_key, configs))) > 1:
        raise ValueError("replicas differ in optimizer and seed alone")
    if not all(config.spec.opt.can_train_in_group for config in configs):
        raise ValueError("an optimizer cannot be one of several replicas")
    tracking.check(configs[0].execution.wandb)
    device, made_with = set_up(configs[0].execution)
    threads = torch.get_num_threads()
    with ExitStack() as locks:
        jobs: dict[int, Job] = {}
        for place, job in enumerate(map(Job.of, configs)):
            try:
                record = job.folder.result()
                if record is None:
                    job.folder.make()
                    locks.enter_context(job.folder.lock)
                    with job.folder.logged():
                        job.folder.remove_stale_files()
                    record = job.folder.read_record()
            except (Busy, UserError) as error:
                yield place, error
                continue
            if record is None:
                jobs[place] = job
            else:
                yield place, record
        if not jobs:
            return
        task = build_task(configs[0])
        made_with |= what_was_read(next(iter(jobs.values())), task)
        # Those train together that are at the same step and had as many threads.
        groups: dict[tuple[int, int], list[Replica]] = {}
        for place, job in jobs.items():
            torch.set_num_threads(threads)
            try:
                with translate_errors(job), job.folder.logged():
                    state = prepare_training(job, task, device)
                    replica = Replica(place, job, state, Provenance.now(job, made_with))
            except (UserError, Crash) as error:
                yield place, error
                continue
            state.stop_clock()  # from here on the run is charged its share of all time
            groups.setdefault((state.step, torch.get_num_threads()), []).append(replica)
        with stop_request() as stop:  # until all is recorded, or saved
            for (_, number), replicas in groups.items():
                torch.set_num_threads(number)
                yield from _finish(replicas, task, stop)


def _finish(
    replicas: list[Replica], task: Task, stop: StopRequest
) -> Iterator[tuple[int, RunResult]]:
    """Train replicas that are at the same step to the end; yield their places and results."""
    separated = [] if stop.signum else _train_group(replicas, task, stop)
    over = [replica for replica in replicas if replica.is_over and replica.outcome is None]
    if over:
        yield from _record(over, task)
    for replica in separated:
        if not stop.signum:
            yield from _finish_alone(replica, task, stop)
    for replica in replicas:
        if replica.outcome is not None:
            yield replica.place, replica.outcome
        elif not replica.is_over:
            yield replica.place, Stopped(stop.signum, replica.state.step)


def _finish_alone(
    replica: Replica, task: Task, stop: StopRequest
) -> Iterator[tuple[int, RunResult]]:
    """Train a replica that has left the others to its end."""
    job, state = replica.job, replica.state
    state.began = time.monotonic()
    try:
        with translate_errors(job):
            no_tracker = tracking.Tracker()  # wandb gets the run when it is done
            train_alone(state, task, job, no_tracker)
            state.stop_clock()
            yield from _record([replica], task)
    except Stopped as error:
        stop.signum = error.signum  # which was meant for all
    except (Busy, UserError, Crash) as error:
        replica.outcome = error


def _record(replicas: list[Replica], task: Task) -> Iterator[tuple[int, RunResult]]:
    """Score runs that are over, write their records and yield their places and records."""
    began = time.monotonic()
    states = [replica.state for replica in replicas]
    found = results(task, states, replicas[0].job.execution)
    share = (time.monotonic() - began) / len(replicas)
    for replica, scores in zip(replicas, found, strict=True):
        replica.state.earlier_seconds += share
        try:
            record = write_record(replica.job, replica.provenance, replica.state, scores)
        except Busy as error:
            replica.outcome = error
            continue
        tracking.mirror(replica.job, scores)
        yield replica.place, record


def _train_group(replicas: list[Replica], task: Task, stop: StopRequest) -> list[Replica]:
    """Train until the protocol's last step, or until a signal; return who has to go on alone.

    A replica whose weights are not finite has diverged, and is over. One whose lock is lost has
    that as its outcome.
    """
    with ExitStack() as files:
        for replica in replicas:
            replica.log = files.enter_context(metrics_file(replica.job.folder, replica.state))
        group = ReplicaGroup(replicas, task)
        train(group, stop)
    return group.separated


class ReplicaGroup:
    """Replicas at one step, as the training loop trains them (:class:`runner.train.Trainable`).

    They share stacks of networks, one for each seed, and optimizers. A replica that leaves takes
    its part of them along.
    """

    def __init__(self, replicas: list[Replica], task: Task) -> None:
        self.task, self.job, self.device = task, replicas[0].job, replicas[0].state.device
        self.seeds = sorted({replica.seed for replica in replicas})
        self.step = replicas[0].state.step
        # Those that met a loss or gradient that is not finite. What comes of it is for the loop of
        # a single run to say, and shared optimizers must not see it.
        self.separated: list[Replica] = []
        self.clock = time.monotonic()
        self._share([replica for replica in replicas if not replica.state.diverged])

    @property
    def is_over(self) -> bool:
        """Whether all replicas have left."""
        return not self.replicas

    def compute_gradients(self, batches: Sequence[Any]) -> None:
        """Compute losses and gradients; replicas of which one is not finite leave."""
        by_seed = dict(zip(self.seeds, batches, strict=True))
        while broken := self._backward(by_seed):
            self._release(broken)
            for replica in broken:
                replica.save()
            self.separated += [replica for replica in broken if replica.outcome is None]

    def _backward(self, batches: Mapping[int, Any]) -> list[Replica]:
        """Compute losses and gradients; return the replicas of which one is not finite."""
        # All before the first is read: reading waits for a GPU.
        finite = [stack.backward(*batches[seed]) for seed, stack in self.stacks.items()]
        replicas = [replica for seed in self.stacks for replica in self.by_seed[seed]]
        good = torch.cat(finite).tolist() if finite else []
        return [replica for replica, is_good in zip(replicas, good, strict=True) if not is_good]

    def update(self) -> None:
        """Step each optimizer, with the learning rate of this step, and the averages."""
        for _, optimizer in self.optimizers:
            optimizer.step()
        for stack in self.stacks.values():
            stack.average()
        self.step += 1
        for replica in self.replicas:
            replica.state.step, replica.state.lost = self.step, NONE_LOST

    def log(self) -> None:
        """Log the loss and step size of each replica."""
        self._read_losses()
        for users, optimizer in self.optimizers:
            for replica, numbers in zip(users, optimizer.numbers(), strict=True):
                replica.log({"step": self.step, "loss": replica.state.train_loss, **numbers})

    def look(self) -> None:
        """Find out which replicas have diverged; these leave."""
        self._read_losses()
        for replica in self.replicas:
            replica.state.look()
        if diverged := [replica for replica in self.replicas if replica.state.diverged]:
            self.apportion_time(trained=True)
            self._release(diverged)

    def validate(self) -> None:
        """Score both iterates of all replicas on validation, and log the scores."""
        states = [replica.state for replica in self.replicas]
        lines = validate(states, self.task, self.job.execution)
        for replica, line in zip(self.replicas, lines, strict=True):
            replica.log(line)
        self._set_training()

    def save(self) -> None:
        """Write each replica's checkpoint; those that have lost their locks leave."""
        self._write_back()
        self.apportion_time(trained=False)
        for replica in self.replicas:
            replica.save()
        if lost := [replica for replica in self.replicas if replica.outcome is not None]:
            self._release(lost)

    def apportion_time(self, trained: bool) -> None:
        """Charge each replica with its share of the time since the latest call."""
        self.clock, began = time.monotonic(), self.clock
        for replica in self.replicas:
            share = (self.clock - began) / len(self.replicas)
            replica.state.earlier_seconds += share
            if trained:
                replica.state.train_seconds += share

    def _share(self, replicas: list[Replica]) -> None:
        """Make what these replicas share."""
        self.replicas = replicas
        self.by_seed: dict[int, list[Replica]] = {}
        users: dict[str, list[Replica]] = {}
        for replica in replicas:
            self.by_seed.setdefault(replica.seed, []).append(replica)
            users.setdefault(sharing(replica.job, replica.state), []).append(replica)
            replica.state.replicas = max(replica.state.replicas, len(replicas))
        self.stacks = {
            seed: Stack(self.task, [replica.state for replica in those])
            for seed, those in self.by_seed.items()
        }
        self.optimizers = [
            (those, SharedOptimizer([r.job for r in those], [r.state for r in those]))
            for those in users.values()
        ]
        self._set_training()

    def _release(self, leaving: list[Replica]) -> None:
        """Let replicas leave, each with its own state, and share anew what remains."""
        self._write_back()
        self.apportion_time(trained=False)
        for replica in leaving:
            for network in replica.state.iterates.values():
                for tensor in (*network.parameters(), *network.buffers()):
                    tensor.data = tensor.data.clone()  # so that the rest of the stack can go
        self._share([replica for replica in self.replicas if replica not in leaving])

    def _write_back(self) -> None:
        """Write what is shared, as it is now, to the state of each replica."""
        for stack in self.stacks.values():
            stack.write_back()
        for _, optimizer in self.optimizers:
            optimizer.write_back()

    def _read_losses(self) -> None:
        for seed, stack in self.stacks.items():
            for replica, loss in zip(self.by_seed[seed], stack.losses.tolist(), strict=True):
                replica.state.train_loss = loss

    def _set_training(self) -> None:
        for replica in self.replicas:
            self.task.set_training(replica.state.network)
