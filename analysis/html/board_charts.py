"""The charts of a leaderboard: its score by cost, its intervals, its performance profile."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.comparison import Comparison
from analysis.figures.leaderboard import FARTHEST
from analysis.html.charts import (
    FRONT,
    MUTED,
    Chart,
    Spec,
    axis,
    chart_spec,
    layer,
    legend_of,
    line_encoding,
    looks_of,
    opacity,
    reference_line,
    tips,
)
from analysis.roles import in_order
from analysis.statistics import MARGIN, red_of_means
from analysis.tables.leaderboard import Leaderboard
from analysis.tables.models import Line
from analysis.tables.page import bounds, signed
from tasks.format import NONE

ALL = "all of them: interquartile mean"
# A RED in percent below this is drawn here: it would hide the rest.
FLOOR = -50
CUT = f"Values below −{-FLOOR} % are drawn there."
# The room for names beside an axis: less on a phone.
NARROW: Spec = {"expr": "containerSize()[0] < 480 ? 120 : 240"}


def pareto(board: Leaderboard) -> Chart:
    """Score against the cost of tuning."""
    frame = board.frame
    lines = pd.DataFrame(
        {
            "optimizer": frame["label"],
            "row": frame["row"],
            "runs": frame["runs"] / frame["tasks"],
            "red": (100 * frame["red_iqm"]).clip(lower=FLOOR),
            "exact": frame["red_iqm"].map(signed),
            "front": frame["pareto"],
        }
    ).sort_values("front")  # which is drawn upon the others
    title = "runs a problem, tuning included (log scale)"
    places = {
        "x": axis("runs", title, log=True, scale={"padding": 30}),
        "y": axis("red", "IQM of RED, % (above 0: better than DoG)", scale={"padding": 24}),
    }
    colour = {"condition": {"test": "datum.front", "value": FRONT}, "value": MUTED}
    legend = {"title": None, "orient": "bottom", "columns": 2}
    rows = {"field": "row", "type": "nominal", "legend": legend}
    runs = ("runs", "runs a problem", ".3~g")
    shown = tips("optimizer", "row", ("exact", "IQM of RED %"), runs)
    points = {**places, "color": colour, "opacity": opacity(), "shape": rows, "tooltip": shown}
    joined = {**places, "order": {"field": "runs", "type": "quantitative"}}
    names = {**places, "text": {"field": "optimizer"}, "color": colour}
    layers = [
        reference_line("y", 0),
        layer("line", joined, "datum.front", interpolate="step-after", color=FRONT),
        layer("point", points, zoomable=True, filled=True, size=55),
        layer("text", names, "datum.front", align="left", dx=7, dy=-7),
    ]
    front = ", ".join(in_order(frame["label"][frame["pareto"]]))
    return Chart(
        name="pareto",
        title="Score against the cost of tuning",
        note=f"The line joins the Pareto front: no other line has at least its score for at most "
        f"as many runs. {CUT}",
        description=f"A point for each line of the leaderboard. On the front: {front}.",
        spec=chart_spec(layers, lines, 340),
    )


def forest(board: Leaderboard) -> Chart:
    """RED of every line with its interval, over all problems or on one."""
    frame = board.frame
    keys = [*zip(frame["optimizer"], frame["row"], strict=True)]
    names = [f"{label}, {row}" for label, row in zip(frame["label"], frame["row"], strict=True)]
    name_of = dict(zip(keys, names, strict=True))
    columns = ["red", "low", "high"]
    over_all = frame[["red_iqm", "red_iqm_low", "red_iqm_high"]].set_axis(columns, axis=1)
    parts = [over_all.assign(line=names, problem=ALL)]
    for comparison in board.problems:
        rows: list[list[object]] = []
        for cell in comparison.cells:
            if cell.key in name_of:
                red = red_of_means(*Line(comparison, cell).errors_by_seed)
                interval = (np.nan, np.nan) if cell.is_reference else red.interval()
                rows.append([cell.red, *interval, name_of[cell.key]])
        found = pd.DataFrame(rows, columns=[*columns, "line"])
        parts.append(found.assign(problem=comparison.stem))
    lines = pd.concat(parts)
    lines["text"] = lines["red"].map(signed)
    # In words, as an end that is drawn at the edge may lie anywhere beyond, or nowhere.
    ends = zip(lines["low"], lines["high"], strict=True)
    lines["interval"] = [NONE if np.isnan(low) else bounds(low, high) for low, high in ends]
    lines[columns] = (100 * lines[columns]).clip(lower=FLOOR)
    y: Spec = {"field": "line", "type": "nominal", "title": None}
    y |= {"sort": {"field": "red", "order": "descending"}}
    y |= {"axis": {"labelLimit": NARROW, "grid": True}}
    shown = tips(("line", "optimizer"), ("text", "RED %"), ("interval", "95 % interval"))
    interval_of = {"y": y, "x": axis("low", ""), "x2": {"field": "high"}}
    points = {"x": axis("red", "RED, % (right of 0: better than DoG)"), "y": y, "tooltip": shown}
    here = "datum.problem === shown"
    layers = [
        layer("rule", interval_of, f"{here} && datum.low != null", strokeWidth=2, color=MUTED),
        layer("point", points, here, filled=True, size=45, color=FRONT, opacity=1),
        reference_line("x", 0, 100 * MARGIN),
    ]
    spec = chart_spec(layers, lines, 16 * len(names))
    spec["params"][1]["value"] = ALL
    return Chart(
        name="forest",
        title="RED of every line, with its 95 % interval",
        note=f"Dashed: DoG, and the margin of {100 * MARGIN:g} %. Over all problems for other "
        f"seeds; of one problem Fieller's interval over seeds. {CUT}",
        description="Relative error difference to DoG for each line, best first; the leaderboard "
        "and the tables of the problems hold the same numbers.",
        spec=spec,
        tall=True,
        choose="problems",
        choices=[ALL, *(each.stem for each in board.problems)],
    )


def profile(board: Leaderboard) -> Chart:
    """The performance profile: on what part of the problems each is so near the best."""
    labels, steps, shares = board.profile(FARTHEST)
    lines = pd.concat(
        pd.DataFrame({"optimizer": label, "factor": steps, "share": 100 * share})
        for label, share in zip(labels, shares, strict=True)
    )
    # Where a line stays level, its ends say all.
    of_line = lines.groupby("optimizer")["share"]
    level = lines["share"].eq(of_line.shift()) & lines["share"].eq(of_line.shift(-1))
    looks = looks_of(labels, reference_label(board.problems))
    encoding = line_encoding(
        looks,
        tips("optimizer", ("factor", "within", ".3~g"), ("share", "of problems, %", ".0f")),
        x=axis("factor", "error, as a multiple of the smallest (log scale)", log=True),
        y=axis("share", "part of the problems, %"),
    )
    layers = [layer("line", encoding, interpolate="step-after", strokeWidth=1.6)]
    return Chart(
        name="profile",
        title="Performance profile",
        note="How often an optimizer's mean error is within this factor of the smallest of any "
        "line. Higher and further left is better.",
        description="A rising line for each optimizer; the column near best of the leaderboard "
        f"holds its height at {1 + MARGIN:g}.",
        spec=chart_spec(layers, lines[~level], 300),
        legend=legend_of(looks),
    )


def reference_label(comparisons: Sequence[Comparison]) -> str:
    """The name of the optimizer that all others are compared with; "" if it was not run."""
    return next((each.reference.label for each in comparisons if each.reference is not None), "")
