"""Draws test error against the training budget, of DoG and of baselines tuned for each budget."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from analysis.figures.data import Data, stems
from analysis.figures.style import (
    CURVES,
    error_locator,
    error_unit,
    head,
    panel,
    styled,
    write_labels,
)
from analysis.selection import DEFAULT, DOG, INSTANCE_TUNED
from analysis.statistics import error
from analysis.tables import Table
from analysis.variants import settings

LINES: dict[tuple[str, str], Any] = {(DOG, DEFAULT): ("X", "-", "#000000")}
LINES |= dict(zip([("sgd", INSTANCE_TUNED), ("adam", INSTANCE_TUNED)], CURVES, strict=False))


def make(data: Data) -> Iterator[tuple[str, Any]]:
    """A figure for each problem of which a line was run with several numbers of steps."""
    groups: dict[tuple, list[Table]] = {}
    for table in data.tables:
        others = {**settings(table.problem), "train.steps": ""}
        problem = table.problem
        key = (problem.task, problem.model, problem.protocol, str(sorted(others.items())))
        groups.setdefault(key, []).append(table)
    groups = {key: tables for key, tables in groups.items() if _has_a_line(tables)}
    drawn = [
        (f"budget-{'-'.join(key[:3])}", max(tables, key=lambda one: one.problem["rank"]))
        for key, tables in groups.items()
    ]
    for stem, tables in zip(stems(drawn), groups.values(), strict=True):
        yield stem, draw(tables)


def _has_a_line(tables: list[Table]) -> bool:
    points = pd.concat(_points(table) for table in tables)
    return points.groupby(["optimizer", "row"]).size().max() > 1


def _points(table: Table) -> pd.DataFrame:
    """The cells of a table that are drawn, at most one of each line."""
    cells = table.cells.assign(steps=table.problem.steps)
    drawn = pd.MultiIndex.from_frame(cells[["optimizer", "row"]]).isin([*LINES])
    return cells[drawn & cells["test"].notna()]


@styled
def draw(tables: list[Table]) -> Any:
    """The figure of problems that differ in steps alone: a line an optimizer, a point a budget."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.4, 3.8))
    axes = figure.add_axes((0.1, 0.125, 0.64, 0.75))
    unit, scale = error_unit(tables[0])
    panel(axes, "steps (log scale), each budget a run of its own", unit, log_y=True)
    cells = pd.concat(_points(table) for table in tables).sort_values("steps")
    labels = []
    for (optimizer, row), (marker, dashes, colour) in LINES.items():
        own = cells[(cells["optimizer"] == optimizer) & (cells["row"] == row)]
        if own.empty:
            continue
        errors = error(own["test"], tables[0].problem.higher_is_better) * scale
        style: Any = {"color": colour, "linestyle": dashes, "marker": marker, "linewidth": 1.3}
        bars = own["test_half_width"].fillna(0) * scale
        axes.errorbar(own["steps"], errors, yerr=bars, capsize=2, elinewidth=0.8, **style)
        labels.append((f"{own['label'].iloc[0]}, {row}", float(errors[-1]), style))
    steps = sorted({int(table.problem.steps) for table in tables})
    axes.set_xticks(steps, map(str, steps))
    axes.yaxis.set_major_locator(error_locator(*axes.get_ylim()))
    write_labels(axes, labels)
    title = f"{tables[0].title}: error against training budget"
    note = "mean over reported seeds, bars: 95 % t interval; rates tuned for each budget"
    head(axes, title, note)
    return figure
