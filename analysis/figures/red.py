"""Draws RED over a model's tasks: the paper's Figures 2, 3, 5, from our runs and from its own."""

from collections.abc import Iterator
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd

from analysis.choice import DEFAULT, INSTANCE_TUNED, MODEL_TUNED, TUNING_SEED, is_grid_run
from analysis.comparison import Comparison, by_protocol, protocol_title
from analysis.figures.data import FigureData, best_of_each_rate, steps_of
from analysis.figures.style import CURVES, LINE, NOTE, curve_looks, styled, tuning_free_looks
from analysis.kinds import KINDS, stem_of
from analysis.roles import TUNING_FREE, in_order
from analysis.tables.models import groups_of
from tasks.format import plural

HOWS = (MODEL_TUNED, INSTANCE_TUNED)
# Of each optimizer's bar, by its way of tuning: a print in black and white tells them apart.
HATCHES = {
    MODEL_TUNED: ["//", "xx", "||", "oo", "\\\\", "OO"],
    INSTANCE_TUNED: ["", "..", "--", "++", "**", "/."],
}
# Where there are more bars than a model's group can hold: the colour of each way of tuning.
BARS = 14
ROW_COLOURS = {MODEL_TUNED: "#56B4E9", INSTANCE_TUNED: "#0072B2", "": "#666666"}
# More names than this hide what they are written upon.
NAMES = 9
# A RED in percent below this says no more than that it is bad, and would hide the rest.
FLOOR = -100


def red_figures(data: FigureData) -> Iterator[tuple[str, Any]]:
    """Both figures of each protocol, the bars of each of `KINDS` apart."""
    for protocol, comparisons in by_protocol(data.comparisons).items():
        title = protocol_title(comparisons)
        cells = tuning_cells(data, comparisons)
        if cells["peak_lr"].notna().any():
            yield f"red_by_rate-{protocol}", _draw_our_rates(cells, title)
        for kind in KINDS:
            bars = tuned_cells([each for each in comparisons if each.kind == kind])
            if not bars.empty:
                yield f"red-{protocol}-{stem_of(kind)}", _draw_our_bars(bars, f"{kind}, {title}")


def tuning_cells(data: FigureData, comparisons: list[Comparison]) -> pd.DataFrame:
    """RED in percent of each task, optimizer and rate at the tuning seed, against DoG there.

    Columns: model (with the kind of task and the numbers of tasks and steps), optimizer (its
    label), peak_lr (nan for tuning-free ones) and red. What was not run on all of a model's tasks
    is left out: medians over different tasks cannot be compared.
    """
    parts = []
    for (_, _, budget, model), group in groups_of(comparisons):
        known = [comparison for comparison in group if np.isfinite(comparison.reference_error)]
        if not known:
            continue
        kind = " (probe)" if budget == "probe" else ""
        name = f"{model}{kind}, {plural(len(known), 'task')}, {steps_of(known)}"
        cells = pd.concat(_tuning_cells(data, comparison) for comparison in known).assign(
            model=name
        )
        tried = cells.groupby(["optimizer", "peak_lr"], dropna=False)["red"].transform("size")
        parts.append(cells[tried == len(known)])
    columns = ["model", "optimizer", "peak_lr", "red"]
    return pd.concat(parts)[columns] if parts else pd.DataFrame(columns=columns)


def _tuning_cells(data: FigureData, comparison: Comparison) -> pd.DataFrame:
    runs = data.runs_of(comparison)
    runs = runs[runs["seed"] == TUNING_SEED]
    dog = comparison.reference_error
    grid = best_of_each_rate(runs[is_grid_run(runs) & (runs["learning_rate"] > 0)])
    grid = grid.assign(peak_lr=grid["learning_rate"])
    free = runs[(runs["role"] == TUNING_FREE) & runs["opt_default"]].assign(peak_lr=np.nan)
    both = pd.concat([grid, free]) if len(free) else grid
    return both.assign(optimizer=both["label"], red=100 * (dog - both["error"]) / dog)


