"""Weighs a method against a rival: on each problem both have been run on, and over all of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from analysis.comparison import Comparison, LineKey
from analysis.findings.problems import first_of_each_task
from analysis.statistics import (
    LEAST_TASKS,
    MedianRed,
    RedOfMeans,
    has_enough_errors,
    median_red,
    red_of_means,
    sign_test_interval,
    verdict,
)
from analysis.tables.models import by_seed

NO_VERDICT = "no verdict"
# In the order in which they are counted.
VERDICTS = ("better", "non-inferior", "worse", "inconclusive", NO_VERDICT)


def judged(interval: tuple[float, float]) -> str:
    """Return the verdict of an interval; where there is none, that there is none."""
    return NO_VERDICT if np.isnan(interval).any() else verdict(*interval)


@dataclass(frozen=True)
class Pair:
    """The test errors of a method and of its rival on a problem, by seed."""

    comparison: Comparison
    mine: Mapping[int, float]
    rival: Mapping[int, float]

    @property
    def by_seed(self) -> tuple[np.ndarray, np.ndarray]:
        """Both of shape (seeds,), nan where a side has no run."""
        return by_seed(self.mine, self.rival)

    @cached_property
    def red(self) -> RedOfMeans:
        """The rival's RED, with the method as its reference."""
        return red_of_means(*self.by_seed)

    @property
    def verdict(self) -> str:
        """What is said of the method on this problem."""
        return judged(self.red.interval())

    @property
    def seeds(self) -> int:
        """How many both have."""
        return min(len(self.mine), len(self.rival))


@dataclass(frozen=True)
class Evidence:
    """What pairs, one a problem, say of a method against its rival.

    A pair of one seed says nothing of other seeds: it is left out, and counted.
    """

    all_pairs: list[Pair]

    @cached_property
    def pairs(self) -> list[Pair]:
        """Those of several seeds."""
        return [pair for pair in self.all_pairs if pair.seeds > 1]

    @property
    def of_one_seed(self) -> int:
        """How many are left out."""
        return len(self.all_pairs) - len(self.pairs)

    def of_domain(self, domain: str) -> "Evidence":
        """What the problems of a domain, as "vision", say alone."""
        return Evidence(
            [pair for pair in self.all_pairs if pair.comparison.problem.domain == domain]
        )

    @cached_property
    def over_problems(self) -> MedianRed:
        """The rival's median RED over all problems, of which a task may have several."""
        sides = [pair.by_seed for pair in self.pairs]
        return median_red([mine for mine, _ in sides], [rival for _, rival in sides])

    @cached_property
    def of_tasks(self) -> list[Pair]:
        """One pair of each task."""
        firsts = first_of_each_task(pair.comparison for pair in self.pairs)
        ids = {comparison.problem.problem_id for comparison in firsts}
        return [pair for pair in self.pairs if pair.comparison.problem.problem_id in ids]

    @property
    def for_other_tasks(self) -> tuple[float, float]:
        """The interval of the median RED over one problem of each task, for other tasks."""
        return sign_test_interval([pair.red.estimate for pair in self.of_tasks])

    @property
    def is_for_other_tasks(self) -> bool:
        """Whether there are enough tasks to say something of others; else of other seeds alone."""
        return len(self.of_tasks) >= LEAST_TASKS

    @property
    def judged_pairs(self) -> list[Pair]:
        """The pairs that `red` and `interval` are over; where none has several seeds, all."""
        return (self.of_tasks if self.is_for_other_tasks else self.pairs) or self.all_pairs

    @property
    def red(self) -> float:
        """The rival's median RED, above 0 where it errs less."""
        return float(np.median([pair.red.estimate for pair in self.judged_pairs]))

    @property
    def interval(self) -> tuple[float, float]:
        """Its 95 % interval; nan where there is none."""
        if self.is_for_other_tasks:
            return self.for_other_tasks
        return self.over_problems.on_these_tasks


def pairs_of(comparisons: Iterable[Comparison], mine: LineKey, rival: LineKey) -> list[Pair]:
    """Return the pair of each problem on which both lines have a result.

    A problem on which the method makes too few errors for a RED has none.
    """
    pairs = []
    for comparison in comparisons:
        errors = {cell.key: cell.errors for cell in comparison.cells}
        if errors.get(mine) and errors.get(rival):
            pairs += pair(comparison, errors[mine], errors[rival])
    return pairs


def pair(
    comparison: Comparison, mine: Mapping[int, float], rival: Mapping[int, float]
) -> list[Pair]:
    """Return the pair of a problem; none where the method makes too few errors."""
    problem = comparison.problem
    error = float(np.mean([*mine.values()]))
    enough = has_enough_errors(error, problem.test_examples, problem.metric)
    return [Pair(comparison, mine, rival)] if enough else []
