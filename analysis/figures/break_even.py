"""Draws what tuning a learning rate gives by its cost, with DoG's error as a line across."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from analysis.comparison import Comparison, labels_of
from analysis.figures.data import FigureData
from analysis.figures.style import (
    FEW,
    REFERENCE_LOOK,
    RING,
    beside_labels,
    curve_looks,
    error_locator,
    error_unit,
    head,
    panel,
    styled,
    write_labels,
)
from runner import TUNING_SEED
from tasks.format import duration, plural


def break_even_figures(data: FigureData) -> Iterator[tuple[str, Any]]:
    """The figure of each problem on which learning rates were tried."""
    for comparison in data.comparisons:
        if comparison.break_even:
            yield f"break_even-{comparison.stem}", draw_break_even(comparison)


@styled
def draw_break_even(comparison: Comparison) -> Any:
    """Expected test error of the best of k rates by k, for each optimizer that has a grid."""
    from matplotlib.ticker import MaxNLocator

    unit, scale = error_unit(comparison)
    known = labels_of([comparison])
    names = {
        optimizer: f"{known[optimizer]}: {len(curve.errors)} runs, "
        f"{duration(3600 * curve.hours[-1])}"
        for optimizer, curve in comparison.break_even.items()
    }
    figure, axes = beside_labels(names.values(), (0.085, 0.125, 0.6, 0.75))
    panel(axes, "learning rates tried, k", f"expected {unit}", log_x=False, log_y=True)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    reference = comparison.reference
    assert reference is not None  # else there is no break-even
    name, time = reference.label, duration(3600 * reference.hours)
    dashes, colour = REFERENCE_LOOK
    style: Any = {"color": colour, "linestyle": dashes, "linewidth": 1.6}
    error = scale * comparison.reference_error
    axes.axhline(error, **style)
    labels = [(f"{name}, seed {TUNING_SEED}: 1 run, {time}", error, style)]
    if reference.errors:
        mean, dotted = (
            scale * reference.error,
            {**style, "linestyle": ":", "linewidth": 1},
        )
        axes.axhline(mean, **dotted)
        labels.append((f"{name}, mean of {plural(len(reference.errors), 'seed')}", mean, dotted))
    curves = comparison.break_even.items()
    for (optimizer, curve), (marker, line, shade) in zip(
        curves, curve_looks(len(curves)), strict=True
    ):
        errors = scale * curve.errors
        style = {"color": shade, "linestyle": line, "marker": marker, "linewidth": 1.3}
        axes.plot(np.arange(1, len(errors) + 1), errors, markersize=4.5, **style)
        if curve.runs:
            point = (curve.runs, errors[curve.runs - 1])
            axes.plot(*point, color=shade, **RING)
        if curve.runs and len(curves) <= FEW:
            cost = f"{plural(curve.runs, 'run')}, {duration(3600 * curve.hours[curve.runs - 1])}"
            place: Any = {"xytext": (4, 7), "textcoords": "offset points", "fontsize": 7}
            axes.annotate(cost, point, color=shade, **place)
        labels.append((names[optimizer], float(errors[-1]), style))
    axes.yaxis.set_major_locator(error_locator(*axes.get_ylim()))
    write_labels(axes, labels)
    title = f"What tuning costs: {comparison.title}, {comparison.problem.steps} steps"
    note = "of k rates of the grid, drawn at random, the best on validation · ring: as good as DoG"
    head(axes, title, note)
    return figure
