"""Compares each problem's results under the protocols `lite` and `long`."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis import statistics
from analysis.choice import comparable
from analysis.comparison import Comparison, LineKey, scored
from analysis.findings.archived import ADAMW, DOG, LDOG, SGD, Archived
from analysis.findings.headline import name_of
from analysis.findings.problems import PROTOCOL
from analysis.findings.texts import NO_RUNS, span
from analysis.kinds import FINE_TUNING
from analysis.tables.page import markdown, score_text, signed
from analysis.variants import departures
from runner import TUNING_SEED
from tasks.format import NONE

LONG = "long"
METHODS = (DOG, LDOG, SGD, ADAMW)
PAIRS = ((DOG, SGD), (LDOG, SGD), (LDOG, ADAMW))
OF_RUN = ["problem_id", "optimizer", "setting"]


@dataclass(frozen=True)
class Row:
    """The test errors of the methods on a problem by one of the protocols."""

    comparison: Comparison
    seeds: str
    errors: dict[LineKey, float]  # the means over the seeds

    def red(self, one: LineKey, other: LineKey) -> float:
        """Return RED of one against another; nan where one was not run or errs too seldom."""
        problem, error = self.comparison.problem, self.errors.get(one, np.nan)
        enough = statistics.has_enough_errors(error, problem.test_examples, problem.metric)
        if not enough or other not in self.errors:
            return np.nan
        return statistics.relative_error_difference([self.errors[one]], [self.errors[other]])


def table(archived: Archived) -> str:
    """Return two rows for each problem that was trained for long: accuracies and RED."""
    shown = []
    for row in rows(archived):
        problem, errors = row.comparison.problem, row.errors
        cells = {
            "": f"{problem.task} · {problem.model}",
            "protocol": problem.protocol,
            "seeds": row.seeds,
        }
        for line in METHODS:
            accuracy = score_text(1 - errors[line], problem) if line in errors else NONE
            cells[name_of(archived, line)] = accuracy
        for one, other in PAIRS:
            names = (archived.labels.get(name, name) for name, _ in (one, other))
            cells[f"RED %, {' against '.join(names)}"] = signed(row.red(one, other))
        shown.append(cells)
    return markdown(pd.DataFrame(shown), ["", "protocol"]) if shown else NO_RUNS


def rows(archived: Archived) -> list[Row]:
    """Return the problems that both protocols trained, in pairs, by `lite` and by `long`.

    Of the reported seeds where all methods have some; else of the tuning seed, on which a tuned
    method's rate is chosen by validation.
    """
    runs = scored(comparable(archived.frame))
    runs = runs[(runs["seed"] == TUNING_SEED) & (runs["status"] != "failed")]
    at_tuning_seed = runs.drop_duplicates(OF_RUN).set_index(OF_RUN)["error"]
    found = {
        (each.problem.task, each.problem.model, each.problem.protocol): each
        for each in archived.comparisons
        if each.kind == FINE_TUNING and not departures(each.problem)
    }
    return [
        _row(found[task, model, name], at_tuning_seed)
        for task, model, protocol in found
        if protocol == LONG and (task, model, PROTOCOL) in found
        for name in (PROTOCOL, LONG)
    ]


def _row(comparison: Comparison, at_tuning_seed: pd.Series) -> Row:
    cells = {cell.key: cell for cell in comparison.cells if cell.key in METHODS and cell.errors}
    if len(cells) == len(METHODS):
        seeds = f"{span(len(cell.errors) for cell in cells.values())} reported"
        means = {line: float(np.mean([*cell.errors.values()])) for line, cell in cells.items()}
        return Row(comparison, seeds, means)
    return Row(comparison, str(TUNING_SEED), dict(_of_choices(comparison, at_tuning_seed)))


def _of_choices(comparison: Comparison, errors: pd.Series) -> Iterator[tuple[LineKey, float]]:
    """Yield the error of each method in the setting that was chosen."""
    for choice in comparison.choices:
        line = choice.optimizer, choice.row
        run = choice.problem_id, choice.optimizer, choice.setting
        if line in METHODS and run in errors.index:
            yield line, float(errors[run])
