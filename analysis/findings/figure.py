"""Draws the README's figure: each method's RED against DoG on each problem, and their median."""

from typing import Any

import numpy as np

from analysis.figures.red import FLOOR
from analysis.figures.style import head, panel, styled
from analysis.findings import headline
from analysis.findings.archived import DOG, Archived
from analysis.kinds import KINDS
from analysis.statistics import MARGIN
from tasks.format import plural

POINT, MEDIAN = "#56B4E9", "#D55E00"
# Half a row, in which a line's points are spread.
SPREAD = 0.28
# A panel's part of the figure.
WIDTH = 0.4
NOTES = (
    "blue: problems · orange: median, for other seeds (thick) and tasks (thin)",
    "right of 0: better than DoG · dashed: the margin of the verdicts",
)


@styled
def draw(archived: Archived) -> Any:
    """A panel for each kind of problems, a row for each method of the README's table."""
    from matplotlib.figure import Figure

    lines = headline.lines(archived)
    height = 0.3 * len(lines) + 1.1
    figure = Figure(figsize=(8.4, height))
    for place, kind in enumerate(KINDS):
        left = 0.13 + place * (WIDTH + 0.05)
        axes = figure.add_axes((left, 0.55 / height, WIDTH, 1 - 1.05 / height))
        panel(axes, f"RED against DoG, % (cut off at −{-FLOOR})", "", log_x=False)
        axes.axvline(0, color="#000000", linewidth=0.8)
        axes.axvline(100 * MARGIN, color="#000000", linewidth=0.6, linestyle="--")
        most = 0
        for row, line in enumerate(lines):
            found = archived.evidence(kind, (DOG, line))
            reds = [max(100 * pair.red.estimate, FLOOR) for pair in found.pairs]
            most = max(most, len(reds))
            if not reds:
                continue
            rows = [row + SPREAD * (2 * i / max(1, len(reds) - 1) - 1) for i in range(len(reds))]
            axes.plot(sorted(reds), rows, "o", color=POINT, markersize=3.5)
            over = found.over_problems
            for interval, width in ((over.on_these_tasks, 3), (found.for_other_tasks, 1)):
                ends = np.clip([100 * end for end in interval], FLOOR, None)
                axes.plot(ends, [row, row], color=MEDIAN, linewidth=width)
            axes.plot([100 * over.estimate], [row], "D", color=MEDIAN, markersize=5)
        axes.set_ylim(len(lines) - 0.5, -0.5)
        names = [headline.name_of(archived, line) for line in lines] if not place else []
        axes.set_yticks(range(len(lines)), names or [""] * len(lines))
        axes.tick_params(axis="y", length=0)
        head(axes, f"{kind}, {plural(most, 'problem')}", NOTES[place])
    return figure
