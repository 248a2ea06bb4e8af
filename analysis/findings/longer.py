"""What longer training changes: the problems of the protocol `long` beside themselves in `lite`."""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from analysis import statistics
from analysis.choice import comparable
from analysis.comparison import Comparison, LineKey, scored
from analysis.findings.archived import ADAMW, DOG, LDOG, SGD, Archived
from analysis.findings.headline import name_of
from analysis.findings.problems import PROTOCOL
from analysis.findings.texts import NO_RUNS
from analysis.kinds import FINE_TUNING
from analysis.tables.page import markdown, score_text, signed
from analysis.variants import departures
from runner import TUNING_SEED
from tasks.format import NONE

LONG = "long"
OF_RUN = ["problem_id", "optimizer", "setting"]
METHODS = (DOG, LDOG, SGD, ADAMW)
PAIRS = ((DOG, SGD), (LDOG, SGD), (LDOG, ADAMW))


def table(archived: Archived) -> str:
    """Return two rows for each problem that was trained for long: accuracies and RED."""
    rows = []
    for comparison, errors in tuned_on_one_seed(archived):
        problem = comparison.problem
        row = {
            "": f"{problem.task} · {problem.model}",
            "protocol": problem.protocol,
            "steps": f"{problem.steps:,}",
            "training examples": f"{problem.train_examples:,}",
        }
        for line in METHODS:
            accuracy = score_text(1 - errors[line], problem) if line in errors else NONE
            row[name_of(archived, line)] = accuracy
        for one, other in PAIRS:
            names = (archived.labels.get(name, name) for name, _ in (one, other))
            row[f"RED %, {' against '.join(names)}"] = signed(red(errors, one, other))
        rows.append(row)
    return markdown(pd.DataFrame(rows), ["", "protocol"]) if rows else NO_RUNS


def tuned_on_one_seed(archived: Archived) -> list[tuple[Comparison, dict[LineKey, float]]]:
    """Return the test errors of the tuning seed, of each problem that both protocols trained.

    The problems come in pairs, by `lite` and by `long`. A tuned method's rate is chosen by
    validation on this seed.
    """
    runs = scored(comparable(archived.frame))
    runs = runs[(runs["seed"] == TUNING_SEED) & (runs["status"] != "failed")]
    runs = runs.drop_duplicates(OF_RUN).set_index(OF_RUN)
    found = {
        (each.problem.task, each.problem.model, each.problem.protocol): each
        for each in archived.comparisons
        if each.kind == FINE_TUNING and not departures(each.problem)
    }
    return [
        (each, {line: error for line, error in _errors(each, runs["error"]) if line in METHODS})
        for task, model, protocol in found
        if protocol == LONG and (task, model, PROTOCOL) in found
        for each in (found[task, model, name] for name in (PROTOCOL, LONG))
    ]


def red(errors: Mapping[LineKey, float], one: LineKey, other: LineKey) -> float:
    """Return RED of one against another, nan where either was not run."""
    if one not in errors or other not in errors:
        return np.nan
    return statistics.relative_error_difference([errors[one]], [errors[other]])


def _errors(comparison: Comparison, errors: pd.Series) -> Iterator[tuple[LineKey, float]]:
    """Yield what each setting that was chosen on a problem errs there."""
    for choice in comparison.choices:
        run = (choice.problem_id, choice.optimizer, choice.setting)
        if run in errors.index:
            yield (choice.optimizer, choice.row), float(errors[run])
