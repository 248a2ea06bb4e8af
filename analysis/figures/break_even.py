"""Draws what tuning a learning rate gives by its cost, with DoG's error as a line across."""

from collections.abc import Iterator
from statistics import fmean
from typing import Any

import numpy as np

from analysis import text
from analysis.figures.data import Data, plural
from analysis.figures.style import (
    CURVES,
    REFERENCE_LOOK,
    RING,
    error_locator,
    error_unit,
    head,
    panel,
    styled,
    write_labels,
)
from analysis.selection import is_reference
from analysis.tables import Table
from runner import TUNING_SEED


def make(data: Data) -> Iterator[tuple[str, Any]]:
    """The figure of each problem on which learning rates were tried."""
    for table in data.tables:
        if table.break_even:
            yield f"break_even-{table.stem}", draw(table)


@styled
def draw(table: Table) -> Any:
    """Expected test error of the best of k rates by k, for each optimizer that has a grid."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    unit, scale = error_unit(table)
    figure = Figure(figsize=(7.4, 3.8))
    axes = figure.add_axes((0.085, 0.125, 0.6, 0.75))
    panel(axes, "learning rates tried, k", f"expected {unit}", log_x=False, log_y=True)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    cells = table.cells
    position = int(is_reference(cells).argmax())
    name, hours = cells["label"].iloc[position], text.duration(cells["hours"].iloc[position])
    dashes, colour = REFERENCE_LOOK
    style: Any = {"color": colour, "linestyle": dashes, "linewidth": 1.6}
    dog = scale * table.dog_error
    axes.axhline(dog, **style)
    labels = [(f"{name}, seed {TUNING_SEED}: 1 run, {hours}", dog, style)]
    if reported := table.errors[position]:
        mean, dotted = scale * fmean(reported.values()), {**style, "linestyle": ":", "linewidth": 1}
        axes.axhline(mean, **dotted)
        labels.append((f"{name}, mean of {plural(len(reported), 'seed')}", mean, dotted))
    names = cells.set_index("optimizer")["label"].to_dict()
    curves = table.break_even.items()
    for (optimizer, curve), (marker, line, shade) in zip(
        curves, CURVES * len(curves), strict=False
    ):
        errors = scale * curve.errors
        style = {"color": shade, "linestyle": line, "marker": marker, "linewidth": 1.3}
        axes.plot(np.arange(1, len(errors) + 1), errors, markersize=4.5, **style)
        if curve.runs:
            point = (curve.runs, errors[curve.runs - 1])
            axes.plot(*point, color=shade, **RING)
            cost = f"{plural(curve.runs, 'run')}, {text.duration(curve.hours[curve.runs - 1])}"
            place: Any = {"xytext": (4, 7), "textcoords": "offset points", "fontsize": 7}
            axes.annotate(cost, point, color=shade, **place)
        whole = f"{len(errors)} runs, {text.duration(curve.hours[-1])}"
        labels.append((f"{names[optimizer]}: {whole}", float(errors[-1]), style))
    axes.yaxis.set_major_locator(error_locator(*axes.get_ylim()))
    write_labels(axes, labels)
    title = f"What tuning costs: {table.title}, {table.problem.steps} steps"
    note = "of k rates of the grid, drawn at random, the best on validation · ring: as good as DoG"
    head(axes, title, note)
    return figure
