"""The charts of one problem."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from analysis.choice import is_grid_run
from analysis.comparison import Comparison, labels_of, reported
from analysis.figures.data import FigureData
from analysis.figures.rates import curves_and_lines
from analysis.figures.starts import moved_starts, starts_found
from analysis.figures.step_size import best_rate
from analysis.figures.style import error_unit, score, score_label
from analysis.html.board_charts import reference_label
from analysis.html.charts import (
    Chart,
    Looks,
    Spec,
    axis,
    chart_spec,
    layer,
    legend_of,
    line_encoding,
    looks_of,
    points_look,
    tips,
)
from analysis.roles import TUNED, in_order, untuned
from runner import TUNING_SEED
from tasks.format import duration


def problem_charts(data: FigureData, comparison: Comparison) -> Iterator[Chart]:
    """Those of a problem for which there are runs."""
    for chart in (rates, step_sizes, break_even, starts):
        found = chart(data, comparison)
        if found is not None:
            yield found


def rates(data: FigureData, comparison: Comparison) -> Chart | None:
    """Test error by learning rate, with the untuned optimizers as lines across."""
    drawn = curves_and_lines(comparison, data.runs_of(comparison))
    if drawn is None:
        return None
    curves, across = drawn
    parts = [
        pd.DataFrame({"optimizer": curve.label, "kind": kind, "rate": x, "error": y})
        for curve in curves
        for kind, x, y in (
            ("tuning", curve.rates, curve.errors),
            ("reported", curve.reported_rates, curve.reported_errors),
        )
    ]
    names = ["optimizer", "kind", "error", "low", "high"]
    lines = [[each.label, "across", each.mean, each.low, each.high] for each in across]
    frame = pd.concat([*parts, pd.DataFrame(lines, columns=names)])
    labels = [*(curve.label for curve in curves), *(line.label for line in across)]
    looks = looks_of(labels, reference_label([comparison]))
    error = ("error", "test error", ".4~g")
    shown = tips("optimizer", ("rate", "learning rate", ".3~g"), error)
    seeds = ("low", "seeds from", ".4~g"), ("high", "to", ".4~g")
    y = axis("error", error_unit(comparison)[0], log=True)
    x = axis("rate", "learning rate (log scale)", log=True)
    level = line_encoding(looks, tips("optimizer", error, *seeds), y=y)
    joined = line_encoding(looks, shown, x=x, y=y)
    points = {"x": x, "y": y, **points_look(looks), "tooltip": shown}
    layers = [
        layer("rule", level, "datum.kind === 'across'", strokeWidth=1.5),
        layer("line", joined, "datum.kind === 'tuning'", zoomable=True, point={"size": 35}),
        layer("point", points, "datum.kind === 'reported'", size=18),
    ]
    return Chart(
        name=f"rates-{comparison.stem}",
        title="Error by learning rate",
        note=f"Joined: seed {TUNING_SEED}, used for tuning. Small: reported seeds. Lines across: "
        "optimizers without a rate to tune, mean over seeds.",
        description=f"Test error of {len(curves)} tuned optimizers by their learning rate, and of "
        f"{len(across)} without one.",
        spec=chart_spec(layers, frame),
        legend=legend_of(looks),
    )


def step_sizes(data: FigureData, comparison: Comparison) -> Chart | None:
    """Which learning rate it really used: η by step, beside the rates that tuning chose."""
    runs = data.runs_of(comparison)
    first = reported(runs[runs["opt_default"]]).sort_values("seed")
    curves = data.curves[np.isfinite(data.curves["eta"]) & (data.curves["eta"] > 0)]
    parts: dict[str, pd.DataFrame] = {}
    for optimizer, label in untuned(runs).items():
        ids = first["run_id"][first["optimizer"] == optimizer]
        curve = curves.loc[curves["run_id"].isin(ids[:1]), ["step", "eta"]]
        if len(curve) > 1:
            parts[label] = curve.assign(kind="curve")
    if not parts:
        return None
    tuned = runs[(runs["role"] == TUNED) & (runs["learning_rate"] > 0) & is_grid_run(runs)]
    for label in in_order(tuned["label"]):
        rate = best_rate(comparison, tuned[tuned["label"] == label])
        if rate is not None:
            parts[f"tuned {label}"] = pd.DataFrame([{"eta": rate, "kind": "rate"}])
    frame = pd.concat(part.assign(optimizer=label) for label, part in parts.items())
    looks = looks_of(parts, reference_label([comparison]))
    shown = tips("optimizer", ("step", "step", ",.0f"), ("eta", "η", ".3~g"))
    level = line_encoding(looks, shown, y=axis("eta", "step size η (log scale)", log=True))
    by_step = {**level, "x": axis("step", "step (log scale)", log=True)}
    look: Spec = {"point": {"size": 14}, "strokeWidth": 1.6}
    layers = [
        layer("rule", level, "datum.kind === 'rate'", strokeWidth=1.2),
        layer("line", by_step, "datum.kind === 'curve'", zoomable=True, **look),
    ]
    return Chart(
        name=f"step_sizes-{comparison.stem}",
        title="Which learning rate it really used",
        note="Step size of each optimizer that needs no tuning, first reported seed. Lines across: "
        "the peak rate that tuning chose. Step sizes of SGD's kind and of Adam's cannot be "
        "compared with each other.",
        description="Step size by step of the optimizers without a learning rate.",
        spec=chart_spec(layers, frame),
        legend=legend_of(looks),
    )


def break_even(_: FigureData, comparison: Comparison) -> Chart | None:
    """What tuning gives by its cost, and the reference's error as a line across."""
    if not comparison.break_even or comparison.reference is None:
        return None
    unit, scale = error_unit(comparison)
    labels = labels_of([comparison])
    parts = []
    for optimizer, curve in comparison.break_even.items():
        tried = np.arange(1, len(curve.errors) + 1)
        own = {"optimizer": labels[optimizer], "runs": tried, "error": scale * curve.errors}
        times = [duration(3600 * hours) for hours in curve.hours]
        parts.append(pd.DataFrame({**own, "time": times, "even": tried == curve.runs}))
    reference = comparison.reference.label
    across = {"optimizer": reference, "error": scale * comparison.reference_error}
    frame = pd.concat([*parts, pd.DataFrame([across])])
    looks = looks_of((labels[name] for name in comparison.break_even), reference)
    error = ("error", "expected test error", ".4~g")
    shown = tips("optimizer", ("runs", "rates tried"), error, "time")
    y = axis("error", f"expected {unit}", log=True)
    x = axis("runs", "learning rates tried, k", axis={"tickMinStep": 1})
    line = line_encoding(looks, shown, y=y)
    ring = {"x": x, "y": y, **points_look(looks), "tooltip": shown}
    layers = [
        layer("rule", line, "datum.runs == null", strokeWidth=1.8),
        layer("line", {**line, "x": x}, "datum.runs != null", zoomable=True, point={"size": 30}),
        layer("point", ring, "datum.even === true", size=160, strokeWidth=1.5),
    ]
    return Chart(
        name=f"break_even-{comparison.stem}",
        title="Break-even: what tuning gives by its cost",
        note="Of k rates of the grid, drawn at random, the best on validation. Ring: as good as "
        f"{reference}, which needs one run; both at seed {TUNING_SEED}.",
        description="Expected test error by the number of learning rates tried; the note under "
        "the table says where each optimizer catches up.",
        spec=chart_spec(layers, frame),
        legend=legend_of(looks),
    )