def tuned_cells(comparisons: list[Comparison]) -> pd.DataFrame:
    """RED in percent of seed means of each task by each way of tuning, and of tuning-free ones.

    Columns: model (with the numbers of tasks and steps), optimizer (its label), how (one of `HOWS`;
    "" for tuning-free ones) and red. A way of tuning that lacks some of a model's tasks is left
    out: its median would be over other tasks than that of its neighbours.
    """
    rows = []
    for (_, _, _, model), group in groups_of(comparisons):
        of_model = []
        known = [comparison for comparison in group if comparison.frame["red"].notna().any()]
        for comparison in known:
            cells = comparison.frame[comparison.frame["red"].notna()]
            is_free = (cells["role"] == TUNING_FREE) & (cells["row"] == DEFAULT)
            cells = cells[cells["row"].isin(HOWS) | is_free]
            how = cells["row"].where(~is_free, "")
            name = f"{model}\n{plural(len(known), 'task')}, {steps_of(known)}"
            named = cells.assign(model=name, optimizer=cells["label"], how=how)
            of_model.append(named.assign(red=100 * cells["red"]))
        if of_model:
            every = pd.concat(of_model)
            tasks = every.groupby(["optimizer", "how"])["red"].transform("size")
            rows.append(every[tasks == len(known)])
    columns = ["model", "optimizer", "how", "red"]
    return pd.concat(rows)[columns] if rows else pd.DataFrame(columns=columns)


# Of what there are medians over a model's tasks: each rate (nan: it has none), each way of tuning.
BY_RATE, BY_HOW = ["model", "optimizer", "peak_lr"], ["model", "optimizer", "how"]


