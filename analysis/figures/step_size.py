"""Draws how DoG's step size forgets its start: the paper's Figures 1 and 8, on our own runs."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from analysis.choice import INSTANCE_TUNED, TUNING_SEED, is_grid_run
from analysis.comparison import Comparison, reported
from analysis.figures.data import FigureData
from analysis.figures.style import (
    NOTE,
    RING,
    Label,
    draw_means,
    head,
    looks,
    panel,
    plain,
    score,
    score_label,
    styled,
    write_labels,
)
from analysis.roles import REFERENCE, TUNED, in_order
from analysis.varied import shared_seeds, varied
from tasks.format import plural

# Fewer starts show nothing of how the step size depends on them.
LEAST_STARTS = 3
# Figure 8's lines, where they were logged.
SHOWN_STEPS = [1, 10, 30, 100, 300, 1000, 3000, 10000, 30000]


def step_size_figures(data: FigureData) -> Iterator[tuple[str, Any]]:
    """Both figures of each problem on which DoG was run with several reps_rel."""
    for comparison in data.comparisons:
        runs = data.runs_of(comparison)
        starts = varied(runs[runs["role"] == REFERENCE], "reps_rel")
        seed, curves = curves_by_start(starts, data.curves)
        if len(curves) >= LEAST_STARTS:
            yield (
                f"step_size-{comparison.stem}",
                draw_step_size(comparison, runs, starts, curves, seed),
            )
            etas = etas_by_start(curves)
            if etas.shape[1] >= LEAST_STARTS:
                yield f"step_size_by_start-{comparison.stem}", draw_by_start(comparison, etas)


def curves_by_start(
    starts: pd.DataFrame, curves: pd.DataFrame
) -> tuple[int, dict[float, pd.DataFrame]]:
    """The seed with the most curves, and its curve of each reps_rel, sorted by reps_rel.

    Of seeds with equally many the smallest is taken; a step size that overflowed is left out.
    """
    curves = curves[curves["run_id"].isin(starts["run_id"]) & np.isfinite(curves["eta"])]
    known = starts[starts["run_id"].isin(curves["run_id"])]
    seed = known["seed"].mode().min()
    of_seed = known[known["seed"] == seed]
    return seed, {
        value: curves[curves["run_id"] == run_id]
        for value, run_id in zip(of_seed["value"], of_seed["run_id"], strict=True)
    }


@styled
def draw_step_size(
    comparison: Comparison,
    runs: pd.DataFrame,
    starts: pd.DataFrame,
    curves: dict[float, pd.DataFrame],
    seed: int,
) -> Any:
    """Figure 1: left η_t by step for each reps_rel; right what that and a tuned rate come to.

    The rate is that of the first tuned optimizer (`in_order`): SGD, as in the paper.
    """
    from matplotlib.figure import Figure

    tuned = runs[(runs["role"] == TUNED) & (runs["learning_rate"] > 0) & is_grid_run(runs)]
    rival = next(iter(in_order(tuned["label"])), "")
    rates = tuned[tuned["label"] == rival]
    best = best_rate(comparison, rates)
    figure = Figure(figsize=(10.4, 4.2))
    left = figure.add_axes((0.075, 0.125, 0.38, 0.72))
    panel(left, "step t (log scale)", r"step size $\eta_t$ (log scale)", log_y=True)
    default = starts["value"][starts["opt_default"]].tolist()
    labels = draw_steps(left, curves, default[:1])
    if best is not None:
        style: Any = {"color": "#D55E00", "linestyle": (0, (6, 2)), "linewidth": 1.6}
        left.axhline(best, zorder=1, **style)
        labels.append((f"best {rival} rate: {plain(best)}", best, style))
    write_labels(left, labels)
    heights = [(0.575, 0.27), (0.125, 0.27)] if len(rates) else [(0.125, 0.72)]
    panels = [figure.add_axes((0.68, bottom, 0.305, height)) for bottom, height in heights]
    _draw_starts(panels[0], comparison, starts)
    panels[0].margins(y=0.15)
    if len(rates):
        panels[1].sharey(panels[0])
        _draw_rates(panels[1], comparison, rates, best)
    title = f"DoG by its initial step length: {comparison.title}, {comparison.problem.steps} steps"
    figure.text(0.075, 0.94, title, fontsize=10)
    shared = shared_seeds(starts)
    seeds = plural(len(shared), "seed") if shared else "each point's own"
    note = f"left: seed {seed} · DoG: mean over {seeds}, ring: the default"
    if len(rates):
        note += (
            f" · {rival}, joined: seed {TUNING_SEED}, small: reported seeds, ring: the best rate"
        )
    figure.text(0.075, 0.9, note, **NOTE)
    return figure


def best_rate(comparison: Comparison, rates: pd.DataFrame) -> float | None:
    """The peak rate of one optimizer that validation chose at the tuning seed; None without any."""
    cells = comparison.frame
    mine = cells["optimizer"].isin(rates["optimizer"]) & (cells["row"] == INSTANCE_TUNED)
    chosen = cells["setting"][mine]
    rates = rates["learning_rate"][rates["setting"].isin(chosen)]
    return float(rates.iloc[0]) if len(rates) else None


def draw_steps(axes: Any, curves: dict[float, pd.DataFrame], default: list[float]) -> list[Label]:
    """Draws η_t by step, a line a reps_rel; returns the lines' labels."""
    labels = []
    for (value, curve), style in zip(curves.items(), looks(len(curves), ordered=True), strict=True):
        if value in default:
            style = style | {"linewidth": 2.2}
        axes.plot(curve["step"], curve["eta"], **style)
        name = rf"$r_\epsilon$ = {plain(value)}{', default' if value in default else ''}"
        labels.append((name, float(curve["eta"].iloc[-1]), style))
    return labels


