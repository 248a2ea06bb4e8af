"""Draws how a small start grows: r̄ by step, beside what the cosine of gradients predicts."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from analysis.comparison import Comparison, by_protocol
from analysis.figures.data import FigureData, but_steps
from analysis.figures.style import beside_names, head, looks, panel, styled, write_labels
from analysis.roles import REFERENCE
from analysis.varied import varied

# Larger starts leave the neighbourhood of x_0, in which gradients hardly change, too soon.
LARGEST_START = 1e-6
COSINES = (0.0, 0.03, 0.1, 0.3, 1.0)


def growth_figures(data: FigureData) -> Iterator[tuple[str, Any]]:
    """A figure for each protocol with curves of DoG from a small start."""
    for protocol, comparisons in by_protocol(data.comparisons).items():
        curves = _small_starts(data, comparisons)
        if curves:
            yield f"growth-{protocol}", draw_growth(curves)


def predicted(cosine: float, steps: int) -> np.ndarray:
    """r̄_t / r_ε of DoG by step, [steps], where two gradients always have this cosine.

    All gradients have one norm. With S = Σ η and W = Σ η² (in units of r_ε and that norm),
    ‖x_t − x_0‖² = cosine · S² + (1 − cosine) · W, and η_t = r̄_t / √t.
    """
    sums, walk2, rbar, found = 0.0, 0.0, 1.0, []
    for step in range(1, steps + 1):
        rbar = max(rbar, (cosine * sums**2 + (1 - cosine) * walk2) ** 0.5)
        found.append(rbar)
        eta = rbar / step**0.5
        sums, walk2 = sums + eta, walk2 + eta**2
    return np.array(found)


def _small_starts(
    data: FigureData, comparisons: list[Comparison]
) -> list[tuple[Comparison, pd.DataFrame]]:
    """Of each problem the first seed's curve from the smallest `reps_rel` that was run.

    Of a task and model that were run with several numbers of steps: the most steps.
    """
    found: dict[tuple, tuple[Comparison, pd.DataFrame]] = {}
    for comparison in sorted(comparisons, key=lambda each: -int(each.problem.steps)):
        runs = data.runs_of(comparison)
        runs = varied(runs[runs["role"] == REFERENCE], "reps_rel")
        runs = runs[runs["value"] <= LARGEST_START].sort_values(["value", "seed"])
        runs = runs[runs["run_id"].isin(data.with_curves)]
        if len(runs):
            curve = data.curves[data.curves["run_id"] == runs["run_id"].iloc[0]]
            found.setdefault(but_steps(comparison), (comparison, curve))
    return list(found.values())


@styled
def draw_growth(curves: list[tuple[Comparison, pd.DataFrame]]) -> Any:
    """The figure: r̄_t / r_ε by step, a line a problem, and predictions in grey."""
    figure, axes = beside_names(len(curves) + len(COSINES), 4.2)
    panel(axes, "step t (log scale)", r"$\bar{r}_t / r_\epsilon$ (log scale)", log_y=True)
    steps = max(int(curve["step"].max()) for _, curve in curves)
    highest = max(float((curve["rbar"] / curve["rbar"].iloc[0]).max()) for _, curve in curves)
    labels = []
    for cosine in COSINES:
        grown = predicted(cosine, steps)
        grown = grown[grown <= 30 * highest]
        style: dict[str, Any] = {"color": "0.6", "linewidth": 0.9, "linestyle": "-"}
        axes.plot(np.arange(1, len(grown) + 1), grown, **style)
        labels.append((f"predicted, cosine {cosine:g}", float(grown[-1]), style))
    for (comparison, curve), style in zip(curves, looks(len(curves)), strict=True):
        grown = curve["rbar"] / curve["rbar"].iloc[0]
        axes.plot(curve["step"], grown, **style)
        labels.append((comparison.name, float(grown.iloc[-1]), style))
    write_labels(axes, labels)
    note = "DoG from its smallest start, one seed a task and model; grey: all gradients alike"
    head(axes, "How a small start grows", note)
    return figure
