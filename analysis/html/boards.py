"""The leaderboards of a page: of each protocol and kind of problem, and of parts of these."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from analysis.comparison import Comparison, by_protocol
from analysis.html.table import Table, fragment, table_of
from analysis.kinds import KINDS
from analysis.tables.leaderboard import (
    LEFT,
    Leaderboard,
    StepCosts,
    leaderboards,
    notes_of_board,
    shown_board,
)
from analysis.tables.page import Page

# By what the problems of a leaderboard can be chosen, in the order of the page's filters. One of
# each of the first is always chosen: what differs in these is never mixed.
FIXED = ("protocol", "kind")
FILTERS = (*FIXED, "domain", "model", "task")
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
        """What can be chosen of each filter, `ANY` aside; protocols and kinds in their order."""
        return {
            name: list(dict.fromkeys(choice[i] for choice in self.places if choice[i] != ANY))
            for i, name in enumerate(FILTERS)
        }


def selections(comparisons: Sequence[Comparison]) -> Iterator[tuple[Selection, list[Comparison]]]:
    """Each choice by `FILTERS` that some problem meets, and the problems that meet it.

    The protocols are in the order of `protocols_of`, their kinds in that of `KINDS`.
    """
    order = [*protocols_of(comparisons)]
    meeting: dict[Selection, list[Comparison]] = {}
    for each in comparisons:
        problem = each.problem
        if each.kind in KINDS:
            for rest in product(*((ANY, problem[name]) for name in FILTERS[len(FIXED) :])):
                meeting.setdefault((problem.protocol, each.kind, *rest), []).append(each)
    for choice in sorted(
        meeting,
        key=lambda choice: (order.index(choice[0]), KINDS.index(choice[1]), choice),
    ):
        yield choice, meeting[choice]


def protocols_of(comparisons: Iterable[Comparison]) -> dict[str, list[Comparison]]:
    """The problems of each protocol, that with the most of them first."""
    groups = by_protocol(comparisons)
    return {name: groups[name] for name in sorted(groups, key=lambda n: (-len(groups[n]), n))}


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
    title, notes = f"Leaderboard, {board.title}", notes_of_board(board)
    return table_of(
        Page(name, board.frame, title, shown=shown, left=LEFT, notes=notes),
        links=[fragment("line", name, optimizer, row) for optimizer, row in keys],
        linked=["optimizer", "IQM of RED %"],
    )