def summary(cells: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Median, quartiles and number (`tasks`) of the REDs of each group, beside its columns.

    Quartiles are interpolated linearly.
    """
    frame = cells.groupby(by, dropna=False)["red"].agg(
        median="median", q1=lambda red: red.quantile(0.25), q3=lambda red: red.quantile(0.75),
        tasks="count",
    )  # fmt: skip
    return frame.reset_index()


def draw_by_rate(frame: pd.DataFrame, limits: tuple[float, float], **layout: Any) -> Any:
    """Draw Figure 2: median RED by peak learning rate, quartiles shaded, a panel a model.

    `frame` is the `summary` `BY_RATE`, in percent; `layout` is for `panels`.
    """
    figure, grid = panels(list(frame["model"].unique()), **layout)
    tuned, free = frame[frame["peak_lr"].notna()], frame[frame["peak_lr"].isna()]
    optimizers, looks = in_order(tuned["optimizer"]), tuning_free_looks(free["optimizer"])
    for model, axes in grid.items():
        of_model = tuned[tuned["model"] == model]
        styles = curve_looks(len(optimizers))
        for optimizer, (marker, line, colour) in zip(optimizers, styles, strict=True):
            part = of_model[of_model["optimizer"] == optimizer].sort_values("peak_lr")
            if part.empty:
                continue
            axes.plot(
                part["peak_lr"], part["median"], marker=marker, linestyle=line, color=colour,
                markersize=4, label=optimizer,
            )  # fmt: skip
            axes.fill_between(
                part["peak_lr"], part["q1"], part["q3"], color=colour, alpha=0.15, linewidth=0
            )
        across(axes, free[free["model"] == model].set_index("optimizer")["median"], looks)
        axes.set_ylim(limits)
    label(figure, grid, "peak learning rate", "median RED, %")
    return figure


def draw_bars(frame: pd.DataFrame, limits: tuple[float, float], title: str = "") -> Any:
    """Draw Figure 3: median RED with quartiles of each way of tuning, a group a model.

    `frame` has columns model, optimizer, how (one of `HOWS`, or "" for tuning-free ones), and
    median, q1, q3
    in percent.
    """
    from matplotlib.figure import Figure

    names = sorted(frame["model"].unique())
    pairs = set(zip(frame["optimizer"], frame["how"], strict=True))
    optimizers = in_order(frame["optimizer"][frame["how"] != ""])
    # Colour and hatch of each bar, in order.
    bars = {
        (optimizer, how): (colour, hatch)
        for how in HOWS
        for optimizer, (*_, colour), hatch in zip(
            optimizers, cycle(CURVES), cycle(HATCHES[how]), strict=False
        )
        if (optimizer, how) in pairs
    }
    looks = tuning_free_looks(optimizer for optimizer, how in pairs if how == "")
    bars |= {(optimizer, ""): (colour, "") for optimizer, (_, colour) in looks.items()}
    width = 0.8 / len(bars)
    figure = Figure(figsize=(9.2, 3.6))
    axes = figure.add_axes((0.07, 0.12, 0.72, 0.82 if not title else 0.76))
    for i, ((optimizer, how), (colour, hatch)) in enumerate(bars.items()):
        bar = frame[(frame["optimizer"] == optimizer) & (frame["how"] == how)]
        bar = bar.set_index("model").reindex(names)
        spread = np.abs(np.array([bar[end] - bar["median"] for end in ("q1", "q3")]))
        axes.bar(
            np.arange(len(names)) + (i - (len(bars) - 1) / 2) * width, bar["median"],
            width=width - 0.01, yerr=spread, color=colour, hatch=hatch, edgecolor="white",
            label=f"{optimizer} {how}".rstrip(), error_kw={"linewidth": 0.7},
        )  # fmt: skip
    axes.axhline(0, color="#000000", linewidth=0.8)
    axes.set_xticks(range(len(names)), names)
    axes.set_ylabel("median RED, % (above 0: better than DoG)")
    axes.set_ylim(limits)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=8)
    if title:
        axes.set_title(title, loc="left", fontsize=10, y=1, pad=17)
    return figure


def draw_rows(frame: pd.DataFrame, limits: tuple[float, float], title: str) -> Any:
    """What `draw_bars` draws, for many optimizers: a row each, the best first, a panel a model."""
    from matplotlib.figure import Figure

    names = sorted(frame["model"].unique())
    frame = frame.assign(name=frame["optimizer"] + (" " + frame["how"]).str.rstrip())
    order = frame.groupby("name")["median"].median().sort_values(ascending=False).index
    height = LINE * len(order) + 1.2
    width = 2.4 + 2.6 * len(names)
    figure = Figure(figsize=(width, height))
    first = None
    for column, model in enumerate(names):
        left = (2.2 + 2.6 * column) / width
        place = (left, 0.62 / height, 2.4 / width, LINE * len(order) / height)
        axes = figure.add_axes(place, sharey=first)
        rows = frame[frame["model"] == model].set_index("name").reindex(order)
        spread = np.abs(np.array([rows[end] - rows["median"] for end in ("q1", "q3")]))
        colours = [ROW_COLOURS.get(how, "#ffffff") for how in rows["how"]]
        axes.barh(
            range(len(order)), rows["median"], 0.75, xerr=spread, color=colours,
            error_kw={"linewidth": 0.7},
        )  # fmt: skip
        axes.axvline(0, color="#000000", linewidth=0.8)
        axes.set_xlim(limits)
        axes.set_xlabel(model, fontsize=8)
        axes.tick_params(axis="y", length=0, labelleft=first is None, labelsize=7.5)
        first = first or axes
    assert first is not None
    first.set_yticks(range(len(order)), order)
    first.set_ylim(len(order) - 0.4, -0.6)
    figure.text(0.1 / width, 1 - 0.2 / height, title, fontsize=10)
    return figure


@styled
def _draw_our_rates(cells: pd.DataFrame, title: str) -> Any:
    frame = summary(cells, BY_RATE)
    columns = min(3, max(2, frame["model"].nunique()))
    head = f"RED by learning rate, {title}: median and quartiles over tasks, seed {TUNING_SEED}"
    layout = {"columns": columns, "width": 3.6, "height": 2.4, "title": head}
    figure = draw_by_rate(frame, _limits(frame[["q1", "q3"]]), **layout)
    width, height = figure.get_size_inches()
    unit = "median RED, %\n(above 0: better than DoG)"
    figure.supylabel(unit, x=0.25 / width, fontsize=9, ha="center")
    figure.subplots_adjust(left=0.85 / width, bottom=0.55 / height, top=1 - 0.65 / height)
    return figure


@styled
def _draw_our_bars(cells: pd.DataFrame, title: str) -> Any:
    bars = summary(cells, BY_HOW)
    head = f"RED of tuned optimizers, {title}: median and quartiles over a model's tasks"
    draw = draw_bars if len(bars[["optimizer", "how"]].drop_duplicates()) <= BARS else draw_rows
    figure = draw(bars, _limits(bars[["q1", "q3"]]), head)
    note = f"RED of seed means, reported seeds; cut off at −{-FLOOR} %"
    figure.axes[0].text(0, 1.015, note, transform=figure.axes[0].transAxes, **NOTE)
    return figure


def _limits(ends: pd.DataFrame) -> tuple[float, float]:
    low, high = max(FLOOR, np.nanmin(ends)), max(0, np.nanmax(ends))
    room = 0.1 * (high - low) + 1
    return min(low, 0) - room, high + room


def panels(
    titles: list[str], columns: int, width: float = 2.3, height: float = 1.9, title: str = ""
) -> tuple[Any, dict[str, Any]]:
    """A grid of panels, so many inches large, with log scales of x and a line at 0, by titles."""
    from matplotlib.figure import Figure

    rows = -(-len(titles) // columns)
    below = height * rows + 0.5
    whole = below + (0.3 if title else 0)
    figure = Figure(figsize=(width * columns, whole))
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    figure.subplots_adjust(
        left=0.45 / columns, right=0.99, bottom=0.45 / (rows + 0.3) * (below / whole),
        top=(1 - 0.3 / (rows + 0.3)) * (below / whole), wspace=0.25, hspace=0.4,
    )  # fmt: skip
    for axes in grid[len(titles) :]:
        axes.set_visible(False)
    for name, axes in zip(titles, grid, strict=False):
        axes.set_xscale("log")
        axes.set_title(name, fontsize=8)
        axes.tick_params(labelsize=7)
        axes.minorticks_off()  # a megabyte of them, in 78 panels
        axes.axhline(0, color="#000000", linewidth=0.8)
    if title:
        figure.suptitle(title, x=0.02, y=1 - 0.1 / whole, ha="left", va="top", fontsize=10)
    return figure, dict(zip(titles, grid, strict=False))


def across(axes: Any, red: pd.Series, looks: dict[str, tuple[Any, str]]) -> None:
    """Draw the RED of each tuning-free optimizer, indexed by its label, as a line across."""
    for name in in_order(red.index):
        height, (line, colour) = red[name], looks[name]
        axes.axhline(height, color=colour, linestyle=line, linewidth=1, label=name)


def label(figure: Any, grid: dict[str, Any], x: str, y: str) -> None:
    """Say what the axes of all panels are, and in the first one whose their lines are."""
    figure.supxlabel(x, fontsize=9)
    figure.supylabel(f"{y} (above 0: better than DoG)", fontsize=9)
    lines: dict[str, Any] = {}
    for axes in grid.values():
        for line, name in zip(*axes.get_legend_handles_labels(), strict=True):
            lines.setdefault(name, line)
    drawn = (lines.values(), lines.keys())
    if len(lines) <= NAMES:
        next(iter(grid.values())).legend(*drawn, fontsize=6, frameon=False, loc="lower center")
        return
    width, height = figure.get_size_inches()
    right = figure.subplotpars.right * width
    figure.set_size_inches(width + 1.9, max(height, 0.15 * len(lines) + 0.2))
    figure.subplots_adjust(right=right / (width + 1.9))
    place = ((right + 0.05) / (width + 1.9), 0.5)
    figure.legend(*drawn, fontsize=7, frameon=False, loc="center left", bbox_to_anchor=place)
