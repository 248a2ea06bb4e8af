"""Runs of one task that differ in optimizer, its settings or seed, trained together as replicas.

They share the process, the data and one pass over each batch, and each gives the record that it
would give alone: what they share (sweeps/stack.py) does not change a bit of what a run computes.
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
from runner.order import Batches, prepared
from runner.run import (
    Job,
    Origin,
    begin,
    build_task,
    explained,
    origin,
    results,
    set_up,
    what_was_read,
    write_record,
)
from runner.train import (
    SAVING_SHARE,
    MetricsLog,
    StopRequest,
    Training,
    is_logged,
    is_looked_at,
    iterates,
    metrics_file,
    stop_request,
    train,
    validate,
)
from sweeps.stack import SharedOptimizer, Stack, sharing
from tasks.errors import UserError
from tasks.task import Task, to_device

# What a run among several ended with: its record, or why there is none.
End = dict[str, Any] | UserError | Busy | Stopped | Crash


@dataclass(eq=False)
class Replica:
    """A run among those trained together."""

    place: int  # among those that were asked for
    job: Job
    training: Training  # as it would be alone; what is shared comes back by Together.part()
    origin: Origin
    log: MetricsLog = field(init=False)
    end: End | None = None  # if it came to one that is no record

    @property
    def seed(self) -> int:
        """What says which batches the run sees."""
        return self.job.settings["seed"]

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left to train."""
        return self.training.diverged or self.training.step == self.job.settings["train"]["steps"]

    def save(self) -> None:
        """Write a checkpoint, with which the run can go on alone, too."""
        self.training.metrics_bytes = self.log.size()
        checkpoint.save(self.job.folder.checkpoint, self.training.state_dict())


def run_together(configs: Sequence[Config]) -> Iterator[tuple[int, End]]:
    """Train the runs of these configurations of one problem; yield each one's place and end.

    What is raised is no single run's fault: each may then be tried alone, and goes on from its
    checkpoint.

    Raises:
        ValueError: if they differ in more than optimizer and seed, or cannot be replicas.
        UserError: if wandb is wanted and not installed.
    """
    if len(set(map(configuration.replica_key, configs))) > 1:
        raise ValueError("replicas differ in optimizer and seed alone")
    tracking.check(configs[0].execution.wandb.plain())
    device, facts = set_up(configs[0])
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
                        job.folder.tidy()
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
        facts |= what_was_read(next(iter(jobs.values())), task)
        # Together is what is at the same step, and had as many threads.
        parts: dict[tuple[int, int], list[Replica]] = {}
        for place, job in jobs.items():
            torch.set_num_threads(threads)
            try:
                with explained(job), job.folder.logged():
                    replica = Replica(place, job, begin(job, task, device), origin(job, facts))
            except (UserError, Crash) as error:
                yield place, error
                continue
            replica.training.stop_clock()  # its time is its share of all time from here on
            parts.setdefault((replica.training.step, torch.get_num_threads()), []).append(replica)
        with stop_request() as stop:  # until all is recorded, or saved
            for (_, number), replicas in parts.items():
                torch.set_num_threads(number)
                yield from _finish(replicas, task, device, stop)


def _finish(
    replicas: list[Replica], task: Task, device: torch.device, stop: StopRequest
) -> Iterator[tuple[int, End]]:
    """Train replicas that are at the same step to the end; yield their places and ends."""
    options = replicas[0].job.config.execution.plain()
    left = [] if stop.signum else _train(replicas, task, options, device, stop)
    over = [r for r in replicas if r.is_over and r.end is None]
    yield from _recorded(over, task, options, device)
    for replica in left:
        if not stop.signum:
            yield from _finish_alone(replica, task, options, device, stop)
    for replica in replicas:
        if replica.end is not None:
            yield replica.place, replica.end
        elif not replica.is_over:
            yield replica.place, Stopped(stop.signum, replica.training.step)


def _finish_alone(
    replica: Replica,
    task: Task,
    options: Mapping[str, Any],
    device: torch.device,
    stop: StopRequest,
) -> Iterator[tuple[int, End]]:
    """Train a replica that has left the others to its end."""
    job, training = replica.job, replica.training
    training.began = time.monotonic()
    try:
        with explained(job):
            mute = tracking.Tracker()  # it is mirrored when it is done
            train(training, task, job.settings, options, job.folder, mute, device)
            training.stop_clock()
            yield from _recorded([replica], task, options, device)
    except Stopped as error:
        stop.signum = error.signum  # which was meant for all
    except (Busy, UserError, Crash) as error:
        replica.end = error


def _recorded(
    replicas: list[Replica], task: Task, options: Mapping[str, Any], device: torch.device
) -> Iterator[tuple[int, End]]:
    """Score runs that are at their end and write their records."""
    began = time.monotonic()
    found = results(task, [replica.training for replica in replicas], options, device)
    share = (time.monotonic() - began) / max(1, len(replicas))
    for replica, its in zip(replicas, found, strict=True):
        replica.training.earlier_seconds += share
        try:
            record = write_record(replica.job, replica.origin, replica.training, its, device)
        except Busy as error:
            replica.end = error
            continue
        tracking.mirror(replica.job, its)
        yield replica.place, record


