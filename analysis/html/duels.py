"""Whether one optimizer is as good as another over some problems: the verdicts of the page."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.choice import INSTANCE_TUNED, MAIN_ROW, PORTFOLIO
from analysis.comparison import Comparison
from analysis.roles import REFERENCE, TUNED
from analysis.statistics import Intervals, Verdict, has_enough_errors, intervals_over_tasks, verdict
from analysis.tables.models import Line, groups_of, lines_of

Key = tuple[str, str]  # of a line: optimizer and row
EVERY = "all problems"


@dataclass(frozen=True)
class Scope:
    """Some problems of one protocol that verdicts are about."""

    name: str  # for readers
    problems: Sequence[Comparison]


@dataclass(frozen=True)
class Duel:
    """How the rival's errors compare with the subject's over the problems that both have."""

    scope: str
    subject: Line  # on the first problem, as `rival`
    rival: Line
    problems: Sequence[str]  # by stem
    without_interval: Sequence[str]  # left out: a side has one seed there
    intervals: Intervals  # of RED: above 0 where the rival errs less
    verdict: Verdict  # on these problems


def name_of(line: Line) -> str:
    """The optimizer and its row for readers: "tuned SGD"."""
    row, label = line.cell.row, line.cell.label
    if row == INSTANCE_TUNED:
        return f"tuned {label}"
    return f"{label}, default settings" if line.cell.role == TUNED else label


def key_of(line: Line) -> Key:
    """The optimizer and the row of a line."""
    return line.cell.optimizer, line.cell.row


def scopes_of(comparisons: Sequence[Comparison]) -> list[Scope]:
    """Of the problems of one protocol: all, those of each domain, those of each network.

    Of a task's variants the first, as everywhere (`tables.models.groups_of`); probes and
    fine-tuning of one network apart.
    """
    groups = [(values, group) for values, group in groups_of(comparisons)]
    every = [each for _, group in groups for each in group]
    domains: dict[str, list[Comparison]] = {}
    for each in sorted(every, key=lambda each: str(each.problem.domain)):
        domains.setdefault(each.problem.domain, []).append(each)
    found = [Scope(EVERY, every)]
    found += [Scope(domain, problems) for domain, problems in domains.items() if len(domains) > 1]
    for (*_, budget, model), group in groups:
        kind = " probe" if budget == "probe" else ""
        found.append(Scope(f"{model}{kind}", group))
    return found


def subjects(comparisons: Sequence[Comparison]) -> list[Key]:
    """The lines that need no tuning, those on the most problems first; the reference before all."""
    lines = {
        key: same
        for key, same in lines_of(comparisons).items()
        if same[0].cell.role != TUNED and key[1] == MAIN_ROW[same[0].cell.role]
    }
    return sorted(
        (key for key, same in lines.items() if _with_errors(same)),
        key=lambda key: (
            lines[key][0].cell.role != REFERENCE,
            -len(_with_errors(lines[key])),
            key,
        ),
    )


def rivals(comparisons: Sequence[Comparison]) -> list[Key]:
    """What a subject is compared with: each optimizer tuned on the problem, then those untuned."""
    lines = lines_of(comparisons)
    order = {
        key: (not tuned, -len(_with_errors(same)), len(same[0].cell.label), same[0].cell.label)
        for key, same in lines.items()
        for tuned in [key[1] == INSTANCE_TUNED]
        if _with_errors(same) and (tuned or key[1] in (*MAIN_ROW.values(), PORTFOLIO))
    }
    return sorted(order, key=lambda key: (order[key], key))


def _with_errors(lines: Sequence[Line]) -> list[Line]:
    return [line for line in lines if line.cell.errors]


def duels(scope: Scope, subject: Key, against: Sequence[Key]) -> Iterator[Duel]:
    """The subject against each rival, over those of the scope's problems that both have."""
    lines = {
        key: {line.comparison.stem: line for line in _with_errors(same)}
        for key, same in lines_of(scope.problems).items()
    }
    for rival in against:
        if rival != subject and (found := _duel(scope, lines, subject, rival)) is not None:
            yield found


def _duel(
    scope: Scope, lines: Mapping[Key, Mapping[str, Line]], subject: Key, rival: Key
) -> Duel | None:
    mine, theirs = lines.get(subject, {}), lines.get(rival, {})
    stems = [stem for stem in mine if stem in theirs and _bears_red(mine[stem])]
    if not stems:
        return None
    several = [s for s in stems if min(len(mine[s].cell.errors), len(theirs[s].cell.errors)) > 1]
    taken = several or stems
    pairs = [_by_seed(mine[stem], theirs[stem]) for stem in taken]
    found = intervals_over_tasks([own for own, _ in pairs], [other for _, other in pairs])
    return Duel(
        scope=scope.name,
        subject=mine[taken[0]],
        rival=theirs[taken[0]],
        problems=taken,
        without_interval=[stem for stem in stems if stem not in taken],
        intervals=found,
        verdict=verdict(*found.on_these_tasks),
    )


def _bears_red(line: Line) -> bool:
    problem, errors = line.comparison.problem, [*line.cell.errors.values()]
    return bool(has_enough_errors(np.mean(errors), problem.test_examples, problem.metric))


def _by_seed(mine: Line, other: Line) -> tuple[np.ndarray, np.ndarray]:
    """Both sides' errors of all seeds that either has."""
    sides = mine.cell.errors, other.cell.errors
    seeds = sorted({*sides[0], *sides[1]})
    one, two = (np.array([errors.get(seed, np.nan) for seed in seeds]) for errors in sides)
    return one, two
