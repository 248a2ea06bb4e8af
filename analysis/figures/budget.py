"""Draws test error against the training budget, of DoG and of baselines tuned for each budget."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from analysis.choice import MAIN_ROW
from analysis.comparison import Comparison
from analysis.figures.data import FigureData, but_steps
from analysis.figures.style import (
    REFERENCE_LOOK,
    beside_labels,
    curve_looks,
    error_locator,
    error_unit,
    head,
    panel,
    styled,
    tuning_free_looks,
    write_labels,
)
from analysis.roles import REFERENCE, TUNED, TUNING_FREE, in_order
from analysis.statistics import error

# A budget's number is written if it is at least this many times the last one written.
TICKS_APART = 1.15


def budget_figures(data: FigureData) -> Iterator[tuple[str, Any]]:
    """A figure for each problem of which a line was run with several numbers of steps."""
    for stem, comparisons in budgets(data):
        yield stem, draw_budget(comparisons)


def budgets(data: FigureData) -> Iterator[tuple[str, list[Comparison]]]:
    """The problems that differ in steps alone and share a line, with the stem of their figure."""
    groups: dict[tuple, list[Comparison]] = {}
    for comparison in data.comparisons:
        groups.setdefault(but_steps(comparison), []).append(comparison)
    for comparisons in groups.values():
        if _has_a_line(comparisons):
            first = comparisons[0]
            stem = first.stem.removesuffix(f"-steps={first.problem.steps}")
            yield f"budget-{stem}", comparisons


def _has_a_line(comparisons: list[Comparison]) -> bool:
    points = pd.concat(main_cells(comparison) for comparison in comparisons)
    return points.groupby(["optimizer", "row"]).size().max() > 1


def main_cells(comparison: Comparison) -> pd.DataFrame:
    """The cells of a comparison that are drawn, at most one of each line."""
    cells = comparison.frame.assign(steps=comparison.problem.steps)
    return cells[(cells["row"] == cells["role"].map(MAIN_ROW)) & cells["test"].notna()]


def _looks(cells: pd.DataFrame) -> dict[str, tuple[str, Any, str]]:
    """Marker, dashes and colour of each optimizer by its label: the reference first."""
    labels = {role: cells["label"][cells["role"] == role] for role in MAIN_ROW}
    looks = dict.fromkeys(labels[REFERENCE], ("X", *REFERENCE_LOOK))
    free = tuning_free_looks(labels[TUNING_FREE])
    looks |= {label: ("X", *look) for label, look in free.items()}
    tuned = in_order(labels[TUNED])
    return looks | dict(zip(tuned, curve_looks(len(tuned)), strict=True))


@styled
def draw_budget(comparisons: list[Comparison]) -> Any:
    """The figure of problems that differ in steps alone: a line an optimizer, a point a budget."""
    cells = pd.concat(main_cells(comparison) for comparison in comparisons).sort_values("steps")
    points = cells.groupby("label")["steps"].transform("size")
    cells = cells[points >= points.max() / 2]  # what was run with few of the budgets hides the rest
    looks = _looks(cells)
    rows = cells.drop_duplicates("label").set_index("label")["row"]
    names = {label: f"{label}, {rows[label]}" for label in looks}
    figure, axes = beside_labels(names.values(), (0.1, 0.125, 0.64, 0.75))
    unit, scale = error_unit(comparisons[0])
    panel(axes, "steps (log scale), each budget a run of its own", unit, log_y=True)
    labels = []
    for label, (marker, dashes, colour) in looks.items():
        line = cells[cells["label"] == label]
        errors = error(line["test"], comparisons[0].problem.higher_is_better) * scale
        style: Any = {"color": colour, "linestyle": dashes, "marker": marker, "linewidth": 1.3}
        bars = line["test_half_width"].fillna(0) * scale
        axes.errorbar(line["steps"], errors, yerr=bars, capsize=2, elinewidth=0.8, **style)
        labels.append((names[label], float(errors[-1]), style))
    ticks: list[int] = []
    for steps in sorted({int(steps) for steps in cells["steps"]}):
        if not ticks or steps > TICKS_APART * ticks[-1]:
            ticks.append(steps)
    axes.set_xticks(ticks, map(str, ticks))
    axes.yaxis.set_major_locator(error_locator(*axes.get_ylim()))
    write_labels(axes, labels)
    first = comparisons[0]
    title = first.title.removesuffix(f"steps={first.problem.steps}").rstrip(" ,·")
    title += ": error against training budget"
    note = "mean over reported seeds, bars: 95 % t interval; rates tuned for each budget"
    head(axes, title, note)
    return figure
