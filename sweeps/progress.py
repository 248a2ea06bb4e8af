"""What a sweep shows while it trains: a bar on a terminal, elsewhere a line now and then."""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from sweeps.plan import PlannedRun
from sweeps.worker import Outcome
from tasks.format import duration

# What a run was expected to take, in seconds; None if nothing says so.
Estimate = Callable[[PlannedRun], float | None]

# Seconds between two looks at the files of the runs, and the part of the time that looks may take.
LOOK_EVERY, LOOKING_SHARE = 5.0, 0.05
# Seconds between two lines where nobody watches a terminal.
LINE_EVERY = 30.0
# Outcomes of one task that come within so many seconds are one line.
TOGETHER = 1.0
# A line of metrics.jsonl is much shorter.
TAIL_BYTES = 4096
SUCCESSES = ("finished", "diverged")
BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"


class Progress:
    """Shows how far a stage is, from the outcomes that it is told and from the runs' own files.

    ::

        with Progress("tuning", runs) as progress:
            for outcome in executor.results():
                progress.tell(outcome)
    """

    def __init__(
        self,
        stage: str,
        runs: Sequence[PlannedRun],
        stream: TextIO | None = None,
        estimate: Estimate = lambda run: None,
        later: float = 0.0,
    ) -> None:
        """Take all runs of the stage, those done before included; write to stderr by default.

        `estimate` says what a run was expected to take, and `later` what the stages after this one
        were: what is left is corrected by what the runs of this one do take.
        """
        self.stage, self.total = stage, len(runs)
        self.stream = stream or sys.stderr
        missing = [run for run in runs if not run.done]
        self.done, self.failed = len(runs) - len(missing), 0
        self.watch = Watch(missing, estimate)
        self.later = later
        self._fresh: list[Outcome] = []  # told, not yet shown
        self._changes = threading.Lock()
        self._over = threading.Event()
        self._began = self._shown_at = time.monotonic()
        self._look_at = self._began + LOOK_EVERY
        self._ticker = threading.Thread(target=self._tick, daemon=True)
        self._bar = tqdm(
            total=self.total,
            initial=self.done,
            desc=stage,
            file=self.stream,
            bar_format=BAR,
            dynamic_ncols=True,
            disable=not (missing and self.stream.isatty()),
        )

    def __enter__(self) -> "Progress":
        if self.watch.pending:
            self._ticker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._ticker.is_alive():
            self._ticker.join()
        self._flush()
        self._bar.close()

    def tell(self, outcome: Outcome) -> None:
        """Take how a run ended: a failure is shown at once, the others with those of their time."""
        with self._changes:
            new = self.watch.tell(outcome)  # and not among those that were done at the start
            if outcome.status in SUCCESSES:
                self.done += new
                self._fresh.append(outcome)
            else:
                self.failed += new and outcome.status == "failed"
                self._write(line(outcome))

    def state(self) -> str:
        """Return what is known besides how many runs are done."""
        parts = [f"{len(self.watch.steps)} running", f"{self.failed} failed"]
        left = self.watch.left(time.monotonic() - self._began)
        if left is not None:
            parts.append(f"about {duration(left)} left")
        whole = self.watch.left(time.monotonic() - self._began, self.later)
        if self.later and whole is not None:
            parts[-1] += f" ({duration(whole)} of the sweep)"
        return ", ".join([*parts, *self.watch.reached()])

    def refresh(self) -> None:
        """Show what is known now."""
        with self._changes:
            self._flush()
            self._look()
            self._show()

    def _tick(self) -> None:
        while not self._over.wait(TOGETHER):
            self.refresh()

    def _look(self) -> None:
        began = time.monotonic()
        if began >= self._look_at:
            self.watch.look()
            cost = time.monotonic() - began
            self._look_at = began + max(LOOK_EVERY, cost / LOOKING_SHARE)

    def _show(self) -> None:
        if not self._bar.disable:
            self._bar.n = self.done
            self._bar.set_postfix_str(self.state())
        elif time.monotonic() - self._shown_at >= LINE_EVERY:
            self._shown_at = time.monotonic()
            self._write(f"{self.stage}: {self.done} of {self.total} runs, {self.state()}")

    def _flush(self) -> None:
        for text in lines(self._fresh):
            self._write(text)
        self._fresh.clear()

    def _write(self, text: str) -> None:
        self._bar.write(text, file=self.stream)  # above the bar, if there is one
        self.stream.flush()


