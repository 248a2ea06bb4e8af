"""Runs of one task that differ in optimizer, its settings or seed, trained together as replicas.

They share the process, the data and one pass over each batch, and each gives the record that it
would give alone: what they share (runner/stack.py) does not change a bit of what a run computes.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import torch
from omegaconf import DictConfig

from runner import checkpoint
from runner import config as configuration
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
    write_record,
)
from runner.stack import SharedOptimizer, Stack, sharing
from runner.tracking import Tracker, mirror
from runner.train import (
    CHECK_EVERY,
    SAVING_SHARE,
    MetricsLog,
    Training,
    is_logged,
    metrics_file,
    stop_request,
    train,
    validate,
)
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

    @property
    def seed(self) -> int:
        """What says which batches the run sees."""
        return self.job.settings["seed"]


def run_together(configs: Sequence[DictConfig]) -> Iterator[tuple[int, End]]:
    """Train the runs of these configurations of one problem; yield each one's place and end.

    What is raised is no single run's fault: each may then be tried alone, and goes on from its
    checkpoint.

    Raises:
        ValueError: if they differ in more than optimizer and seed.
    """
    asked = [Job.of(config) for config in configs]
    if len({configuration.problem_id(job.settings) for job in asked}) > 1:
        raise ValueError("replicas are runs of one problem")
    device, facts = set_up(configs[0])
    threads = torch.get_num_threads()
    with ExitStack() as locks:
        jobs: dict[int, Job] = {}
        for place, job in enumerate(asked):
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
        facts["fingerprints"] = task.fingerprints()
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
            parts.setdefault((replica.training.step, torch.get_num_threads()), []).append(replica)
        for (_, number), replicas in parts.items():
            torch.set_num_threads(number)
            yield from _finish(replicas, task, device)


def _finish(replicas: list[Replica], task: Task, device: torch.device) -> Iterator[tuple[int, End]]:
    """Train replicas that are at the same step to the end; yield their places and ends."""
    options = configuration.to_plain(replicas[0].job.config)
    try:
        left = _train(replicas, task, options, device)
    except (Stopped, Busy) as error:
        yield from ((replica.place, error) for replica in replicas)
        return
    yield from _recorded([r for r in replicas if r not in left], task, options, device)
    for replica in left:
        job, training = replica.job, replica.training
        training.charge(0)
        try:
            with explained(job):
                train(training, task, job.settings, options, job.folder, Tracker(), device)
                yield from _recorded([replica], task, options, device)
        except (Stopped, Busy, UserError, Crash) as error:
            yield replica.place, error


def _recorded(
    replicas: list[Replica], task: Task, options: Mapping[str, Any], device: torch.device
) -> Iterator[tuple[int, End]]:
    """Score runs that are at their end and write their records."""
    began = time.monotonic()
    found = results(task, [replica.training for replica in replicas], options, device)
    share = (time.monotonic() - began) / max(1, len(replicas))
    for replica, its in zip(replicas, found, strict=True):
        job, training = replica.job, replica.training
        mirror(job.config.wandb, job.settings, job.identity, job.folder, its)
        training.charge(share)
        try:
            yield replica.place, write_record(job, replica.origin, training, its, device)
        except Busy as error:
            yield replica.place, error


def _train(
    replicas: list[Replica], task: Task, options: Mapping[str, Any], device: torch.device
) -> list[Replica]:
    """Train until the protocol's last step; return who has to go on alone from where it is.

    These have met a gradient that is not finite: what comes of it is for the training loop of a
    single run to say, and shared optimizers must not see it. Whose loss is not finite has
    diverged, and is at its end.

    Raises:
        Stopped: after SIGINT or SIGTERM, with the state of all saved.
        Busy: if another process took runs over.
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
    with ExitStack() as files, stop_request() as stop:
        for replica in replicas:
            replica.log = files.enter_context(metrics_file(replica.job.folder, replica.training))
        together = Together(replicas, task, device)
        for step, batches in enumerate(zip(*streams, strict=True), done + 1):
            here = dict(zip(seeds, to_device(batches, device), strict=True))
            while broken := together.backward(here):
                left += broken
                together = together.without(broken)
            if not together.replicas:
                break
            together.update(steps)

            last = step == steps
            logged = is_logged(step, steps, options["log_every"])
            if logged or step % CHECK_EVERY == 0:
                together.look(logged)
            together.charge(trained=True)
            if diverged := [r for r in together.replicas if r.training.diverged]:
                together = together.without(diverged)

            # The last step's scores are those of the result, unless an earlier step may beat them.
            due = budget.get("checkpoint") == "best" if last else step % budget["eval_every"] == 0
            if due:
                together.validate(options)
            if stop.signum or time.monotonic() > due_at:
                began = time.monotonic()
                together.save()
                cost = time.monotonic() - began
                due_at = began + max(options["checkpoint_seconds"], cost / SAVING_SHARE)
                if stop.signum and not last:
                    raise Stopped(stop.signum, step)
            together.charge()
        together.part()
    return left


class Together:
    """Replicas at one step, with what they share: stacks of networks, and optimizers."""

    def __init__(self, replicas: list[Replica], task: Task, device: torch.device) -> None:
        self.replicas, self.task, self.device = replicas, task, device
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
        self.clock = time.monotonic()
        self._set_training()

    def backward(self, batches: Mapping[int, Any]) -> list[Replica]:
        """Compute the gradients of a step; return the replicas that have one that is not finite.

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
            stack.averager.step()
        for replica in self.replicas:
            replica.training.step += 1

    def look(self, logged: bool) -> None:
        """See whether each loss is still finite, and log the step if it is to be logged."""
        for seed, stack in self.stacks.items():
            for replica, loss in zip(self.members[seed], stack.losses.tolist(), strict=True):
                replica.training.train_loss = loss
                replica.training.diverged = not isfinite(loss)
        for members, optimizer in self.optimizers if logged else ():
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

    def save(self) -> None:
        """Write checkpoints, with which each run could go on alone, too."""
        self.part()
        for replica in self.replicas:
            replica.job.folder.lock.check()
            checkpoint.save(replica.job.folder.checkpoint, replica.training.state_dict())

    def part(self) -> None:
        """Give each training its share of what is shared, as it is now."""
        for stack in self.stacks.values():
            stack.part()
        for _, optimizer in self.optimizers:
            optimizer.part()
        for replica in self.replicas:
            replica.training.metrics_bytes = replica.log.size()

    def without(self, leaving: list[Replica]) -> "Together":
        """Return what remains when some leave, each with its own training."""
        self.part()
        self.charge()
        return Together([r for r in self.replicas if r not in leaving], self.task, self.device)

    def charge(self, trained: bool = False) -> None:
        """Share out the time since this was last done."""
        now = time.monotonic()
        for replica in self.replicas:
            share = (now - self.clock) / len(self.replicas)
            replica.training.charge(share)
            if trained:
                replica.training.train_seconds += share
        self.clock = now

    def _set_training(self) -> None:
        for replica in self.replicas:
            self.task.set_training(replica.training.network)
