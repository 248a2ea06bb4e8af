"""Draws test error against learning rate, with DoG's error as a line across: a figure a problem."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.records import write_if_changed
from analysis.selection import DOG, TUNING_SEED, is_grid_run, newest, validation_score
from analysis.tables import MADE_BY, Table, remove_stale, reported, scored

# Each optimizer has its own marker and dashes, so that a print in black and white can be read.
# Colours: Okabe and Ito's, told apart by the colour-blind.
CURVES = [
    ("o", "-", "#0072B2"),
    ("s", "--", "#D55E00"),
    ("^", "-.", "#009E73"),
    ("D", (0, (1, 1)), "#CC79A7"),
    ("v", (0, (5, 1, 1, 1, 1, 1)), "#56B4E9"),
    ("P", (0, (8, 2)), "#E69F00"),
]
ACROSS = {DOG: ("-", "#000000"), "ldog": ((0, (6, 2)), "#666666")}

_STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    # Text as paths looks the same wherever it is shown; the salt makes ids the same every time.
    "svg.fonttype": "path",
    "svg.hashsalt": "dog-bench",
}


# What is drawn; few columns are faster to filter.
_RUN = ["optimizer", "label", "opt_default", "overrides", "grid", "seed", "learning_rate", "error"]
_RUN += ["validation_last", "validation_averaged", "higher_is_better", "test_majority"]
_RUN += ["test_examples"]


@dataclass(frozen=True)
class Curve:
    """A tuned optimizer: error by learning rate, of shape (rates,) each, in the unit drawn."""

    label: str
    rates: np.ndarray
    errors: np.ndarray
    reported_rates: np.ndarray
    reported_errors: np.ndarray


@dataclass(frozen=True)
class Across:
    """An optimizer without a rate to tune: its mean error, and the range over its seeds."""

    label: str
    optimizer: str
    mean: float
    low: float
    high: float


def write(tables: list[Table], frame: pd.DataFrame, folder: Path) -> dict[str, Path]:
    """Draws a figure for each table that has tuning runs; returns their paths by the table's stem.

    The same records give the same bytes. Figures of ours that are no longer made are removed.
    """
    current = newest(frame)
    paths = {}
    for table in tables:
        runs = current[current["problem_id"] == table.problem.problem_id]
        figure = draw(table, runs)
        if figure is not None:
            paths[table.stem] = folder / f"{table.stem}.svg"
            write_if_changed(paths[table.stem], svg(figure))
    remove_stale(folder.glob("*.svg"), {path.name for path in paths.values()}, _MARK)
    return paths


_MARK = f"<!-- {MADE_BY} -->"


def svg(figure: Any, made_by: str = MADE_BY) -> str:
    """The figure as SVG, the same bytes every time, with a mark that says what made it."""
    import io

    from matplotlib import rc_context

    with rc_context(_STYLE):
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    declaration, rest = file.getvalue().split("?>", 1)
    return f"{declaration}?>\n<!-- {made_by} -->{rest}"


def draw(table: Table, runs: pd.DataFrame) -> Any:
    """The figure of a problem's runs, or None where no learning rate was tried."""
    percent = bool(table.problem.higher_is_better)
    runs = scored(runs[runs["status"] != "failed"])[_RUN]
    # A perfect score has no place on a log axis: it is drawn as half an error.
    least = 0.5 / runs["test_examples"].astype("float64")
    runs["error"] = runs["error"].clip(lower=least) * (100 if percent else 1)
    curves, lines = _curves(runs), _lines(runs)
    if not curves:
        return None
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure = Figure(figsize=(7.4, 3.8))
        # Fixed margins, the right one for the labels: an automatic layout draws everything twice.
        axes = figure.add_axes((0.08, 0.125, 0.66, 0.75))
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_ylim(_limits(curves, lines))
        labels = [_draw_across(axes, line) for line in lines]
        for curve, style in zip(curves, CURVES * len(curves), strict=False):
            labels.append(_draw_curve(axes, curve, style))
        labels += _draw_majority(axes, runs, percent)
        _finish(axes, table, percent)
        _write_labels(axes, labels)
    return figure


def _curves(runs: pd.DataFrame) -> list[Curve]:
    curves = []
    runs = runs[is_grid_run(runs) & (runs["learning_rate"] > 0)]
    for _, group in runs.groupby("optimizer"):
        tuning = group[group["seed"] == TUNING_SEED]
        if tuning.empty:
            continue
        # Where the grid has other keys too, the best of each rate by validation.
        gain = validation_score(tuning).where(tuning["higher_is_better"], -validation_score(tuning))
        best = tuning.loc[gain.groupby(tuning["learning_rate"]).idxmax()]
        seeds = reported(group)
        curves.append(
            Curve(
                str(group["label"].iloc[0]),
                best["learning_rate"].to_numpy(),
                best["error"].to_numpy(),
                seeds["learning_rate"].to_numpy(),
                seeds["error"].to_numpy(),
            )
        )
    return curves


