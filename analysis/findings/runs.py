"""What the cells of a comparison do not hold: each iterate's errors, and starts that were moved."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from analysis import statistics
from analysis.choice import comparable
from analysis.comparison import Comparison, LineKey, reported, scored
from analysis.findings.pairs import Pair, pair
from analysis.roles import default_of, in_yaml, start_of

# By how much the first steps are moved either way.
FACTOR = 100
_OF_LINE = ["problem_id", "optimizer", "overrides", "seed", "error", "opt_default", "reps_rel"]


class ReportedRuns:
    """The reported runs with a result, by problem and optimizer."""

    def __init__(self, frame: pd.DataFrame) -> None:
        """Take what `records.gather` returns."""
        current = reported(comparable(frame))
        current = scored(current[current["status"] != "failed"])
        self._groups = dict(list(current.groupby(["problem_id", "optimizer"])))
        self._none = current[:0]
        self._lines: dict[tuple, list[Any]] = {}  # of few columns: frames are slow
        for run in current[_OF_LINE].itertuples(index=False):
            self._lines.setdefault((run.problem_id, run.optimizer), []).append(run)

    def of(self, comparison: Comparison, optimizer: str) -> pd.DataFrame:
        """Return an optimizer's runs on a problem, of all its settings."""
        return self._groups.get((comparison.problem.problem_id, optimizer), self._none)

    def iterates(self, comparisons: Iterable[Comparison], line: LineKey) -> list[Pair]:
        """Return the pair of averaged and last weights of each problem, of the same runs."""
        pairs = []
        for comparison in comparisons:
            choices = [one for one in comparison.choices if (one.optimizer, one.row) == line]
            runs = self.of(comparison, line[0])
            runs = runs[runs["setting"].isin([one.setting for one in choices])]
            runs = runs.dropna(subset=["test_averaged"]).set_index("seed")
            if len(runs):
                higher = runs["higher_is_better"]
                averaged, last = (
                    dict(zip(runs.index, statistics.error(runs[name], higher), strict=True))
                    for name in ("test_averaged", "test_last")
                )
                pairs += pair(comparison, averaged, last)
        return pairs

    def starts(self, comparisons: Iterable[Comparison], optimizer: str) -> list["Starts"]:
        """Return the starts tried on each problem on which more than the default was."""
        key, power = start_of(optimizer), in_yaml(optimizer, "start_power") or 1
        found = []
        for comparison in comparisons if key else ():
            default, errors = self.varied(comparison, optimizer, str(key))
            if default is not None:
                found.append(Starts(comparison, default, errors, power))
        return [starts for starts in found if starts.are_moved and starts.seeds]

    def varied(
        self, comparison: Comparison, optimizer: str, key: str
    ) -> tuple[Any, dict[Any, dict[int, float]]]:
        """Return an argument's default, None if it was not run, and the errors by value and seed.

        All else is as by default.
        """
        runs = self._lines.get((comparison.problem.problem_id, optimizer), [])
        errors: dict[Any, dict[int, float]] = {}
        for run in runs:
            changed = json.loads(run.overrides)
            if set(changed) == {key}:
                errors.setdefault(changed[key], {})[run.seed] = run.error
        default = [run for run in runs if run.opt_default]
        if not default:
            return None, errors
        value = default_of(optimizer, key, default[0].reps_rel)
        errors[value] = {run.seed: run.error for run in default}
        return value, errors


@dataclass(frozen=True)
class Starts:
    """The errors of an optimizer on a problem by its start and by seed."""

    comparison: Comparison
    default: float
    errors: Mapping[float, Mapping[int, float]]
    power: int = 1  # of the first steps' length, which the start is

    @cached_property
    def _near(self) -> dict[float, Mapping[int, float]]:
        """Those whose first steps are within `FACTOR` of the default's."""
        return {
            start: errors
            for start, errors in self.errors.items()
            if abs(np.log(start / self.default)) < self.power * np.log(FACTOR) + 1e-6
        }

    @property
    def are_moved(self) -> bool:
        """Whether there is one beside the default among these."""
        return len(self._near) > 1

    @property
    def seeds(self) -> int:
        """How many these have in common."""
        return len(set.intersection(*map(set, self._near.values())))

    @cached_property
    def spread(self) -> float:
        """How far the mean errors of the best and the worst of these are apart."""
        return spread(self._near)

    def moved(self, factor: float) -> list[Pair]:
        """Return the pair of a moved start and the default one; none if it was not tried.

        The first steps' length is moved by the factor. Of the default only the seeds of the other,
        so that they are paired.
        """
        target = self.default * factor**self.power
        for start, errors in self.errors.items():
            default = {
                seed: error for seed, error in self.errors[self.default].items() if seed in errors
            }
            if default and np.isclose(start, target, rtol=1e-6, atol=0):
                return pair(self.comparison, errors, default)
        return []


def spread(errors: Mapping[float, Mapping[int, float]]) -> float:
    """Return how far the largest and the smallest mean error are apart.

    The means are over the seeds that all starts have; nan where there is no such seed.

    >>> spread({1e-6: {0: 0.30, 1: 0.50}, 1e-4: {0: 0.20, 1: 0.30, 2: 0.9}}).__round__(6)
    0.15
    """
    seeds = set.intersection(*map(set, errors.values())) if errors else set()
    if not seeds:
        return np.nan
    means = [np.mean([of_start[seed] for seed in seeds]) for of_start in errors.values()]
    return float(max(means) - min(means))
