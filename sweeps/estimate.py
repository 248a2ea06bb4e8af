"""How long runs take: what each is expected to, from earlier runs, and the time left of many."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import pandas as pd

from analysis import records
from sweeps.plan import PlannedRun
from tasks.format import duration

# What an example's time depends on besides task and model, as in the column problem_settings.
_EXAMPLE = ("train.image_size=", "train.max_tokens=", "train.precision=")


@dataclass(frozen=True)
class RunEstimate:
    """How long a run is expected to take."""

    seconds: float
    basis: str  # the earlier runs that say so


@dataclass(frozen=True)
class TimeLeft:
    """How long some runs will take, as far as it is known."""

    runs: int
    unknown: int  # how many of them have no estimate
    seconds: float  # of the others

    def __str__(self) -> str:
        if not self.runs:
            return "none"
        if self.unknown == self.runs or self.seconds <= 0:  # they take longer than expected
            return "unknown"
        return f"at least {duration(self.seconds)}" if self.unknown else duration(self.seconds)


class RuntimeEstimator:
    """Estimates how long runs take: the median time of the earlier runs most like them.

    Runs of the same processor come before others. Among them come first runs of the same problem
    and optimizer, then those of the same problem, then those of the same task and model on examples
    of the same size, whose time is scaled by the number of examples (steps × batch size). A run
    that diverged ended early: its time says nothing.

    Args:
        frame: the earlier runs, with the columns of records.csv.
        processor: where the runs to be estimated will train, as records name it.
        timed: the seconds of a run of which no earlier run tells, as some steps of it took.
    """

    def __init__(self, frame: pd.DataFrame, processor: str, timed: float | None = None) -> None:
        self.processor, self._timed = processor, timed
        done = frame[(frame["status"] == "finished") & (frame["seconds"] > 0)]
        examples = (done["steps"] * done["batch_size"]).astype("float64")
        done = done.assign(
            example=[_example(text) for text in done["problem_settings"]],
            seconds_an_example=done["seconds"] / examples,
        )
        same = done["gpu"].mask(done["gpu"] == "", done["cpu"]) == processor
        self._medians = {
            "this processor": _Medians(done[same]),
            "another processor": _Medians(done[~same]),
        }
        here = done[same]
        self._took = dict(zip(here["run_id"], here["seconds"], strict=True))
        self._found: dict[tuple[str, str], RunEstimate | None] = {}

    def estimate(self, run: PlannedRun) -> RunEstimate | None:
        """Return how long a run is expected to take; None if nothing says so."""
        key = (run.problem_id, run.optimizer)
        if key not in self._found:
            self._found[key] = next(self._estimates(run), None)
        return self._found[key]

    def took(self, run: PlannedRun) -> float | None:
        """Return the seconds that a finished run took; None if it was not on this processor."""
        return self._took.get(run.run_id)

    def time_left(
        self,
        to_do: Sequence[PlannedRun],
        at_once: int,
        ended: Iterable[tuple[PlannedRun, float]] = (),
        steps_done: Mapping[str, int] | None = None,
    ) -> TimeLeft:
        """Return how long these runs will take if so many of them train at once.

        Args:
            to_do: the runs.
            at_once: how many runs, or groups of replicas, train at the same time.
            ended: finished runs of the same sweep, with the seconds that they took. By what they
                took longer than estimated, the others will as well; and a run without an estimate
                is expected to take as long as those of its problem.
            steps_done: by run id, the steps that runs to do have taken already.
        """
        took = expected = 0.0
        of_problem: dict[str, list[float]] = {}
        for run, seconds in ended:
            if (found := self.estimate(run)) is None:
                of_problem.setdefault(run.problem_id, []).append(seconds)
            else:
                took, expected = took + seconds, expected + found.seconds
        scale = took / expected if expected else 1.0
        means = {problem: fmean(times) for problem, times in of_problem.items()}
        known = []
        for run in to_do:
            found = self.estimate(run)
            full = means.get(run.problem_id) if found is None else scale * found.seconds
            if full is not None:
                part = 1 - (steps_done or {}).get(run.run_id, 0) / run.steps
                known.append(full * max(0.0, part))
        seconds = max(sum(known) / at_once, max(known, default=0.0))
        return TimeLeft(len(to_do), len(to_do) - len(known), seconds)

    def _estimates(self, run: PlannedRun) -> Iterator[RunEstimate]:
        """Yield the estimates that there are, the best first."""
        spec = run.config.spec
        examples = spec.train.steps * spec.train.batch_size
        kind = (run.task, spec.model.name, _example(records.problem_text(spec.settings)))
        for where, medians in self._medians.items():
            if (seconds := medians.run.get((run.problem_id, run.optimizer))) is not None:
                yield RunEstimate(seconds, f"same runs, {where}")
            if (seconds := medians.problem.get(run.problem_id)) is not None:
                yield RunEstimate(seconds, f"other optimizers, {where}")
            if (seconds := medians.example.get(kind)) is not None:
                yield RunEstimate(seconds * examples, f"other protocols, by steps, {where}")
        if self._timed is not None:
            yield RunEstimate(self._timed, "some steps of it")


class _Medians:
    """The median times of some runs, by what they have in common."""

    def __init__(self, runs: pd.DataFrame) -> None:
        self.run = _median(runs, ["problem_id", "optimizer"], "seconds")
        self.problem = _median(runs, "problem_id", "seconds")
        self.example = _median(runs, ["task", "model", "example"], "seconds_an_example")


def _median(runs: pd.DataFrame, by: str | list[str], column: str) -> dict[Any, float]:
    return runs.groupby(by)[column].median().dropna().to_dict()


def _example(problem_settings: str) -> str:
    """Return the settings on which the time of an example depends."""
    return "; ".join(part for part in problem_settings.split("; ") if part.startswith(_EXAMPLE))