def _draw_starts(axes: Any, comparison: Comparison, starts: pd.DataFrame) -> None:
    panel(axes, r"DoG's reps_rel, $r_\epsilon$ (log scale)", score_label(comparison))
    style = looks(1)[0] | {"color": "#000000"}
    draw_means(axes, comparison, starts, style)


def _draw_rates(axes: Any, comparison: Comparison, rates: pd.DataFrame, best: float | None) -> None:
    panel(
        axes, f"{rates['label'].iloc[0]}'s peak learning rate (log scale)", score_label(comparison)
    )
    style = looks(2)[1]
    tuning = rates[rates["seed"] == TUNING_SEED].sort_values("learning_rate")
    seeds = reported(rates)
    axes.plot(tuning["learning_rate"], score(comparison, tuning["test"]), **style)
    hollow = {"marker": "s", "markersize": 3, "linestyle": "none", "markerfacecolor": "white"}
    axes.plot(
        seeds["learning_rate"], score(comparison, seeds["test"]), color=style["color"], **hollow
    )
    chosen = tuning[tuning["learning_rate"] == best]
    axes.plot(
        chosen["learning_rate"], score(comparison, chosen["test"]), color=style["color"], **RING
    )


def etas_by_start(curves: dict[float, pd.DataFrame]) -> pd.DataFrame:
    """η_t of each reps_rel (columns) at each step (index) that is drawn: 1, some later, the last.

    Without runs that ended early, which have no last step, and without steps that not all logged.
    """
    etas = pd.DataFrame({value: curve.set_index("step")["eta"] for value, curve in curves.items()})
    last = etas.index.max()
    shown = [step for step in SHOWN_STEPS if step < last]
    etas = etas.reindex([*shown, last])
    return etas.loc[:, etas.loc[[1, last]].notna().all()].dropna()


@styled
def draw_by_start(comparison: Comparison, etas: pd.DataFrame) -> Any:
    """Figure 8: η_t against η at the first step, a point a reps_rel, a line for each of some t."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.4, 3.8))
    axes = figure.add_axes((0.1, 0.125, 0.66, 0.75))
    panel(
        axes, r"first step size $\eta_1$ (log scale)", r"step size $\eta_t$ (log scale)", log_y=True
    )
    labels = []
    low, high = float(etas.columns[0]), float(etas.columns[-1])
    for step, style in zip(etas.index, looks(len(etas), ordered=True), strict=True):
        axes.plot(etas.loc[1], etas.loc[step], **style)
        # Where a line begins: at the right they all meet.
        labels.append((f"t = {step}", float(etas[low].loc[step]), style))
    write_labels(axes, labels)
    title = f"DoG's step size by its first: {comparison.title}, {comparison.problem.steps} steps"
    note = f"a point a run: reps_rel from {plain(low)} to {plain(high)}, one seed"
    head(axes, title, note)
    return figure
