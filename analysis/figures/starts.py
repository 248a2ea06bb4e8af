"""Draws test scores by the start of every learning-rate-free method."""

import json
import math
from collections.abc import Iterator
from typing import Any

import pandas as pd

from analysis.comparison import Comparison, by_protocol, reported
from analysis.figures.data import FigureData, seeds_in_words, steps_of
from analysis.figures.style import (
    Label,
    draw_means,
    head_of_panels,
    looks,
    panel,
    score,
    score_label,
    styled,
    write_labels,
)
from analysis.roles import default_of, in_yaml, start_of, untuned

# Fewer starts make no line, and fewer methods no figure.
LEAST_STARTS = 5
LEAST_METHODS = 3
MOST_PANELS = 6
COLUMNS = 2
# By the label of a method: its runs, with the start as `value`.
Moved = dict[str, pd.DataFrame]


def starts_figures(data: FigureData) -> Iterator[tuple[str, Any]]:
    """A figure of each protocol with problems on which the starts of several methods were moved."""
    for protocol, comparisons in by_protocol(data.comparisons).items():
        lines = [(comparison, moved_starts(data.runs_of(comparison))) for comparison in comparisons]
        lines = [line for line in lines if len(line[1]) >= LEAST_METHODS]
        lines.sort(key=lambda line: -len(line[1]))
        if lines:
            yield f"starts-{protocol}", draw_starts(data, lines[:MOST_PANELS])


def moved_starts(runs: pd.DataFrame) -> Moved:
    """The reported runs in which nothing but the start was moved."""
    runs = reported(runs)
    found = {}
    for optimizer, label in untuned(runs).items():
        key = start_of(optimizer)
        own = runs[runs["optimizer"] == optimizer]
        own = own.assign(value=[_start(run, key) for run in own.to_dict("records")])
        own = own.dropna(subset="value").sort_values(["value", "seed"])
        if own["value"].nunique() >= LEAST_STARTS:
            found[label] = own
    return found


def _start(run: dict[Any, Any], key: str | None) -> float:
    """The start of a run whose other settings are the defaults; else NaN."""
    changed = json.loads(run["overrides"])
    if key is None or not set(changed) <= {key}:
        return math.nan
    return changed.get(key, default_of(run["optimizer"], key, run["reps_rel"]))


def starts_found(runs: pd.DataFrame) -> dict[str, pd.Series]:
    """The reported test scores of each method that finds its start by itself, by its label."""
    runs = reported(runs[runs["opt_default"]])
    return {
        label: runs["test"][runs["optimizer"] == optimizer]
        for optimizer, label in untuned(runs).items()
        if in_yaml(optimizer, "finds_start_of") and start_of(optimizer) is None
    }


@styled
def draw_starts(data: FigureData, lines: list[tuple[Comparison, Moved]]) -> Any:
    """The figure: a panel a problem, a line a method; methods that find their start are level."""
    from matplotlib.figure import Figure

    comparisons = [comparison for comparison, _ in lines]
    methods = sorted({label for _, found in lines for label in found})
    styles = dict(zip(methods, looks(len(methods)), strict=True))
    rows = -(-len(lines) // COLUMNS)
    height = 3.3 * rows + 0.5
    figure = Figure(figsize=(12.6, height))
    for i, (comparison, found) in enumerate(lines):
        bottom = (3.3 * (rows - 1 - i // COLUMNS) + 0.55) / height
        axes = figure.add_axes((0.05 + 0.5 * (i % COLUMNS), bottom, 0.33, 2.3 / height))
        panel(
            axes,
            "start: r_ε, d_0, ε or s_init, as each method has it (log scale)",
            score_label(comparison),
        )
        axes.set_title(comparison.name, loc="left", fontsize=9)
        labels: list[Label] = []
        for label, runs in found.items():
            last = draw_means(axes, comparison, runs, styles[label])
            labels.append((label, last, styles[label]))
        for label, test in starts_found(data.runs_of(comparison)).items():
            level = score(comparison, test).mean()
            style: dict[str, Any] = {
                "color": "black",
                "linewidth": 1.0,
                "linestyle": (0, (1, 1 + len(label))),
            }
            axes.axhline(level, **style)
            labels.append((label, level, style))
        write_labels(axes, labels)
    title = f"The start of learning-rate-free methods: {steps_of(comparisons)}"
    seeds = seeds_in_words(runs for _, found in lines for runs in found.values())
    note = f"mean over {seeds}, bars: their range; level lines: methods that find their start"
    head_of_panels(figure, title, note)
    return figure
