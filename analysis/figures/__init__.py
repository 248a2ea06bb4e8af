"""Draws the figures of our own records, from records.csv and curves.csv alone."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.comparison import Comparison
from analysis.figures.batch_norm import batch_norm_figures
from analysis.figures.break_even import break_even_figures
from analysis.figures.budget import budget_figures
from analysis.figures.data import FigureData
from analysis.figures.distance import distance_figures
from analysis.figures.growth import growth_figures
from analysis.figures.leaderboard import leaderboard_figures
from analysis.figures.rates import rates_figures
from analysis.figures.red import red_figures
from analysis.figures.sensitivity import sensitivity_figures
from analysis.figures.starts import starts_figures
from analysis.figures.step_size import step_size_figures
from analysis.figures.style import svg
from analysis.files import write_files

KINDS = (
    rates_figures,
    batch_norm_figures,
    red_figures,
    break_even_figures,
    leaderboard_figures,
    starts_figures,
    growth_figures,
    budget_figures,
)
# Of the protocols' numbers of steps alone: starts are tried with many others.
BY_START = (step_size_figures, sensitivity_figures, distance_figures)


def all_figures(data: FigureData) -> Iterator[tuple[str, Any]]:
    """Every figure for which there are runs, with the stem of its file."""
    for figures_of_a_kind in KINDS:
        yield from figures_of_a_kind(data)
    for figures_of_a_kind in BY_START:
        yield from figures_of_a_kind(data.of_protocols_steps)


def write_figures(
    comparisons: Sequence[Comparison], frame: pd.DataFrame, curves: pd.DataFrame, folder: Path
) -> dict[str, Path]:
    """Draw and write every figure for which there are runs; return their paths by stem.

    `comparisons` is from `compare_problems`, `frame` from `records.collect`, `curves` from
    `curves.collect`. The same records give the same bytes. Figures of ours that are no longer made
    are removed.
    """
    data = FigureData.from_records(comparisons, frame, curves)
    drawn = {stem: svg(figure) for stem, figure in all_figures(data)}
    write_files({f"{stem}.svg": content for stem, content in drawn.items()}, folder, ".svg")
    return {stem: folder / f"{stem}.svg" for stem in drawn}
