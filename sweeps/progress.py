"""What a sweep shows while it trains: a bar on a terminal, elsewhere a line now and then."""

import json
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from runner.lock import held
from sweeps.estimate import RuntimeEstimator, TimeLeft
from sweeps.plan import PlannedRun
from sweeps.worker import Outcome
from tasks.format import duration

# Seconds between two looks at the locks of the runs, and the part of the time that looks may take.
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
    """Shows how far a stage is: how many runs are done, running and failed, and the time left.

    ::

        with Progress("tuning", runs, estimator, at_once=2) as progress:
            for outcome in executor.results():
                progress.report(outcome)
    """

    def __init__(
        self,
        stage: str,
        runs: Sequence[PlannedRun],
        estimator: RuntimeEstimator,
        at_once: int,
        later: Sequence[PlannedRun] = (),
        stream: TextIO | None = None,
    ) -> None:
        """Take all runs of the stage, those done before included; write to stderr by default.

        `at_once` of them, or of their groups, train at the same time. `later` are the runs to do of
        the stages after this one.
        """
        self.stage, self.total = stage, len(runs)
        self.stream = stream or sys.stderr
        missing = [run for run in runs if not run.done]
        self.pending = {run.run_id: run for run in missing}
        self.done, self.failed, self.running = len(runs) - len(missing), 0, 0
        self._estimator, self._at_once, self._later = estimator, at_once, list(later)
        # Of the runs that were stopped earlier: this session trains the rest of them.
        begun = ((run.run_id, last_step(run.folder.metrics)) for run in missing)
        self._steps_done = {run_id: step for run_id, step in begun if step}
        self._ended: list[tuple[PlannedRun, float]] = []  # trained from the first step to the last
        self._fresh: list[Outcome] = []  # reported, not yet shown
        self._changes = threading.Lock()
        self._over = threading.Event()
        self._ended_at = self._look_at = self._shown_at = time.monotonic()
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
        if self.pending:
            self._ticker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._ticker.is_alive():
            self._ticker.join()
        self._flush()
        self._bar.close()

    def report(self, outcome: Outcome) -> None:
        """Take how a run ended: a failure is shown at once, the others with those of their time."""
        with self._changes:
            run_id = outcome.run.run_id
            new = self.pending.pop(run_id, None) is not None  # not among those done at the start
            self._ended_at = time.monotonic()
            if outcome.status == "finished" and outcome.seconds and run_id not in self._steps_done:
                self._ended.append((outcome.run, outcome.seconds))
            if outcome.status in SUCCESSES:
                self.done += new
                self._fresh.append(outcome)
            else:
                self.failed += new and outcome.status == "failed"
                self._write(line(outcome))

    def state(self) -> str:
        """Return what is known besides how many runs are done."""
        left = f"time left: {self._time_left()}"
        if self._later:
            left += f" (of the sweep: {self._time_left(self._later)})"
        running = min(self.running, len(self.pending))  # some have ended since the last look
        return f"{running} running, {self.failed} failed, {left}"

    def refresh(self) -> None:
        """Show what is known now."""
        with self._changes:
            self._flush()
            self._look()
            self._show()

    def _time_left(self, later: Iterable[PlannedRun] = ()) -> TimeLeft:
        """Return the time left of this stage and of later runs: since the last end it gets less."""
        to_do = [*self.pending.values(), *later]
        left = self._estimator.time_left(to_do, self._at_once, self._ended, self._steps_done)
        return replace(left, seconds=left.seconds - (time.monotonic() - self._ended_at))

    def _tick(self) -> None:
        while not self._over.wait(TOGETHER):
            self.refresh()

    def _look(self) -> None:
        """Count the runs that some process is training."""
        began = time.monotonic()
        if began >= self._look_at:
            self.running = sum(held(run.folder.lock.path) for run in self.pending.values())
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


def last_step(metrics: Path) -> int | None:
    """Return the step of the last whole line of a metrics.jsonl, None where there is none."""
    try:
        with metrics.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            texts = file.read().splitlines()
    except OSError:
        return None
    for text in reversed(texts):
        with suppress(ValueError, KeyError, TypeError):  # half-written, cut off, or of another kind
            return int(json.loads(text)["step"])
    return None


def lines(outcomes: Iterable[Outcome]) -> Iterator[str]:
    """Return what to say of runs that ended at about the same time, a line for each task."""

    def task_and_status(outcome: Outcome) -> tuple[str, str]:
        return outcome.run.task, outcome.status

    for (task, status), group in groupby(sorted(outcomes, key=task_and_status), task_and_status):
        ended = list(group)
        if len(ended) == 1:
            yield line(ended[0])
            continue
        seconds = sum(outcome.seconds for outcome in ended)
        text = f"{status:9} {task}: {len(ended)} runs ({duration(seconds)})"
        yield f"{text}, best {_best(ended)}" if status == "finished" else text


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
    best = max(outcomes, key=lambda outcome: sign * (outcome.score or 0.0))
    return f"{_shown(best)}: {best.run.label.removeprefix(best.run.task).strip()}"
