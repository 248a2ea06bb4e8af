"""Draws how far DoG has moved from its start: the paper's Figure 11, on our own runs."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from analysis.comparison import Comparison, by_protocol, protocol_title, reported
from analysis.figures.data import FigureData, steps_of
from analysis.figures.style import beside_names, head, looks, panel, styled, write_labels
from analysis.roles import is_reference_run


def distance_figures(data: FigureData) -> Iterator[tuple[str, Any]]:
    """A figure for each protocol with curves of DoG's default setting."""
    for protocol, comparisons in by_protocol(data.comparisons).items():
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
        known = default["run_id"][default["run_id"].isin(data.with_curves)]
        if len(known):
            lines.append((comparison, data.curves[data.curves["run_id"] == known.iloc[0]]))
    return lines


@styled
def draw_distance(curves: list[tuple[Comparison, pd.DataFrame]]) -> Any:
    """Figure 11: r̄_t by step, a line a problem."""
    comparisons = [comparison for comparison, _ in curves]
    figure, axes = beside_names(len(curves), 3.8)
    panel(
        axes,
        "step t (log scale)",
        r"distance from $x_0$ so far, $\bar{r}_t$ (log scale)",
        log_y=True,
    )
    labels = []
    for (comparison, curve), style in zip(curves, looks(len(curves)), strict=True):
        axes.plot(curve["step"], curve["rbar"], **style)
        labels.append((comparison.name, float(curve["rbar"].iloc[-1]), style))
    write_labels(axes, labels)
    what = f"{protocol_title(comparisons)}, {steps_of(comparisons)}"
    head(axes, f"How far DoG moves: {what}", "DoG's default setting, one seed a task and model")
    return figure
