"""Draws test error against learning rate, with DoG's error as a line across: a figure a problem."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.choice import TUNING_SEED, is_grid_run
from analysis.comparison import Comparison, reported
from analysis.figures.data import FigureData, best_of_each_rate
from analysis.figures.style import (
    FEW,
    REFERENCE_LOOK,
    Label,
    beside_labels,
    curve_looks,
    error_locator,
    error_unit,
    head,
    styled,
    tuning_free_looks,
    write_labels,
)
from analysis.roles import REFERENCE, TUNING_FREE, untuned
from analysis.statistics import RATES, is_in_percent

MAJORITY = "majority class"


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
    look: tuple[Any, str]
    mean: float
    low: float
    high: float


# What is drawn of a problem: its tuned optimizers, and those without a rate.
Drawn = tuple[list[Curve], list[Across]]


def rates_figures(data: FigureData) -> Iterator[tuple[str, Any]]:
    """The figure of each problem where learning rates were tried, named as its comparison."""
    for comparison in data.comparisons:
        figure = draw_rates(comparison, data.runs_of(comparison))
        if figure is not None:
            yield comparison.stem, figure


@styled
def draw_rates(comparison: Comparison, runs: pd.DataFrame) -> Any:
    """The figure of a problem's runs; None where no rate was tried or no error is above 0."""
    drawn = curves_and_lines(comparison, runs)
    if drawn is None:
        return None
    curves, lines = drawn
    # Fixed margins, the right one for the labels: an automatic layout draws everything twice.
    texts = [*(curve.label for curve in curves), *(line.label for line in lines), MAJORITY]
    figure, axes = beside_labels(texts, (0.08, 0.125, 0.66, 0.75))
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(_limits(curves, lines))
    labels = [_draw_across(axes, line, len(lines) <= FEW) for line in lines]
    for curve, style in zip(curves, curve_looks(len(curves)), strict=True):
        labels.append(_draw_curve(axes, curve, style))
    labels += _draw_majority(axes, runs, comparison)
    _finish(axes, comparison)
    write_labels(axes, labels)
    return figure


def curves_and_lines(comparison: Comparison, runs: pd.DataFrame) -> Drawn | None:
    """What is drawn of a problem's runs; None where no rate was tried or no error is above 0."""
    runs = runs.assign(error=drawable_errors(runs) * error_unit(comparison)[1])
    curves = tuned_curves(runs)
    return (curves, untuned_lines(runs)) if curves and (runs["error"] > 0).all() else None


def drawable_errors(runs: pd.DataFrame) -> pd.Series:
    """The errors, those with no place on a log axis as half the smallest that could be there.

    That is half an error of one example or, where none is counted, half the smallest above 0.
    """
    errors = runs["error"]
    least = (1 / runs["test_examples"].astype("float64")).where(
        runs["metric"].isin(RATES), errors[errors > 0].min()
    )
    return errors.clip(lower=0.5 * least)


def tuned_curves(runs: pd.DataFrame) -> list[Curve]:
    """The curve of each tuned optimizer whose rates were tried."""
    curves = []
    runs = runs[is_grid_run(runs) & (runs["learning_rate"] > 0)]
    for _, group in runs.groupby("optimizer"):
        tuning = group[group["seed"] == TUNING_SEED]
        if tuning.empty:
            continue
        best = best_of_each_rate(tuning)
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


def untuned_lines(runs: pd.DataFrame) -> list[Across]:
    """The line of each optimizer that needs no tuning, the reference first."""
    lines = []
    looks = tuning_free_looks(runs["label"][runs["role"] == TUNING_FREE])
    for optimizer, label in untuned(runs).items():
        default = runs[(runs["optimizer"] == optimizer) & runs["opt_default"]]
        # Before any reported run there is the tuning seed's.
        default = reported(default) if len(reported(default)) else default
        if len(default):
            errors, is_reference = default["error"], (default["role"] == REFERENCE).any()
            look = REFERENCE_LOOK if is_reference else looks[label]
            lines.append(Across(label, look, errors.mean(), errors.min(), errors.max()))
    return lines


def _limits(curves: list[Curve], lines: list[Across]) -> tuple[float, float]:
    """The range of all errors drawn and some room around it, in equal proportions."""
    errors = [[line.low, line.high] for line in lines]
    errors += [[*curve.errors, *curve.reported_errors] for curve in curves]
    low, high = min(map(min, errors)), max(map(max, errors))
    room = max((high / low) ** 0.06, 1.02)
    return low / room, high * room


def _draw_across(axes: Any, line: Across, band: bool) -> Label:
    dashes, colour = line.look
    style = {"color": colour, "linestyle": dashes, "linewidth": 1.6}
    axes.axhline(line.mean, zorder=2, **style)
    if band and line.high > line.low:
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


def _draw_majority(axes: Any, runs: pd.DataFrame, comparison: Comparison) -> list[Label]:
    majority = runs["test_majority"].dropna()
    if majority.empty or not is_in_percent(comparison.problem):
        return []
    error = 100 * (1 - majority.iloc[0])
    low, high = axes.get_ylim()
    if not low < error < high:
        return []
    style = {"color": "#444444", "linestyle": (0, (1, 2)), "linewidth": 0.9}
    axes.axhline(error, zorder=1, **style)
    return [(MAJORITY, error, style)]


def _finish(axes: Any, comparison: Comparison) -> None:
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    axes.yaxis.set_major_locator(error_locator(*axes.get_ylim()))
    axes.xaxis.set_major_locator(LogLocator())
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_locator(NullLocator())
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel("learning rate (log scale)")
    axes.set_ylabel(error_unit(comparison)[0])
    note = f"joined: seed {TUNING_SEED}, used for tuning · small: reported seeds"
    head(axes, f"{comparison.title}, {comparison.problem.steps} steps", note)
