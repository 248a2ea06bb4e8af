"""Draws how far DoG has moved from its start: the paper's Figure 11, on our own runs."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from analysis.comparison import Comparison, protocol_title, reported
from analysis.figures.data import FigureData, names_of, steps_of
from analysis.figures.style import NOTE, looks, panel, styled, write_labels
from analysis.roles import is_reference_run


def distance_figures(data: FigureData) -> Iterator[tuple[str, Any]]:
    """A figure for each protocol with curves of DoG's default setting."""
    for protocol, comparisons in data.by_protocol().items():
        curves = _default_curves(data, comparisons)
        if curves:
            yield f"distance-{protocol}", draw_distance(curves)


def _default_curves(
    data: FigureData, comparisons: list[Comparison]
) -> list[tuple[Comparison, pd.DataFrame]]:
    """The curve of the first reported seed of DoG's default on each problem that has one."""
    lines = []
    for comparison in comparisons:
        runs = reported(data.runs_of(comparison)).sort_values("seed")
        default = runs[is_reference_run(runs)]
        known = default["run_id"][default["run_id"].isin(data.curves["run_id"])]
        if len(known):
            lines.append((comparison, data.curves[data.curves["run_id"] == known.iloc[0]]))
    return lines


@styled
def draw_distance(curves: list[tuple[Comparison, pd.DataFrame]]) -> Any:
    """Figure 11: r̄_t by step, a line a problem."""
    from matplotlib.figure import Figure

    comparisons = [comparison for comparison, _ in curves]
    height = max(3.8, 0.2 * len(curves) + 1)
    figure = Figure(figsize=(9.4, height))
    axes = figure.add_axes((0.09, 0.475 / height, 0.5, 1 - 0.95 / height))
    panel(
        axes,
        "step t (log scale)",
        r"distance from $x_0$ so far, $\bar{r}_t$ (log scale)",
        log_y=True,
    )
    named = names_of(comparisons)
    labels = []
    for (comparison, curve), style in zip(curves, looks(len(curves)), strict=True):
        axes.plot(curve["step"], curve["rbar"], **style)
        name = named[comparison.problem.problem_id]
        labels.append((name, float(curve["rbar"].iloc[-1]), style))
    write_labels(axes, labels)
    what = f"{protocol_title(comparisons)}, {steps_of(comparisons)}"
    axes.set_title(f"How far DoG moves: {what}", loc="left", fontsize=10, y=1, pad=17)
    note = "DoG's default setting, one seed a task and model"
    axes.text(0, 1.015, note, transform=axes.transAxes, **NOTE)
    return figure
