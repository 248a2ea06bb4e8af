"""Draws what batch normalization does to DoG's start: the paper's Figure 9, on our own runs."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from analysis.figures.data import Data, seeds_in_words, stems, varied
from analysis.figures.style import (
    draw_means,
    head,
    looks,
    panel,
    ring_default,
    score,
    score_label,
    styled,
    write_labels,
)
from analysis.roles import REFERENCE
from analysis.tables import Table
from analysis.variants import settings

KEY = "model.batch_norm"
# A line: its label, the problem's table and DoG's runs by reps_rel.
Line = tuple[str, Table, pd.DataFrame]


def make(data: Data) -> Iterator[tuple[str, Any]]:
    """A figure for each network that was run with batch normalization frozen and trained."""
    found: list[tuple[str, Table, list[Line]]] = []
    for protocol, tables in data.by_protocol().items():
        for table in tables:
            frozen = settings(table.problem).get(KEY) == "frozen"
            lines = gather(data, table, tables) if frozen else []
            if len({settings(one.problem).get(KEY) for _, one, _ in lines} - {None}) == 2:
                problem = table.problem
                found.append(
                    (f"batch_norm-{problem.task}-{problem.model}-{protocol}", table, lines)
                )
    names = stems([(name, table) for name, table, _ in found])
    for stem, (_, _, lines) in zip(names, found, strict=True):
        yield stem, draw(lines)


def gather(data: Data, frozen: Table, tables: list[Table]) -> list[Line]:
    """The problem `frozen`, its like with trained statistics, and networks without any."""
    lines: list[Line] = []
    for table in tables:
        runs = data.of(table)
        runs = varied(runs[runs["role"] == REFERENCE], "reps_rel")
        if table.problem.task != frozen.problem.task or runs["value"].nunique() < 2:
            continue
        mode = settings(table.problem).get(KEY)
        if mode is None and _budget(table) == _budget(frozen):
            lines.append((f"{table.problem.model}: none", table, runs))
        elif mode is not None and _but_mode(table) == _but_mode(frozen):
            lines.append((f"{table.problem.model}: {WORDS[mode]}", table, runs))
    return lines


WORDS = {"frozen": "evaluation mode", "train": "batch statistics"}


def _but_mode(table: Table) -> dict[str, str]:
    return {**settings(table.problem), KEY: "", "model": table.problem.model}


def _budget(table: Table) -> dict[str, str]:
    own = settings(table.problem)
    return {key: value for key, value in own.items() if not key.startswith("model.")}


@styled
def draw(lines: list[Line]) -> Any:
    """Figure 9: DoG's test score by reps_rel, a line each way to normalize."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 3.8))
    axes = figure.add_axes((0.07, 0.125, 0.52, 0.75))
    panel(
        axes, r"DoG's initial movement reps_rel, $r_\epsilon$ (log scale)", score_label(lines[0][1])
    )
    labels = []
    for (label, table, runs), style in zip(lines, looks(len(lines)), strict=True):
        last = draw_means(axes, runs["value"], score(table, runs["test"]), style)
        ring_default(axes, table, runs, style)
        labels.append((label, last, style))
    write_labels(axes, labels)
    problem = lines[0][1].problem
    what = f"{problem.task} · {problem.protocol} v{problem.protocol_version}"
    title = f"DoG and batch normalization: {what}, {problem.steps} steps"
    seeds = seeds_in_words(runs for _, _, runs in lines)
    note = f"a line: mean over {seeds}, bars: their range; ring: the default"
    head(axes, title, note)
    return figure