def _train(
    replicas: list[Replica],
    task: Task,
    options: Mapping[str, Any],
    device: torch.device,
    stop: StopRequest,
) -> list[Replica]:
    """Train until the protocol's last step, or until a signal; return who has to go on alone.

    These have met a loss or a gradient that is not finite: what comes of it is for the training
    loop of a single run to say, and shared optimizers must not see it. Whose weights are not
    finite has diverged, and is at its end. Whose lock is lost has that for an end.
    """
    budget = options["train"]
    steps, done = budget["steps"], replicas[0].training.step
    seeds = sorted({replica.seed for replica in replicas})
    streams = [
        prepared(Batches(task, budget["batch_size"], seed), range(done, steps), options["workers"])
        for seed in seeds
    ]
    left: list[Replica] = []
    due_at = time.monotonic() + options["checkpoint_seconds"]
    with ExitStack() as files:
        for replica in replicas:
            replica.log = files.enter_context(metrics_file(replica.job.folder, replica.training))
        together = Together([r for r in replicas if not r.training.diverged], task, device)
        for step, batches in enumerate(zip(*streams, strict=True), done + 1):
            here = dict(zip(seeds, to_device(batches, device), strict=True))
            while broken := together.backward(here):
                together = together.without(broken)
                for replica in broken:
                    replica.save()
                left += broken
            if not together.replicas:
                break
            together.update(steps)

            last = step == steps
            if is_logged(step, steps, options["log_every"]):
                together.log()
            if is_looked_at(step, steps):
                together.look()
            together.charge(trained=True)
            if diverged := [r for r in together.replicas if r.training.diverged]:
                together = together.without(diverged)

            # The last step's scores are those of the result, unless an earlier step may beat them.
            due = budget.get("checkpoint") == "best" if last else step % budget["eval_every"] == 0
            if due and together.replicas:
                together.validate(options)
            if stop.signum or last or time.monotonic() > due_at:
                if lost := together.lost():
                    together = together.without(lost)
                began = time.monotonic()
                together.save()
                cost = time.monotonic() - began
                due_at = began + max(options["checkpoint_seconds"], cost / SAVING_SHARE)
                if stop.signum:
                    break
            together.charge()
    return left


class Together:
    """Replicas at one step, with what they share: stacks of networks, and optimizers."""

    def __init__(self, replicas: list[Replica], task: Task, device: torch.device) -> None:
        self.replicas, self.task, self.device = replicas, task, device
        self.clock = time.monotonic()
        self.members: dict[int, list[Replica]] = {}
        users: dict[str, list[Replica]] = {}
        for replica in replicas:
            self.members.setdefault(replica.seed, []).append(replica)
            users.setdefault(sharing(replica.job, replica.training), []).append(replica)
            replica.training.replicas = max(replica.training.replicas, len(replicas))
        self.stacks = {
            seed: Stack(task, [replica.training for replica in members], device)
            for seed, members in self.members.items()
        }
        self.optimizers = [
            (members, SharedOptimizer([r.job for r in members], [r.training for r in members]))
            for members in users.values()
        ]
        self._set_training()

    def backward(self, batches: Mapping[int, Any]) -> list[Replica]:
        """Compute losses and gradients; return the replicas that have one that is not finite.

        Args:
            batches: inputs and targets by seed.
        """
        broken = []
        for seed, stack in self.stacks.items():
            finite = stack.backward(*batches[seed]).tolist()
            broken += [r for r, good in zip(self.members[seed], finite, strict=True) if not good]
        return broken

    def update(self, steps: int) -> None:
        """Take the step that the gradients say, of so many in all."""
        for _, optimizer in self.optimizers:
            optimizer.step(steps)
        for stack in self.stacks.values():
            stack.average()
        for replica in self.replicas:
            replica.training.step += 1

    def look(self) -> None:
        """See whether runs have diverged: no loss here is not finite, but weights may be."""
        self._read_losses()
        for replica in self.replicas:
            replica.training.look()

    def log(self) -> None:
        """Log the step."""
        self._read_losses()
        for members, optimizer in self.optimizers:
            for replica, numbers in zip(members, optimizer.numbers(), strict=True):
                training = replica.training
                replica.log({"step": training.step, "loss": training.train_loss, **numbers})

    def validate(self, options: Mapping[str, Any]) -> None:
        """Score all iterates on validation, and log it."""
        trainings = [replica.training for replica in self.replicas]
        lines = validate(trainings, self.task, options, self.device)
        for replica, line in zip(self.replicas, lines, strict=True):
            replica.log(line)
        self._set_training()

    def lost(self) -> list[Replica]:
        """Return the replicas that another process has taken over."""
        for replica in self.replicas:
            try:
                replica.job.folder.lock.check()
            except Busy as error:
                replica.end = error
        return [replica for replica in self.replicas if replica.end is not None]

    def save(self) -> None:
        """Write each replica's checkpoint."""
        self.part()
        self.charge()
        for replica in self.replicas:
            replica.save()

    def part(self) -> None:
        """Give each training its share of what is shared, as it is now."""
        for stack in self.stacks.values():
            stack.part()
        for _, optimizer in self.optimizers:
            optimizer.part()

    def without(self, leaving: list[Replica]) -> "Together":
        """Return what remains when some leave, each with its own training."""
        self.part()
        self.charge()
        for replica in leaving:
            for network in iterates(replica.training).values():
                for tensor in (*network.parameters(), *network.buffers()):
                    tensor.data = tensor.data.clone()  # so that the rest of the stack can go
        return Together([r for r in self.replicas if r not in leaving], self.task, self.device)

    def charge(self, trained: bool = False) -> None:
        """Share out the time since this was last done."""
        now = time.monotonic()
        for replica in self.replicas:
            share = (now - self.clock) / len(self.replicas)
            replica.training.earlier_seconds += share
            if trained:
                replica.training.train_seconds += share
        self.clock = now

    def _read_losses(self) -> None:
        for seed, stack in self.stacks.items():
            for replica, loss in zip(self.members[seed], stack.losses.tolist(), strict=True):
                replica.training.train_loss = loss

    def _set_training(self) -> None:
        for replica in self.replicas:
            self.task.set_training(replica.training.network)
