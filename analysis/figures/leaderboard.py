"""Draws a leaderboard: its score against the cost of tuning, and its performance profile."""

from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
import pandas as pd

from analysis.choice import CALIBRATED, DEFAULT, INSTANCE_TUNED, PORTFOLIO
from analysis.figures.data import FigureData
from analysis.figures.red import FLOOR
from analysis.figures.style import head, panel, spread, styled
from analysis.statistics import MARGIN
from analysis.tables.leaderboard import Leaderboard, leaderboards
from tasks.format import plural

MARKERS = {DEFAULT: "o", PORTFOLIO: "D", CALIBRATED: "s", INSTANCE_TUNED: "^"}
FRONT, OTHER = "#D55E00", "#555555"
# A line of small text, in inches.
LINE = 0.155
# Costs that differ by a smaller factor share a column of names.
APART = 2.5
# The largest factor of a performance profile, and how many shades its parts of the problems have.
FARTHEST, SHADES = 3.0, 5


def leaderboard_figures(data: FigureData) -> Iterator[tuple[str, Any]]:
    """Both figures of each leaderboard."""
    for board in leaderboards(data.comparisons):
        yield board.stem, draw_leaderboard(board)
        yield board.stem.replace("leaderboard", "profile"), draw_profile(board)


@styled
def draw_leaderboard(board: Leaderboard) -> Any:
    """Interquartile mean of RED by runs a problem, a point a line, the Pareto front joined."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    lines = board.frame.assign(
        cost=board.frame["runs"] / board.frame["tasks"],
        height=(100 * board.frame["red_iqm"]).clip(lower=FLOOR),
    )
    columns = _columns(lines)
    height = max(3.8, LINE * max(map(len, columns)) + 1.1)
    figure = Figure(figsize=(8.4, height))
    axes = figure.add_axes((0.085, 0.5 / height, 0.69, 1 - 1.0 / height))
    panel(axes, "runs a problem, tuning included (log scale)", "interquartile mean of RED, %")
    axes.set_xlim(0.85, max(2.0, 1.2 * lines["cost"].max()))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.axhline(0, color="#000000", linewidth=0.8)
    for row, marker in MARKERS.items():
        points = lines[lines["row"] == row]
        if len(points):
            colours = [FRONT if on else OTHER for on in points["pareto"]]
            style: Any = {"s": 20, "marker": marker}
            axes.scatter(points["cost"], points["height"], c=colours, zorder=3, **style)
            axes.scatter([], [], c=OTHER, label=row, **style)
    front = lines[lines["pareto"]].sort_values(["cost", "height"])
    axes.plot(front["cost"], front["height"], color=FRONT, linewidth=1.2, drawstyle="steps-post")
    for column in columns:
        _write_names(axes, column)
    axes.legend(loc="lower right", frameon=False, fontsize=8)
    over = plural(len(board.problems), "problem")
    note = f"orange: Pareto front · above 0: better than DoG · cut off at −{-FLOOR} %"
    head(axes, f"Leaderboard, {board.title}, {over}: score against the cost of tuning", note)
    return figure


def _columns(lines: pd.DataFrame) -> list[pd.DataFrame]:
    """The lines of which the costs are near each other."""
    ordered = lines.sort_values("cost")
    column = (ordered["cost"] > APART * ordered["cost"].shift(fill_value=np.inf)).cumsum()
    return [group for _, group in ordered.groupby(column)]


def _write_names(axes: Any, lines: pd.DataFrame) -> None:
    """Writes the names of points right of them all, clear of each other."""
    axes.get_ylim()  # brings the limits up to date, which transforms alone do not
    to_axes = axes.transScale + axes.transLimits
    points = to_axes.transform(lines[["cost", "height"]].to_numpy())
    height = axes.get_position().height * axes.figure.get_size_inches()[1]
    top = 0.97  # clear of the small print above the axes
    heights = top * spread(points[:, 1] / top, LINE / height / top)
    right = points[:, 0].max() + 0.035
    for line, point, y in zip(lines.to_dict("records"), points, heights, strict=True):
        colour = FRONT if line["pareto"] else OTHER
        name = line["label"] + (f", {CALIBRATED}" if line["row"] == CALIBRATED else "")
        axes.annotate(
            name, point, (right, y), "axes fraction", "axes fraction", color=colour, fontsize=7.5,
            va="center_baseline", annotation_clip=False,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.4, "relpos": (0, 0.5),
                        "shrinkA": 1, "shrinkB": 2},
        )  # fmt: skip


@styled
def draw_profile(board: Leaderboard) -> Any:
    """The performance profile: a bar an optimizer, darker where it is so near on more problems."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    names, steps, shares = board.profile(FARTHEST)
    rows = max(LINE * len(names), 1.1)  # room for the legend
    height = rows + 1.0
    figure = Figure(figsize=(7.4, height))
    axes = figure.add_axes((0.2, 0.5 / height, 0.62, rows / height))
    shade = colormaps["Greys"]
    for place, of_line in enumerate(shares[:, :-1]):
        for share, run in groupby(zip(of_line, steps, steps[1:], strict=False), itemgetter(0)):
            parts = [*run]
            left, right = parts[0][1], parts[-1][2]
            axes.barh(place, right - left, 0.8, left, color=shade(share), linewidth=0)
    panel(axes, "error, as a multiple of the smallest of any line (log scale)", "")
    axes.grid(visible=False)
    ticks = [1 + MARGIN, 1.2, 1.5, 2, FARTHEST]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_yticks(range(len(names)), names, fontsize=7.5)
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(1, FARTHEST)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.axvline(1 + MARGIN, color=FRONT, linewidth=0.8, linestyle="--")
    levels = np.linspace(0, 1, SHADES)
    patches = [Patch(facecolor=shade(level), edgecolor=OTHER, linewidth=0.3) for level in levels]
    axes.legend(
        patches, [f"{100 * level:.0f} %" for level in levels], title="of problems", fontsize=8,
        title_fontsize=8, loc="upper left", bbox_to_anchor=(1.02, 1), frameon=False,
    )  # fmt: skip
    over = plural(len(board.problems), "problem")
    note = (
        f"on what part of the problems the mean error is at most so large · dashed: {1 + MARGIN:g}"
    )
    head(axes, f"Performance profile, {board.title}, {over}", note)
    return figure
