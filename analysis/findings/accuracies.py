"""What methods reach: test accuracies side by side, as the tables of problems have them."""

import numpy as np
import pandas as pd

from analysis.choice import DEFAULT
from analysis.comparison import Comparison, LineKey
from analysis.findings import headline
from analysis.findings.archived import ADAMW, AUTO, DOG, LAUTO, LDOG, SGD, Archived
from analysis.findings.problems import kind_of, name_of
from analysis.findings.texts import NO_RUNS, named
from analysis.kinds import FINE_TUNING
from analysis.roles import TUNED
from analysis.tables.page import markdown
from analysis.variants import departures
from tasks.format import NONE, plural

FAMILY = (DOG, AUTO, LDOG, LAUTO, SGD, (ADAMW[0], DEFAULT), ADAMW)
# The problems on which every method is to be run: task and network.
WITH_ALL = (
    ("probe_cifar", "efficientnet_lite0"),
    ("probe_newsgroups", "minilm"),
    ("cifar", "squeezenet"),
    ("movies", "minilm"),
)


def of_family(archived: Archived, setting: str = "") -> str:
    """Return a row for each problem of fine-tuning: DoG, its variants, and SGD and AdamW.

    Args:
        archived: the runs.
        setting: how a setting begins that is not the protocol's: only problems with such a one.
    """
    rows = [
        {
            "": name_of(each),
            **{headline.name_of(archived, line): _text(each, line) for line in FAMILY},
        }
        for each in archived.by_kind[FINE_TUNING]
        if not setting or any(text.startswith(setting) for text in departures(each.problem))
    ]
    return markdown(pd.DataFrame(rows), [""]) if rows else NO_RUNS


def at_defaults(archived: Archived) -> str:
    """Return a row for each method with its defaults, a column for each problem of `WITH_ALL`."""
    problems = {
        (each.problem.task, each.problem.model): each
        for comparisons in archived.by_kind.values()
        for each in reversed(comparisons)  # the protocol's own variant is the last, and stays
    }
    shown = {" · ".join(name): problems[name] for name in WITH_ALL if name in problems}
    roles = {
        cell.optimizer: cell.role
        for each in shown.values()
        for cell in each.cells
        if cell.row == DEFAULT
    }
    names = {
        optimizer: archived.labels[optimizer] + ", default rate" * (role == TUNED)
        for optimizer, role in roles.items()
    }
    rows = [
        {"": name, **{title: _text(each, (opt, DEFAULT)) for title, each in shown.items()}}
        for opt, name in sorted(names.items(), key=lambda one: (roles[one[0]] == TUNED, one[1]))
    ]
    return markdown(pd.DataFrame(rows), [""]) if rows else NO_RUNS


def list_guesses(archived: Archived) -> str:
    """Return where seeds of DoG's family end at a guess in fine-tuning, at any number of steps."""
    problems = [each for each in archived.comparisons if kind_of(each) == FINE_TUNING]
    lines: dict[str, list[str]] = {}
    for optimizer, _ in (DOG, AUTO, LDOG, LAUTO):
        for each in problems:
            runs = archived.runs.of(each, optimizer)
            errors = runs.loc[runs["opt_default"], "error"]
            if guesses := sum(_is_a_guess(1 - error, each.problem) for error in errors):
                where = f"{name_of(each)} ({guesses} of {plural(len(errors), 'seed')})"
                lines.setdefault(archived.labels[optimizer], []).append(where)
    return named(lines, 0)


def _text(comparison: Comparison, line: LineKey) -> str:
    """The accuracy in percent, its interval over seeds, and † where it is that of a guess."""
    for cell in comparison.cells:
        if cell.key == line and cell.seeds:
            half = "" if np.isnan(cell.test_half_width) else f" ± {100 * cell.test_half_width:.1f}"
            return f"{100 * cell.test:.1f}{half}{' †' * _is_a_guess(cell.test, comparison.problem)}"
    return NONE


def _is_a_guess(accuracy: float, problem: pd.Series) -> bool:
    """Whether an accuracy is within two standard errors of the most frequent class's, or below."""
    most = float(problem.test_majority)
    return bool(accuracy < most + 2 * np.sqrt(most * (1 - most) / problem.test_examples))
