"""What figures are drawn from: comparisons, the runs behind them, and their curves."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import pandas as pd

from analysis.choice import comparable, validation_score
from analysis.comparison import Comparison, scored
from analysis.statistics import gain
from analysis.variants import has_other_steps, settings
from analysis.varied import shared_seeds

# What is drawn of a run; few columns are faster to filter.
RUN = ["run_id", "problem_id", "optimizer", "role", "label", "setting", "opt_default"]
RUN += ["overrides", "grid"]
RUN += ["seed", "learning_rate", "c", "reps_rel", "validation_last", "validation_averaged", "test"]
RUN += ["error", "metric", "higher_is_better", "test_majority", "test_examples"]


@dataclass(frozen=True)
class FigureData:
    """All that a figure may show: newest versions and runs with a result only."""

    comparisons: Sequence[Comparison]
    runs: dict[str, pd.DataFrame]  # by problem id: `RUN`, scored
    curves: pd.DataFrame  # as from `curves.collect`

    @classmethod
    def from_records(
        cls, comparisons: Sequence[Comparison], frame: pd.DataFrame, curves: pd.DataFrame
    ) -> "FigureData":
        """From `compare_problems`, `records.collect` and `curves.collect`."""
        current = comparable(frame)
        runs = scored(current[current["status"] != "failed"])[RUN]
        groups = dict(list(runs.groupby("problem_id")))
        ids = [comparison.problem.problem_id for comparison in comparisons]
        of_problems = {problem_id: groups.get(problem_id, runs[:0]) for problem_id in ids}
        return cls(comparisons, of_problems, curves)

    @cached_property
    def with_curves(self) -> list[str]:
        """The runs that have a curve, which has many lines."""
        return [*self.curves["run_id"].unique()]

    @property
    def of_protocols_steps(self) -> "FigureData":
        """Without the problems that were run with other steps than their protocol's."""
        kept = [
            comparison
            for comparison in self.comparisons
            if not (comparison.problem["departures"] and has_other_steps(comparison.problem))
        ]
        return replace(self, comparisons=kept)

    def runs_of(self, comparison: Comparison) -> pd.DataFrame:
        """The runs of a comparison's problem."""
        return self.runs[comparison.problem.problem_id]


def seeds_in_words(lines: Iterable[pd.DataFrame]) -> str:
    """Which seeds the means of each line of `varied` runs are over."""
    if all(shared_seeds(runs) for runs in lines):
        return "the reported seeds that all its points have"
    return "each point's own reported seeds"


def best_of_each_rate(runs: pd.DataFrame) -> pd.DataFrame:
    """One run of each optimizer and learning rate: where a grid has other keys, validation's."""
    gains = pd.Series(gain(validation_score(runs), runs["higher_is_better"]), index=runs.index)
    return runs.loc[gains.groupby([runs["optimizer"], runs["learning_rate"]]).idxmax()]


def but_steps(comparison: Comparison) -> tuple[str, str]:
    """What is the same of problems that differ in their number of steps alone."""
    others = {**settings(comparison.problem), "train.steps": ""}
    return comparison.page, str(sorted(others.items()))


def steps_of(comparisons: list[Comparison]) -> str:
    """The numbers of steps of some problems, in words."""
    numbers = [
        f"{number:,}" for number in sorted({int(each.problem.steps) for each in comparisons})
    ]
    if len(numbers) > 2:
        return f"{numbers[0]} to {numbers[-1]} steps"
    return f"{' or '.join(numbers)} steps"