class Watch:
    """Which of some runs are being trained, and how far they are, by their metrics.jsonl.

    It compares what it sees with what it saw before and no file's time with a clock: those of two
    machines may differ.
    """

    def __init__(self, runs: Iterable[PlannedRun], estimate: Estimate = lambda run: None) -> None:
        self.pending = {run.run_id: run for run in runs}
        self.steps: dict[str, int] = {}  # reached by those that are running
        self._sizes = {one: _size(run.folder.metrics) for one, run in self.pending.items()}
        begun = (one for one, size in self._sizes.items() if size)
        # Steps of those that were stopped earlier.
        self._first = {one: last_step(self.pending[one].folder.metrics) or 0 for one in begun}
        # In seconds as estimated, of a run without an estimate the mean; without any, in runs.
        found = {one: estimate(run) for one, run in self.pending.items()}
        known = {one: seconds for one, seconds in found.items() if seconds}
        mean = sum(known.values()) / len(known) if known else 1.0
        self._estimated = bool(known)
        self._costs = {one: known.get(one, mean) for one in found}
        self._work = sum(map(self._to_do, self.pending.values()))
        self._done = 0.0

    def look(self) -> None:
        """See which files have changed."""
        for one, run in self.pending.items():
            size = _size(run.folder.metrics)
            if size != self._sizes[one]:
                self._sizes[one] = size
                self.steps[one] = last_step(run.folder.metrics) or 0

    def tell(self, outcome: Outcome) -> bool:
        """Take note that a run has ended; say whether it was to do."""
        self.steps.pop(outcome.run.run_id, None)
        if self.pending.pop(outcome.run.run_id, None) is None:
            return False
        if outcome.status in SUCCESSES:
            self._done += self._to_do(outcome.run)
        else:
            self._work -= self._to_do(outcome.run)
        return True

    def left(self, elapsed: float, later: float = 0.0) -> float | None:
        """Return the seconds left if all goes on as in those elapsed; None if nothing was done.

        `later` are estimated seconds of work that comes after these runs; None as well if these
        have no estimates to compare.
        """
        gained = (
            self._costs[one] * (step - self._first.get(one, 0)) / self.pending[one].steps
            for one, step in self.steps.items()
        )
        done = self._done + sum(max(0.0, part) for part in gained)
        if not done or (later and not self._estimated):
            return None
        return elapsed * (self._work - done + later) / done

    def reached(self) -> list[str]:
        """Return for each task the step that the last of its running runs has reached."""
        last: dict[str, tuple[int, int]] = {}
        for one, step in self.steps.items():
            run = self.pending[one]
            here = (step, run.steps)
            last[run.task] = min(last.get(run.task, here), here)
        return [f"{task} step {step}/{steps}" for task, (step, steps) in sorted(last.items())]

    def _to_do(self, run: PlannedRun) -> float:
        part = max(0.0, 1 - self._first.get(run.run_id, 0) / run.steps)
        return self._costs[run.run_id] * part


def last_step(metrics: Path) -> int | None:
    """Return the step of the last whole line of a metrics.jsonl, None where there is none."""
    try:
        with metrics.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            whole = file.read().splitlines()
    except OSError:
        return None
    for text in reversed(whole):
        with suppress(ValueError, KeyError, TypeError):  # half-written, cut off, or of another kind
            return int(json.loads(text)["step"])
    return None


def lines(outcomes: Iterable[Outcome]) -> Iterator[str]:
    """Return what to say of runs that ended at about the same time, a line for each task."""

    def whose(outcome: Outcome) -> tuple[str, str]:
        return outcome.run.task, outcome.status

    for (task, status), group in groupby(sorted(outcomes, key=whose), whose):
        some = list(group)
        if len(some) == 1:
            yield line(some[0])
            continue
        seconds = sum(outcome.seconds for outcome in some)
        text = f"{status:9} {task}: {len(some)} runs ({duration(seconds)})"
        yield f"{text}, best {_best(some)}" if status == "finished" else text


def line(outcome: Outcome) -> str:
    """Return what to say of one run."""
    text = f"{outcome.status:9} {outcome.run.label}: {_shown(outcome)}"
    return f"{text} ({duration(outcome.seconds)})"


def _shown(outcome: Outcome) -> str:
    """Return a run's score, or what went wrong."""
    if outcome.score is None:
        return plain(outcome.detail)
    task = outcome.run.config.spec.task
    form = ".3f" if task.higher_is_better else ".3g"  # an error may be very small
    return f"validation {task.metric} {outcome.score:{form}}"


def plain(text: str) -> str:
    """Return a text as one line without signs that a terminal would obey."""
    return "".join(sign if sign.isprintable() else " " for sign in text).rstrip()


def _best(outcomes: Sequence[Outcome]) -> str:
    """Return the best score of runs of one task, and whose it is."""
    sign = 1 if outcomes[0].run.config.spec.task.higher_is_better else -1
    best = max(outcomes, key=lambda one: sign * (one.score or 0.0))
    return f"{_shown(best)}: {best.run.label.removeprefix(best.run.task).strip()}"


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
