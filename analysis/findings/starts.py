"""What archived runs say of starts that are moved."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from analysis.comparison import Comparison
from analysis.findings.archived import DOG, Archived
from analysis.findings.pairs import Pair
from analysis.findings.problems import TRAINED_STATISTICS, kind_of, name_of
from analysis.findings.runs import FACTOR, Starts
from analysis.findings.texts import NO_RUNS, counted, listed, span
from analysis.kinds import FINE_TUNING, PROBES
from analysis.roles import start_of
from analysis.tables.page import markdown
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
        moved = {
            how: [pair for each in tried for pair in each.moved(factor)]
            for how, factor in MOVES.items()
        }
        # A verdict rests on the seeds of its two starts, of which all starts may share fewer.
        seeds = [each.seeds for each in tried]
        seeds += [pair.seeds for pairs in moved.values() for pair in pairs]
        row = {
            "": archived.labels[optimizer],
            "problems": f"{kind}: {len(tried)}",
            "seeds": span(seeds),
            "spread, median": f"{np.median(spreads):.1f}",
            "largest": f"{max(spreads):.1f} ({name_of(widest.comparison)})",
            **{
                f"start {how}": counted(pair.verdict for pair in pairs)
                for how, pairs in moved.items()
            },
        }
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