def starts(data: FigureData, comparison: Comparison) -> Chart | None:
    """Test scores by the start of every learning-rate-free method."""
    runs = data.runs_of(comparison)
    moved, found = moved_starts(runs), starts_found(runs)
    if not moved:
        return None
    parts = [means_by_start(comparison, runs, label) for label, runs in moved.items()]
    for label, test in found.items():
        level = {"optimizer": label, "kind": "level", "score": score(comparison, test).mean()}
        parts.append(pd.DataFrame([level]))
    looks = looks_of([*moved, *found], reference_label([comparison]))
    return Chart(
        name=f"starts-{comparison.stem}",
        title="Sensitivity to the start",
        note="Start: r_ε, d_0 or ε as each method has it. Mean over seeds, bars: their range; "
        "ring: the default. Lines across: methods that find their start.",
        description="Test score by the start of each method that needs no learning rate.",
        spec=by_start(pd.concat(parts), looks, "start (log scale)", score_label(comparison)),
        legend=legend_of(looks),
    )


def means_by_start(comparison: Comparison, runs: pd.DataFrame, label: str) -> pd.DataFrame:
    """The mean score of each start, and its range over the seeds; runs have it as `value`."""
    scores = score(comparison, runs["test"]).groupby(runs["value"])
    default = runs["value"][runs["opt_default"]]
    frame = pd.DataFrame({"score": scores.mean(), "low": scores.min(), "high": scores.max()})
    frame = frame.reset_index(names="start").assign(optimizer=label, kind="moved")
    return frame.assign(seeds=scores.size().to_numpy(), ring=frame["start"].isin(default))


def by_start(frame: pd.DataFrame, looks: Looks, x_title: str, y_title: str) -> Spec:
    """The chart of `means_by_start`, and of levels."""
    x, y = axis("start", x_title, log=True), axis("score", y_title)
    numbers = ("start", "start", ".3~g"), ("score", "score", ".2f")
    shown = tips("optimizer", *numbers, "seeds")
    line = line_encoding(looks, shown, x=x, y=y)
    spread = {**points_look(looks), "x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}}
    level = line_encoding(looks, shown, y=y)
    ring = {"x": x, "y": y, **points_look(looks), "tooltip": shown}
    layers = [
        layer("rule", spread, "datum.kind === 'moved'", strokeWidth=1),
        layer("line", line, "datum.kind === 'moved'", zoomable=True, point={"size": 30}),
        layer("point", ring, "datum.ring === true", size=160, strokeWidth=1.5),
    ]
    if (frame["kind"] == "level").any():
        layers.insert(0, layer("rule", level, "datum.kind === 'level'", strokeWidth=1.4))
    return chart_spec(layers, frame)
