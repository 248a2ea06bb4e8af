"""What all executors share: groups go in, outcomes come out as they end, whatever trains them."""

import logging
import os
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from runner import ROOT
from runner.lock import held
from runner.signals import handled_by
from sweeps.plan import PlannedRun, grouped
from sweeps.worker import Group, Outcome, outcome_of

logger = logging.getLogger(__name__)

# Seconds that an engine waits for something to end, and between looks at runs that others hold.
PATIENCE = 0.2
LOOK = 1.0


class Engine(Protocol):
    """Trains groups by sweeps.worker.work: in processes of this machine, or on a cluster."""

    slots: int  # groups that can be in training at once

    @staticmethod
    def slots_of(settings: Any) -> int:
        """Return how many slots there will be, as far as settings tell."""

    @property
    def room(self) -> int:
        """How many more groups it takes now."""

    def start(self, groups: Sequence[Group]) -> None:
        """Train these groups, at most as many as there is room for."""

    def ended(self) -> Iterable[tuple[Group, list[Outcome] | str]]:
        """Wait for a moment; return the groups that ended with their outcomes, or why they died."""

    def stop(self) -> None:
        """Ask whatever trains to save its state and end, and let nothing more begin."""

    def close(self) -> None:
        """Let go of processes and connections."""


class Executor:
    """Hands groups to an engine and yields what became of each run, once.

    A group whose worker dies is tried again in halves, without its runs that have a record, and a
    run by itself as often as `retries` says. Runs that another process holds are waited for, and
    tried here if it leaves them without a record.
    """

    def __init__(self, engine: Engine, retries: int) -> None:
        self._engine = engine
        self._retries = retries
        self._waiting: deque[Group] = deque()
        self._busy: list[PlannedRun] = []
        self._largest = 1  # how many runs the largest group has that was asked for
        self._tries: Counter[str] = Counter()
        self._began: dict[str, float] = {}
        self._under_way = 0
        self._stop_asked = False  # not yet passed on to the engine
        self._stopping = False
        self._looked = 0.0  # when runs that others hold were last looked at
        self._said_busy = False

    def __enter__(self) -> "Executor":
        return self

    def __exit__(self, *_: object) -> None:
        if self._under_way:  # whoever reads the results has given up
            self._engine.stop()
        self._engine.close()

    @property
    def slots(self) -> int:
        """How many groups can be in training at once."""
        return self._engine.slots

    def submit(self, group: Group) -> None:
        """Have a group of runs trained, unless all was cancelled."""
        if not self._stopping:
            self._waiting.append(group)
            self._largest = max(self._largest, len(group))

    def cancel(self) -> None:
        """Begin nothing new, and let what trains save its state; safe in a signal handler."""
        self._stop_asked = self._stopping = True

    def results(self) -> Iterator[Outcome]:
        """Yield the outcome of each run as it ends, until all are; of what was begun if cancelled.

        `busy` and `stopped` ones are there after :meth:`cancel` alone, or if a worker was told by
        others to stop more often than it may be tried again.
        """
        while self._waiting or self._under_way or self._busy:
            if self._stop_asked:
                self._stop_asked = False
                self._waiting.clear()
                self._busy.clear()
                self._engine.stop()
            self._start()
            if self._under_way:
                for group, end in self._engine.ended():
                    self._under_way -= 1
                    yield from self._settled(group, end)
            elif self._busy:
                time.sleep(PATIENCE)
            yield from self._no_longer_busy()

    def _start(self) -> None:
        count = min(self._engine.room, len(self._waiting))
        groups = [self._waiting.popleft() for _ in range(count)]
        for run in (run for group in groups for run in group):
            self._began[run.run_id] = time.monotonic()
        if groups:
            self._under_way += len(groups)
            self._engine.start(groups)

    def _settled(self, group: Group, end: list[Outcome] | str) -> Iterator[Outcome]:
        """Yield the outcomes that are final; keep the runs that are to be tried again."""
        if isinstance(end, str):
            yield from self._after_death(group, end)
            return
        again = []
        for outcome in end:
            if outcome.status == "busy" and not self._stopping:
                self._busy.append(outcome.run)
            elif outcome.status == "stopped" and self._may_try_again(outcome.run):
                again.append(outcome.run)
            else:
                yield outcome
        if again:
            logger.warning("%s was stopped by others: trying again", again[0].label)
            self._waiting.append(tuple(again))
        if self._busy and not self._said_busy:
            self._said_busy = True
            logger.warning("runs that another process trains are waited for at the end")

    def _after_death(self, group: Group, reason: str) -> Iterator[Outcome]:
        """Yield what a dead worker has finished; try the rest again, in halves.

        So what kills workers is found, and does not take others with it time and again.
        """
        rest = []
        for run in group:
            seconds = time.monotonic() - self._began[run.run_id]
            if outcome := recorded(run, seconds):
                yield outcome
            elif (len(group) > 1 and not self._stopping) or self._may_try_again(run):
                rest.append(run)
            else:
                status = "stopped" if self._stopping else "failed"
                detail = f"{reason} (see {group[0].folder.log})"
                yield Outcome(run, status, seconds, detail=detail)
        if rest:
            logger.warning("%s: %s: trying again", rest[0].label, reason)
            middle = len(rest) // 2
            self._waiting.extend(tuple(half) for half in (rest[:middle], rest[middle:]) if half)

    def _may_try_again(self, run: PlannedRun) -> bool:
        self._tries[run.run_id] += 1
        return not self._stopping and self._tries[run.run_id] <= self._retries

    def _no_longer_busy(self) -> Iterator[Outcome]:
        """Yield what other processes have done; try what they have left."""
        if time.monotonic() - self._looked < LOOK:
            return
        self._looked = time.monotonic()
        busy, self._busy = self._busy, []
        left = []
        for run in busy:
            if outcome := recorded(run, 0.0):
                yield outcome
            elif held(run.folder.lock.path):
                self._busy.append(run)
            else:
                left.append(run)
        self._waiting.extend(grouped(left, self.slots, self._largest))


def recorded(run: PlannedRun, seconds: float) -> Outcome | None:
    """Return the outcome that a run's record tells of; None if there is no sound one."""
    record = run.folder.result()
    return None if record is None else outcome_of(run, record, seconds)


def python_path() -> str:
    """Return the PYTHONPATH by which a process started elsewhere finds this checkout first."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.pathsep.join(dict.fromkeys(paths))


@contextmanager
def cancelled_by_signals(executor: Executor) -> Iterator[None]:
    """Let SIGINT and SIGTERM cancel the executor's work.

    Raises:
        KeyboardInterrupt: at the end, if one came.
    """
    received = []

    def handle(signum: int, frame: object) -> None:
        received.append(signum)
        executor.cancel()

    try:
        with handled_by(handle):
            yield
    finally:
        if received:  # whatever else there is to say of work that was cut short
            raise KeyboardInterrupt
