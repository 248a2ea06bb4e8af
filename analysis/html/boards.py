"""The leaderboards of a page: of each protocol, and of parts of its problems."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from analysis.comparison import Comparison
from analysis.html.table import Table, fragment, table_of
from analysis.tables.leaderboard import (
    LEFT,
    Leaderboard,
    StepCosts,
    leaderboards,
    notes_of_board,
    shown_board,
)

# By what the problems of a leaderboard can be chosen, in the order of the page's filters.
FILTERS = ("protocol", "domain", "model", "task")
# In a choice: whatever there is.
ANY = ""
# The columns that answer, before those that explain.
FIRST = ["optimizer", "row", "IQM of RED %", "95 % interval", "runs", "time", "left to set"]
FIRST += ["Pareto", "near best %", "step", "memory"]
Selection = tuple[str, ...]


@dataclass(frozen=True)
class Boards:
    """Every leaderboard once, and which one each choice of problems has."""

    boards: Sequence[Leaderboard]
    places: dict[Selection, int | None]  # None: nothing was run there beside the reference

    def options(self) -> dict[str, list[str]]:
        """What can be chosen of each filter, `ANY` aside; protocols in their order."""
        return {
            name: list(dict.fromkeys(choice[i] for choice in self.places if choice[i] != ANY))
            for i, name in enumerate(FILTERS)
        }


def selections(comparisons: Sequence[Comparison]) -> Iterator[tuple[Selection, list[Comparison]]]:
    """Each choice by `FILTERS` that some problem meets, and the problems that meet it.

    The protocol with the most problems comes first; a protocol is always chosen.
    """
    of_protocol: dict[str, int] = {}
    for each in comparisons:
        of_protocol[each.problem.protocol] = of_protocol.get(each.problem.protocol, 0) + 1
    ordered = sorted(comparisons, key=lambda each: -of_protocol[each.problem.protocol])
    choices = dict.fromkeys(
        (problem.protocol, *rest)
        for problem in (each.problem for each in ordered)
        for rest in product(*((ANY, problem[name]) for name in FILTERS[1:]))
    )
    for choice in sorted(choices, key=lambda choice: (-of_protocol[choice[0]], choice)):
        yield choice, [each for each in comparisons if _meets(each, choice)]


def _meets(comparison: Comparison, choice: Selection) -> bool:
    pairs = zip(FILTERS, choice, strict=True)
    return all(wanted in (ANY, comparison.problem[name]) for name, wanted in pairs)


def boards_of(comparisons: Sequence[Comparison], costs: StepCosts) -> Boards:
    """The leaderboard of each choice."""
    boards: list[Leaderboard] = []
    places: dict[Selection, int | None] = {}
    known: dict[frozenset[str], int | None] = {}
    for choice, chosen in selections(comparisons):
        key = frozenset(each.stem for each in chosen)
        if key not in known:
            found = list(leaderboards(chosen, costs))
            known[key] = len(boards) if found else None
            boards += found
        places[choice] = known[key]
    return Boards(boards, places)


def table_of_board(board: Leaderboard, name: str) -> Table:
    """The table of a leaderboard; its lines link to the runs behind them."""
    keys = board.frame[["optimizer", "row"]].itertuples(index=False)
    shown = shown_board(board.frame)
    first = [name for name in FIRST if name in shown]
    shown = shown[[*first, *(name for name in shown if name not in first)]]
    return table_of(
        name,
        f"Leaderboard, {board.title}",
        shown,
        LEFT,
        links=[fragment("line", name, optimizer, row) for optimizer, row in keys],
        linked=["optimizer", "IQM of RED %"],
        notes=notes_of_board(board),
    )
