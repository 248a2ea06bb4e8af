"""All tables that are made from records, and their writing."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import pandas as pd

from analysis.comparison import Comparison
from analysis.paper.published import pages_of_published
from analysis.tables.leaderboard import StepCosts, pages_of_leaderboards
from analysis.tables.models import pages_of_models
from analysis.tables.page import Page, write_pages
from analysis.tables.problems import page_of_problem, page_of_summary
from analysis.tables.sensitivity import tables_of_sensitivity
from analysis.tables.starts import pages_of_tried, tried_starts


def all_pages(
    comparisons: Sequence[Comparison], frame: pd.DataFrame, costs: StepCosts | None = None
) -> Iterator[Page]:
    """Every table of the comparisons, which are of the runs in `frame`."""
    tables = {each.stem: page_of_problem(each) for each in comparisons}
    yield page_of_summary([(each, tables[each.stem]) for each in comparisons], frame)
    yield from pages_of_problems(comparisons, tables, tables_of_sensitivity(comparisons, frame))
    yield from pages_of_leaderboards(comparisons, costs or {})
    yield from pages_of_models(comparisons)
    yield from pages_of_tried(tried_starts(comparisons, frame))
    yield from pages_of_published(frame)


def pages_of_problems(
    comparisons: Iterable[Comparison], tables: Mapping[str, Page], sensitivity: Mapping[str, Page]
) -> Iterator[Page]:
    """A page for each task, network and protocol: the table of its first variant, then of others.

    Below each stands that of its sensitivity, if it has one. Both are by the problem's stem.
    """
    for _, alike in groupby(comparisons, key=attrgetter("page")):
        first, *others = (
            replace(tables[each.stem], below=[sensitivity[each.stem]])
            if each.stem in sensitivity
            else tables[each.stem]
            for each in alike
        )
        yield replace(first, below=[*first.below, *others])


def write_tables(
    comparisons: Sequence[Comparison],
    frame: pd.DataFrame,
    folder: Path,
    costs: StepCosts | None = None,
) -> None:
    """Write all tables where they differ; remove those of ours that are no longer made."""
    write_pages(all_pages(comparisons, frame, costs), folder)
