"""What archived runs say of the first steps: moved starts, and starts that are found."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from analysis.comparison import Comparison
from analysis.findings.archived import AUTO, DOG, LAUTO, Archived
from analysis.findings.pairs import Pair
from analysis.findings.problems import TRAINED_STATISTICS, kind_of, name_of
from analysis.findings.runs import FACTOR, Starts
from analysis.findings.texts import NO_RUNS, counted, listed, span
from analysis.kinds import FINE_TUNING, PROBES
from analysis.roles import start_of
from analysis.tables.page import markdown, number
from analysis.tables.starts import COLUMNS, table_of_rules
from analysis.variants import departures, has_other_steps
from tasks.format import NONE

TRAINED, OTHER_STEPS = ", batch normalization trained", ", other numbers of steps"
# How a start is moved, and by what.
MOVES = {f"/ {FACTOR}": 1 / FACTOR, f"· {FACTOR}": float(FACTOR)}


def table(archived: Archived, optimizers: Sequence[str]) -> str:
    """Return how far errors spread over starts, and what moved starts are against the default."""
    rows = []
    for kind, optimizer, tried in _tried(archived, optimizers):
        spreads = [100 * each.spread for each in tried]
        widest = max(tried, key=lambda each: each.spread)
        row = {
            "": archived.labels[optimizer],
            "problems": f"{kind}: {len(tried)}",
            "seeds": span(each.seeds for each in tried),
            "spread, median": f"{np.median(spreads):.1f}",
            "largest": f"{max(spreads):.1f} ({name_of(widest.comparison)})",
        }
        for how, factor in MOVES.items():
            pairs = [pair for each in tried for pair in each.moved(factor)]
            row[f"start {how}"] = counted(pair.verdict for pair in pairs)
        rows.append(row)
    left = ["", "problems", "largest", *(f"start {how}" for how in MOVES)]
    return markdown(pd.DataFrame(rows), left) if rows else NO_RUNS


def contradicting(archived: Archived, optimizers: Sequence[str]) -> str:
    """Return the problems on which a moved start is worse than the default one."""
    return listed(
        (f"{archived.labels[optimizer]}, start {how}", pair)
        for _, optimizer, tried in _tried(archived, optimizers)
        for how, factor in MOVES.items()
        for each in tried
        for pair in each.moved(factor)
    )


def in_short(archived: Archived, kind: str, is_trained: bool) -> str:
    """Return how often DoG's moved starts got each verdict, on the problems of a kind."""
    if is_trained and kind == PROBES:  # features are computed once
        return NONE
    problems = _problems(archived).get(kind + TRAINED * is_trained, [])
    pairs: list[Pair] = [
        pair
        for each in archived.runs.starts(problems, DOG[0])
        for factor in MOVES.values()
        for pair in each.moved(factor)
    ]
    return counted(pair.verdict for pair in pairs) if pairs else NO_RUNS


def _problems(archived: Archived) -> dict[str, list[Comparison]]:
    """All problems of the protocol by kind, trained statistics and other steps told apart."""
    groups: dict[str, list[Comparison]] = {}
    for each in archived.comparisons:
        if kind := kind_of(each):
            kind += TRAINED * (TRAINED_STATISTICS in departures(each.problem))
            kind += OTHER_STEPS * has_other_steps(each.problem)
            groups.setdefault(kind, []).append(each)
    first = [kind for kind in (FINE_TUNING, FINE_TUNING + TRAINED, PROBES) if kind in groups]
    return {kind: groups[kind] for kind in (*first, *sorted({*groups} - {*first}))}


def _tried(
    archived: Archived, optimizers: Sequence[str]
) -> Iterable[tuple[str, str, list[Starts]]]:
    """Yield each kind of problems and optimizer with the starts tried there, if any were."""
    for kind, comparisons in _problems(archived).items():
        for optimizer in optimizers:
            if start_of(optimizer) and (tried := archived.runs.starts(comparisons, optimizer)):
                yield kind, optimizer, tried


def found(archived: Archived) -> str:
    """Return how far the automatic starts are behind the best fixed ones, and one for all is."""
    groups = {}
    for name, lines in _regrets(archived).groupby("optimizer", sort=False):
        groups[str(name)] = lines
    for optimizer, _ in (AUTO, LAUTO):
        groups |= _best_for_all(archived, optimizer)
    return _judged(groups)


def _best_for_all(archived: Archived, optimizer: str) -> Mapping[str, pd.DataFrame]:
    """The lines of the one fixed start with the least mean regret over the problems of a rule."""
    tried = [each for each in archived.tried if each.optimizer == optimizer]
    of_fixed = [
        [*each.line(each.fixed[start].dropna()), start] for each in tried for start in each.fixed
    ]
    lines = pd.DataFrame(of_fixed, columns=[*COLUMNS, "start"])
    regret = lines.pivot_table(index="start", columns="problem_id", values="regret").dropna()
    if regret.empty:
        return {}
    best = regret.mean(axis=1).idxmin()
    lines = lines[lines["start"] == best]
    return {f"{archived.labels[tried[0].starts_of]} from {best:g} on all": lines}


def found_by_steps(archived: Archived) -> str:
    """Return the same, by what is trained and for how many steps."""
    kinds = {each.problem.problem_id: each.kind for each in archived.comparisons}
    lines = _regrets(archived)
    groups = lines.groupby(["optimizer", lines["problem_id"].map(kinds), "steps"], sort=False)
    named = [(str(kind), int(steps), str(name), each) for (name, kind, steps), each in groups]
    named.sort(key=lambda group: group[:2])
    return _judged({f"{name}, {kind}, {steps:,} steps": each for kind, steps, name, each in named})


def _regrets(archived: Archived) -> pd.DataFrame:
    """The lines of the automatic starts, DoG's first."""
    lines = archived.regrets
    names = [archived.labels.get(optimizer) for optimizer, _ in (AUTO, LAUTO)]
    return pd.concat(lines[lines["optimizer"] == name] for name in names)


def _judged(groups: Mapping[str, pd.DataFrame]) -> str:
    """Return a row for each group of lines: its regrets, and its verdicts against the default."""
    rows = []
    for name, lines in groups.items():
        worst = lines.loc[lines["regret"].idxmax()]
        over, half = lines["over_default"], lines["over_default_half_width"]
        row = {
            "": name,
            "problems": str(len(lines)),
            "seeds": span(lines["seeds"]),
            "at most 1 point behind": str((lines["regret"] <= 0.01).sum()),
            "farthest behind": f"{number(100 * worst['regret'], '.1f')} ({worst['problem']})",
            "over the default start, mean": number(100 * over.mean(), "+.1f"),
            "better": str((over > half).sum()),
            "worse": str((over < -half).sum()),
        }
        rows.append(row)
    return markdown(pd.DataFrame(rows), ["", "farthest behind"]) if rows else NO_RUNS


def rules(archived: Archived) -> str:
    """Return how far each rule is behind the best fixed start, on the problems that have all."""
    table = table_of_rules(archived.regrets)
    return markdown(table, ["rule"]) if len(table) else NO_RUNS
