"""What the pairs of a claim say: its table, its verdict in short, and what contradicts it."""

from collections.abc import Iterable, Sequence
from itertools import chain

import pandas as pd

from analysis.choice import (
    BEST_OF_DEFAULTS,
    INSTANCE_TUNED,
    LEAVE_ONE_TASK_OUT,
    MODEL_TUNED,
    PORTFOLIO,
)
from analysis.comparison import LineKey
from analysis.findings.archived import ADAM, ADAMW, AUTO, DOG, LAUTO, LDOG, SGD, Archived
from analysis.findings.pairs import NO_VERDICT, Evidence, judged
from analysis.findings.problems import name_of
from analysis.findings.starts import in_short as starts_in_short
from analysis.findings.texts import NO_RUNS, listed, named, of_tasks, said, weighed
from analysis.kinds import KINDS
from analysis.tables.page import markdown
from tasks.format import plural

# By the name of its marks: each claim's method and the rivals that it is weighed against.
MATCHES: dict[str, list[tuple[LineKey, LineKey]]] = {
    "sgd": [(DOG, ("sgd", row)) for row in (INSTANCE_TUNED, MODEL_TUNED, LEAVE_ONE_TASK_OUT)],
    "ldog": [(LDOG, SGD), (LDOG, DOG)],
    "adam": [(LDOG, ADAMW), (LDOG, ADAM), (DOG, ADAMW), (DOG, ADAM)],
    "auto": [(AUTO, DOG), (LAUTO, LDOG), (AUTO, SGD), (LAUTO, ADAMW)],
}
# What is weighed on images alone, and on texts alone: in README.md, and in the findings.
IN_SHORT = [(DOG, SGD), (DOG, ADAMW)]
OF_DOMAINS = [*IN_SHORT, (LDOG, SGD), (LDOG, ADAMW), (LDOG, DOG), (AUTO, SGD)]
DOMAINS = {"vision": "images", "language": "texts"}
ITERATES = (DOG, LDOG, AUTO, LAUTO, SGD, ADAMW)


Matches = Iterable[tuple[LineKey, LineKey]]
# What evidence is of, of which kind of problems, and it.
Weighed = tuple[str, str, Evidence]


def _of_matches(archived: Archived, matches: Matches) -> list[Weighed]:
    return [
        (archived.against(pair), kind, archived.evidence(kind, pair))
        for pair in matches
        for kind in KINDS
    ]


def _of_iterates(archived: Archived, ending: str = "") -> list[Weighed]:
    return [
        (archived.label(line) + ending, kind, archived.averaged(kind, line))
        for line in ITERATES
        for kind in KINDS
    ]


def _contradicting(evidence: Iterable[Weighed]) -> str:
    return listed((name, pair) for name, _, found in evidence for pair in found.pairs)


def table(archived: Archived, matches: Matches) -> str:
    """Return a row for each pair of methods and each kind of problems."""
    return weighed(_of_matches(archived, matches))


def contradicting(archived: Archived, matches: Matches) -> str:
    """Return the problems on which the methods are worse than their rivals."""
    return _contradicting(_of_matches(archived, matches))


def by_domain(archived: Archived, matches: Matches) -> str:
    """Return verdicts for other seeds on images alone, on texts alone, and on both."""
    rows = []
    for name, kind, found in _of_matches(archived, matches):
        alone = {what: found.of_domain(domain) for domain, what in DOMAINS.items()}
        verdicts = {
            what: _for_other_seeds(each) for what, each in (alone | {"both": found}).items()
        }
        rows.append({"": name, "problems": kind, **verdicts})
    return markdown(pd.DataFrame(rows), [*rows[0]])


def unmeasured(archived: Archived, matches: Matches) -> str:
    """Return the problems that a row lacks, as the setting chosen has no reported run there."""
    lines: dict[str, list[str]] = {}
    for mine, rival in matches:
        for kind in KINDS:
            for each in archived.by_kind[kind]:
                cells = {cell.key: cell for cell in each.cells}
                ours, theirs = cells.get(mine), cells.get(rival)
                if ours and ours.errors and theirs and not theirs.errors:
                    lines.setdefault(archived.against((mine, rival)), []).append(name_of(each))
    return named(lines, 0)


def rivals(archived: Archived) -> str:
    """Return DoG against each rival, and against the best of several defaults."""
    return table(archived, _against_rivals(archived))


def _against_rivals(archived: Archived) -> Matches:
    return [(DOG, line) for line in (*archived.rivals, (BEST_OF_DEFAULTS, PORTFOLIO))]


def averaging(archived: Archived) -> str:
    """Return what averaged weights are against the last ones."""
    return weighed(_of_iterates(archived))


def averaging_contradicting(archived: Archived) -> str:
    """Return the problems on which averaged weights are worse than the last ones."""
    return _contradicting(_of_iterates(archived, ", averaged against last"))


def summary(archived: Archived) -> str:
    """Return each claim of the paper with its verdicts, in short."""
    compared = {
        "1. DoG is close to tuned SGD": (DOG, SGD),
        "2. L-DoG generally beats tuned SGD": (LDOG, SGD),
        "3. L-DoG approaches tuned Adam": (LDOG, ADAMW),
    }
    rows = [
        _row(
            claim,
            f"{archived.label(mine)} is … than {archived.label(rival)}",
            [_in_short(archived.evidence(kind, (mine, rival))) for kind in KINDS],
        )
        for claim, (mine, rival) in compared.items()
    ]
    for exception, is_trained in (("", False), (", except with batch normalization", True)):
        cells = [starts_in_short(archived, kind, is_trained) for kind in KINDS]
        what = "a start of DoG moved by 100 is … than the default one"
        rows.append(_row(f"4. DoG is insensitive to its start{exception}", what, cells))
    cells = [_in_short(archived.averaged(kind, DOG)) for kind in KINDS]
    rows.append(_row("5. averaging matters", "DoG's averaged weights are … than its last", cells))
    return markdown(pd.DataFrame(rows), [*rows[0]])


def _row(claim: str, what: str, cells: Sequence[str]) -> dict[str, str]:
    kinds = dict(zip(KINDS, cells, strict=True))
    return {"the paper's claim": claim, "what is tested": what, **kinds}


def _in_short(found: Evidence) -> str:
    text = _for_other_seeds(found)
    return f"{text}; for other tasks: {of_tasks(found)}" if found.pairs else text


def _for_other_seeds(found: Evidence) -> str:
    if not found.pairs:
        return NO_VERDICT if found.of_one_seed else NO_RUNS
    return f"{said(found.over_problems.on_these_tasks)} over {plural(len(found.pairs), 'problem')}"


def number_of_verdicts(archived: Archived) -> str:
    """Return how many verdicts over several problems the page's tables have."""
    matches = [*chain(*MATCHES.values()), *_against_rivals(archived)]
    intervals = [
        interval
        for _, _, found in (*_of_matches(archived, matches), *_of_iterates(archived))
        if found.pairs
        for interval in (found.over_problems.on_these_tasks, found.for_other_tasks)
    ]
    intervals += [
        alone.over_problems.on_these_tasks
        for _, _, found in _of_matches(archived, OF_DOMAINS)
        for alone in map(found.of_domain, DOMAINS)
        if alone.pairs
    ]
    return str(sum(judged(interval) != NO_VERDICT for interval in intervals))
