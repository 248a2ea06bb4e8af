"""Draws test scores by DoG's reps_rel and factor c: the paper's Figure 4, on our own runs."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from analysis.comparison import Comparison, by_protocol, protocol_title
from analysis.figures.data import FigureData, seeds_in_words, steps_of
from analysis.figures.style import (
    Label,
    draw_means,
    head_of_panels,
    looks,
    panel,
    plain,
    styled,
    write_labels,
)
from analysis.roles import untuned
from analysis.statistics import is_in_percent
from analysis.varied import VARIED, varied

# Fewer values make no line.
LEAST_VALUES = 3
AXES = {
    "reps_rel": r"initial step length reps_rel, $r_\epsilon$ (log scale)",
    "lr": "factor c (log scale)",
}
# By optimizer and key: the runs of each problem that has enough of them, with `value`.
Lines = dict[tuple[str, str], list[tuple[Comparison, pd.DataFrame]]]


def sensitivity_figures(data: FigureData) -> Iterator[tuple[str, Any]]:
    """A figure for each protocol in which reps_rel or c was varied alone."""
    for protocol, comparisons in by_protocol(data.comparisons).items():
        lines = _lines(data, comparisons)
        if lines:
            yield f"sensitivity-{protocol}", draw_sensitivity(lines)


def _lines(data: FigureData, comparisons: list[Comparison]) -> Lines:
    """What is drawn of the given problems, where a metric in percent can share an axis."""
    lines: Lines = {}
    for optimizer in untuned(pd.concat(data.runs_of(comparison) for comparison in comparisons)):
        for key in VARIED:
            for comparison in comparisons:
                runs = data.runs_of(comparison)
                runs = varied(runs[runs["optimizer"] == optimizer], key)
                if is_in_percent(comparison.problem) and runs["value"].nunique() >= LEAST_VALUES:
                    lines.setdefault((optimizer, key), []).append((comparison, runs))
    return lines


@styled
def draw_sensitivity(lines: Lines) -> Any:
    """The figure: a row an optimizer, left by reps_rel and right by c, a line a problem."""
    from matplotlib.figure import Figure

    by_stem = {each.stem: each for drawn in lines.values() for each, _ in drawn}
    styles = dict(zip(by_stem, looks(len(by_stem)), strict=True))
    comparisons = [*by_stem.values()]
    optimizers = list(dict.fromkeys(optimizer for optimizer, _ in lines))
    height = 3.0 * len(optimizers) + 0.5
    figure = Figure(figsize=(11.8, height))
    for row, optimizer in enumerate(optimizers):
        bottom = (3.0 * (len(optimizers) - 1 - row) + 0.5) / height
        labels: dict[str, Label] = {}
        axes = None
        for column, key in enumerate(VARIED):
            place = (0.05 + 0.34 * column, bottom, 0.305, 2.2 / height)
            drawn = lines.get((optimizer, key), [])
            if not drawn:
                continue
            axes = figure.add_axes(place, sharey=axes)
            panel(axes, AXES[key], "test score (%)" if column == 0 else "")
            axes.set_title(f"{drawn[0][1]['label'].iloc[0]}", loc="left", fontsize=9)
            for comparison, runs in drawn:
                style = styles[comparison.stem]
                last = draw_means(axes, comparison, runs, style)
                labels[comparison.stem] = (comparison.name, last, style)
            if key == "lr":  # within two decades: the values themselves
                values = sorted({value for _, runs in drawn for value in runs["value"]})
                axes.set_xticks(values, map(plain, values))
        write_labels(axes, list(labels.values()))
    what = f"{protocol_title(comparisons)}, {steps_of(comparisons)}"
    title = f"DoG's two settings: {what}"
    seeds = seeds_in_words(runs for drawn in lines.values() for _, runs in drawn)
    note = f"a line a task and model: mean over {seeds}, bars: their range; ring: the default"
    head_of_panels(figure, title, note)
    return figure
