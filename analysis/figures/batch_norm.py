"""Draws what batch normalization does to DoG's start: the paper's Figure 9, on our own runs."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from analysis.comparison import Comparison, by_protocol, protocol_title
from analysis.figures.data import FigureData, seeds_in_words
from analysis.figures.style import (
    draw_means,
    head,
    looks,
    panel,
    score_label,
    styled,
    write_labels,
)
from analysis.roles import REFERENCE
from analysis.variants import settings
from analysis.varied import varied

KEY = "model.batch_norm"
# A line: its label, the problem's comparison and DoG's runs by reps_rel.
Line = tuple[str, Comparison, pd.DataFrame]


def batch_norm_figures(data: FigureData) -> Iterator[tuple[str, Any]]:
    """A figure for each network that was run with batch normalization frozen and trained."""
    for stem, lines in batch_norm_lines(data):
        yield stem, draw_batch_norm(lines)


def batch_norm_lines(data: FigureData) -> Iterator[tuple[str, list[Line]]]:
    """The lines of each such figure, with the stem of its file."""
    for comparisons in by_protocol(data.comparisons).values():
        for comparison in comparisons:
            frozen = settings(comparison.problem).get(KEY) == "frozen"
            lines = _lines(data, comparison, comparisons) if frozen else []
            if len({settings(other.problem).get(KEY) for _, other, _ in lines} - {None}) == 2:
                yield f"batch_norm-{comparison.stem}", lines


def _lines(data: FigureData, frozen: Comparison, comparisons: list[Comparison]) -> list[Line]:
    """The problem `frozen`, its like with trained statistics, and networks without any."""
    lines: list[Line] = []
    for comparison in comparisons:
        runs = data.runs_of(comparison)
        runs = varied(runs[runs["role"] == REFERENCE], "reps_rel")
        if comparison.problem.task != frozen.problem.task or runs["value"].nunique() < 2:
            continue
        mode = settings(comparison.problem).get(KEY)
        without = f"{comparison.problem.model}: none"
        if mode is None and _budget(comparison) == _budget(frozen):
            # Of a network's variants, as with adapters, the first: two lines of one name are one.
            if without not in {label for label, _, _ in lines}:
                lines.append((without, comparison, runs))
        elif mode is not None and _but_mode(comparison) == _but_mode(frozen):
            lines.append((f"{comparison.problem.model}: {WORDS[mode]}", comparison, runs))
    return lines


WORDS = {"frozen": "frozen statistics", "train": "trained statistics"}


def _but_mode(comparison: Comparison) -> dict[str, str]:
    return {**settings(comparison.problem), KEY: "", "model": comparison.problem.model}


def _budget(comparison: Comparison) -> dict[str, str]:
    chosen = settings(comparison.problem).items()
    return {key: value for key, value in chosen if not key.startswith("model.")}


@styled
def draw_batch_norm(lines: list[Line]) -> Any:
    """Figure 9: DoG's test score by reps_rel, a line each way to normalize."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 3.8))
    axes = figure.add_axes((0.07, 0.125, 0.52, 0.75))
    panel(
        axes,
        r"DoG's initial step length reps_rel, $r_\epsilon$ (log scale)",
        score_label(lines[0][1]),
    )
    labels = []
    for (label, comparison, runs), style in zip(lines, looks(len(lines)), strict=True):
        labels.append((label, draw_means(axes, comparison, runs, style), style))
    write_labels(axes, labels)
    problem = lines[0][1].problem
    what = f"{problem.task} · {protocol_title([lines[0][1]])}"
    title = f"DoG and batch normalization: {what}, {problem.steps} steps"
    seeds = seeds_in_words(runs for _, _, runs in lines)
    note = f"a line: mean over {seeds}, bars: their range; ring: the default"
    head(axes, title, note)
    return figure
