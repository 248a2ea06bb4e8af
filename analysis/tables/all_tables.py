"""All tables that are made from records, and their writing."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from analysis.comparison import Comparison
from analysis.paper.published import pages_of_published
from analysis.tables.leaderboard import StepCosts, pages_of_leaderboards
from analysis.tables.models import pages_of_models
from analysis.tables.page import Page, write_pages
from analysis.tables.problems import page_of_problem, page_of_summary
from analysis.tables.sensitivity import pages_of_sensitivity
from analysis.tables.starts import pages_of_starts


def all_pages(
    comparisons: Sequence[Comparison], frame: pd.DataFrame, costs: StepCosts | None = None
) -> Iterator[Page]:
    """Every table of the comparisons, which are of the runs in `frame`."""
    pages = [(comparison, page_of_problem(comparison)) for comparison in comparisons]
    yield page_of_summary(pages, frame)
    yield from (page for _, page in pages)
    yield from pages_of_leaderboards(comparisons, costs or {})
    yield from pages_of_models(comparisons)
    yield from pages_of_sensitivity(comparisons, frame)
    yield from pages_of_starts(comparisons, frame)
    yield from pages_of_published(frame)


def write_tables(
    comparisons: Sequence[Comparison],
    frame: pd.DataFrame,
    folder: Path,
    costs: StepCosts | None = None,
) -> None:
    """Write all tables where they differ; remove those of ours that are no longer made."""
    write_pages(all_pages(comparisons, frame, costs), folder)