def _lines(runs: pd.DataFrame) -> list[Across]:
    lines = []
    for optimizer in ACROSS:
        default = runs[(runs["optimizer"] == optimizer) & runs["opt_default"]]
        # Before any reported run there is the tuning seed's.
        default = reported(default) if len(reported(default)) else default
        if len(default):
            errors, label = default["error"], str(default["label"].iloc[0])
            line = Across(label, optimizer, errors.mean(), errors.min(), errors.max())
            lines.append(line)
    return lines


def _limits(curves: list[Curve], lines: list[Across]) -> tuple[float, float]:
    """The range of all errors drawn and some room around it, in equal proportions."""
    errors = [[line.low, line.high] for line in lines]
    errors += [[*curve.errors, *curve.reported_errors] for curve in curves]
    low, high = min(map(min, errors)), max(map(max, errors))
    room = max((high / low) ** 0.06, 1.02)
    return low / room, high * room


# A label is what stands at the right: its text, its height in data units, and how to draw it.
Label = tuple[str, float, dict[str, Any]]


def _draw_across(axes: Any, line: Across) -> Label:
    dashes, colour = ACROSS[line.optimizer]
    style = {"color": colour, "linestyle": dashes, "linewidth": 1.6}
    axes.axhline(line.mean, zorder=2, **style)
    if line.high > line.low:
        axes.axhspan(line.low, line.high, color=colour, alpha=0.13, linewidth=0, zorder=1)
    return line.label, line.mean, style


def _draw_curve(axes: Any, curve: Curve, look: tuple) -> Label:
    marker, dashes, colour = look
    style = {"color": colour, "linestyle": dashes, "linewidth": 1.3, "marker": marker}
    style |= {"markersize": 5.5, "markeredgecolor": "white", "markeredgewidth": 0.5}
    axes.plot(curve.rates, curve.errors, zorder=4, **style)
    hollow = {"markerfacecolor": "white", "markeredgecolor": colour, "markeredgewidth": 0.7}
    axes.plot(
        curve.reported_rates,
        curve.reported_errors,
        **{"linestyle": "none", "marker": marker, "markersize": 3, "zorder": 3, **hollow},
    )
    return curve.label, float(curve.errors[-1]), style


def _draw_majority(axes: Any, runs: pd.DataFrame, percent: bool) -> list[Label]:
    majority = runs["test_majority"].dropna()
    if majority.empty or not percent:
        return []
    error = 100 * (1 - majority.iloc[0])
    low, high = axes.get_ylim()
    if not low < error < high:
        return []
    style = {"color": "#444444", "linestyle": (0, (1, 2)), "linewidth": 0.9}
    axes.axhline(error, zorder=1, **style)
    return [("majority class", error, style)]


def _finish(axes: Any, table: Table, percent: bool) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

    low, high = axes.get_ylim()
    wide = high / low > 4
    locator = LogLocator(subs=(1, 2, 3, 5, 7)) if wide else MaxNLocator(6, steps=[1, 2, 5, 10])
    axes.yaxis.set_major_locator(locator)
    axes.xaxis.set_major_locator(LogLocator())
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_locator(NullLocator())
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel("learning rate (log scale)")
    unit = "test error (%, log scale)" if percent else f"test {table.problem.metric} (log scale)"
    axes.set_ylabel(unit)
    axes.set_title(f"{table.title}, {table.problem.steps} steps", loc="left", fontsize=10, pad=17)
    note = f"joined: seed {TUNING_SEED}, used for tuning · small: reported seeds"
    axes.text(0, 1.015, note, transform=axes.transAxes, fontsize=7, color="#555555")


def _write_labels(axes: Any, labels: list[Label]) -> None:
    """Writes each label right of the axes, beside a piece of its line and clear of the others."""
    to_axes = axes.transScale + axes.transLimits
    heights = np.array([to_axes.transform((1, label[1]))[1] for label in labels])
    for (label, _, style), height in zip(labels, spread(heights, 0.062), strict=True):
        axes.plot(
            [1.015, 1.045, 1.075],
            [height] * 3,
            transform=axes.transAxes,
            clip_on=False,
            markevery=[1],
            **style,
        )
        place = {"transform": axes.transAxes, "va": "center_baseline", "color": style["color"]}
        axes.text(1.087, height, label, **place)


def spread(heights: np.ndarray, gap: float) -> np.ndarray:
    """The heights, of shape (n,), moved as little as it takes to be `gap` apart.

    Neighbours that are too close form a block around their common middle; blocks that then touch
    are merged (isotonic regression on heights less their due distance).
    """
    order = np.argsort(heights, kind="stable")
    blocks: list[tuple[float, int]] = []
    for rank, height in enumerate(heights[order]):
        mean, size = height - rank * gap, 1
        while blocks and blocks[-1][0] > mean:
            last, count = blocks.pop()
            mean, size = (mean * size + last * count) / (size + count), size + count
        blocks.append((mean, size))
    flat = np.concatenate([np.full(size, mean) for mean, size in blocks])
    result = np.empty(len(heights))
    result[order] = flat + gap * np.arange(len(heights))
    return result
