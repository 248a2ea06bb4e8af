"""The charts of the page, from the same numbers that the figures under results/ are drawn from."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from analysis.choice import MAIN_ROW, PORTFOLIO, is_grid_run
from analysis.comparison import Comparison, reported
from analysis.figures.batch_norm import Line as BatchNormLine
from analysis.figures.batch_norm import batch_norm_lines
from analysis.figures.budget import budgets, main_cells
from analysis.figures.data import FigureData
from analysis.figures.leaderboard import FARTHEST
from analysis.figures.rates import drawable_errors, tuned_curves, untuned_lines
from analysis.figures.starts import moved_starts, starts_found
from analysis.figures.step_size import best_rate
from analysis.figures.style import error_unit, score, score_label
from analysis.html.charts import (
    FRONT,
    MUTED,
    Chart,
    Looks,
    Spec,
    axis,
    chart_spec,
    colours,
    dashes,
    legend_of,
    looks_of,
    opacity,
    tips,
    zoom,
)
from analysis.roles import TUNED, in_order, untuned
from analysis.statistics import MARGIN, error, performance_profile, red_of_means
from analysis.tables.leaderboard import Leaderboard
from analysis.tables.models import Line, errors_by_seed
from analysis.tables.page import signed
from runner import TUNING_SEED
from tasks.format import duration

ALL = "all of them: interquartile mean"
# A RED in percent below this is drawn here: it would hide the rest.
FLOOR = -50
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
    )
    x = axis("runs", "runs a problem, tuning included (log scale)", log=True, scale={"padding": 30})
    y = axis("red", "IQM of RED, % (above 0: better than DoG)", scale={"padding": 24})
    on_front = {"filter": "datum.front"}
    colour = {"condition": {"test": "datum.front", "value": FRONT}, "value": MUTED}
    shown = tips(("optimizer", "optimizer"), ("row", "row"), ("exact", "IQM of RED %"), ("runs", "runs a problem", ".3~g"))  # fmt: skip
    lines = lines.sort_values("front")  # the front is drawn upon the others
    layers: list[Spec] = [
        {"mark": {"type": "rule", "strokeWidth": 1}, "encoding": {"y": {"datum": 0}}},
        {
            "transform": [on_front],
            "mark": {"type": "line", "interpolate": "step-after", "color": FRONT},
            "encoding": {"x": x, "y": y, "order": {"field": "runs", "type": "quantitative"}},
        },
        {
            "params": [zoom()],
            "mark": {"type": "point", "filled": True, "size": 55},
            "encoding": {
                "x": x,
                "y": y,
                "color": colour,
                "opacity": opacity(),
                "shape": {"field": "row", "type": "nominal", "legend": {"title": None, "orient": "bottom"}},
                "tooltip": shown,
            },
        },
        {
            "transform": [{"filter": "datum.front || focus === datum.optimizer"}],
            "mark": {"type": "text", "align": "left", "dx": 7, "dy": -7},
            "encoding": {"x": x, "y": y, "text": {"field": "optimizer"}, "color": colour},
        },
    ]  # fmt: skip
    names = in_order(frame["label"][frame["pareto"]])
    return Chart(
        name="pareto",
        title="Score against the cost of tuning",
        note=f"The line joins the Pareto front. Scores below −{-FLOOR} % are drawn there.",
        description=f"A point for each line of the leaderboard. On the front: {', '.join(names)}.",
        spec=chart_spec(layers, lines, 340),
    )


def forest(board: Leaderboard) -> Chart:
    """RED of every line with its interval, over all problems or on one."""
    frame = board.frame
    names = [_line_name(*pair) for pair in zip(frame["label"], frame["row"], strict=True)]
    place = {key: i for i, key in enumerate(zip(frame["optimizer"], frame["row"], strict=True))}
    columns = ["red", "low", "high"]
    over_all = frame[["red_iqm", "red_iqm_low", "red_iqm_high"]].set_axis(columns, axis=1)
    parts = [over_all.assign(line=names, problem=ALL)]
    for comparison in board.problems:
        rows = []
        for cell in comparison.cells:
            if (cell.optimizer, cell.row) in place:
                red = red_of_means(*errors_by_seed(Line(comparison, cell)))
                low, high = (np.nan, np.nan) if cell.is_reference else red.interval()
                name = names[place[cell.optimizer, cell.row]]
                rows.append([cell.red, low, high, name, comparison.stem])
        parts.append(pd.DataFrame(rows, columns=[*columns, "line", "problem"]))
    lines = pd.concat(parts)
    lines[columns] *= 100
    lines["cut"] = lines["red"].clip(lower=FLOOR)
    lines["cut_low"], lines["cut_high"] = (lines[end].clip(lower=FLOOR) for end in ("low", "high"))
    lines["text"] = [signed(red / 100) for red in lines["red"]]
    y = {"field": "line", "type": "nominal", "sort": {"field": "cut", "order": "descending"}}
    y |= {"title": None, "axis": {"labelLimit": NARROW, "grid": True}}
    x = axis("cut", "RED, % (right of 0: better than DoG)")
    chosen = {"filter": "datum.problem === shown"}
    layers = [
        {
            "transform": [chosen, {"filter": "datum.low != null"}],
            "mark": {"type": "rule", "strokeWidth": 2, "color": MUTED},
            "encoding": {"y": y, "x": axis("cut_low", ""), "x2": {"field": "cut_high"}},
        },
        {
            "transform": [chosen],
            "mark": {"type": "point", "filled": True, "size": 45, "color": FRONT},
            "encoding": {
                "x": x,
                "y": y,
                "tooltip": tips(
                    ("line", "optimizer"),
                    ("text", "RED %"),
                    ("low", "95 % from", ".1f"),
                    ("high", "to", ".1f"),
                ),
            },
        },
        {
            "data": {"values": [{"zero": 0}, {"zero": 100 * MARGIN}]},
            "mark": {"type": "rule", "strokeDash": [3, 3]},
            "encoding": {"x": {"field": "zero", "type": "quantitative"}},
        },
    ]
    spec = chart_spec(layers, lines, 16 * len(names))
    spec["params"][1]["value"] = ALL
    return Chart(
        name="forest",
        title="RED of every line, with its 95 % interval",
        note=f"Dashed: DoG, and the margin of {100 * MARGIN:g} %. One problem: Student's t over "
        f"seeds. Values below −{-FLOOR} % are drawn there.",
        description="Relative error difference to DoG for each line, best first; the leaderboard "
        "and the tables of the problems hold the same numbers.",
        spec=spec,
        tall=True,
        choose="problems",
        choices=[ALL, *(each.stem for each in board.problems)],
    )


def _line_name(label: str, row: str) -> str:
    return f"{label}, {row}"


def profile(board: Leaderboard) -> Chart:
    """The performance profile: on what part of the problems each is so near the best."""
    frame = board.frame
    main = [
        row in (MAIN_ROW[role], PORTFOLIO)
        for row, role in zip(frame["row"], frame["role"], strict=True)
    ]
    errors = board.errors.to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = errors / np.fmin.reduce(errors, axis=0)
    steps = np.unique([1.0, *ratios[(ratios > 1) & (ratios < FARTHEST)], FARTHEST])
    shares = performance_profile(errors, steps)[main]
    labels = frame["label"][main].tolist()
    lines = pd.concat(
        pd.DataFrame({"optimizer": label, "factor": steps, "share": 100 * share})
        for label, share in zip(labels, shares, strict=True)
    )
    # Where a line stays level, its ends say all.
    level = lines["share"].eq(lines.groupby("optimizer")["share"].shift())
    level &= lines["share"].eq(lines.groupby("optimizer")["share"].shift(-1))
    looks = looks_of(labels, _reference(board.problems))
    layers = [
        {
            "mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 1.6},
            "encoding": {
                "x": axis("factor", "error, as a multiple of the smallest (log scale)", log=True),
                "y": axis("share", "part of the problems, %"),
                "color": colours(looks),
                "strokeDash": dashes(looks),
                "opacity": opacity(),
                "tooltip": tips(
                    ("optimizer", "optimizer"), ("factor", "within", ".3~g"), ("share", "of problems, %", ".0f")
                ),
            },
        }
    ]  # fmt: skip
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


def _reference(comparisons: Sequence[Comparison]) -> str:
    return next((each.reference.label for each in comparisons if each.reference is not None), "")


def problem_charts(data: FigureData, comparison: Comparison) -> Iterator[Chart]:
    """The charts of one problem, those for which there are runs."""
    for chart in (rates, step_sizes, break_even, starts):
        found = chart(data, comparison)
        if found is not None:
            yield found


def rates(data: FigureData, comparison: Comparison) -> Chart | None:
    """Test error by learning rate, with the untuned optimizers as lines across."""
    unit, scale = error_unit(comparison)
    runs = data.runs_of(comparison)
    runs = runs.assign(error=drawable_errors(runs) * scale)
    curves, across = tuned_curves(runs), untuned_lines(runs)
    if not curves or not (runs["error"] > 0).all():
        return None
    parts = []
    for curve in curves:
        for kind, x, y in (
            ("tuning", curve.rates, curve.errors),
            ("reported", curve.reported_rates, curve.reported_errors),
        ):
            parts.append(
                pd.DataFrame({"optimizer": curve.label, "kind": kind, "rate": x, "error": y})
            )
    lines = [[each.label, "across", None, each.mean, each.low, each.high] for each in across]
    names = ["optimizer", "kind", "rate", "error", "low", "high"]
    frame = pd.concat([*parts, pd.DataFrame(lines, columns=names)])[names]
    looks = looks_of(
        [*(c.label for c in curves), *(a.label for a in across)], _reference([comparison])
    )
    x = axis("rate", "learning rate (log scale)", log=True)
    y = axis("error", unit, log=True)
    common = {"y": y, "color": colours(looks), "opacity": opacity()}
    shown = tips(
        ("optimizer", "optimizer"),
        ("rate", "learning rate", ".3~g"),
        ("error", "test error", ".4~g"),
    )
    layers = [
        {
            "transform": [{"filter": "datum.kind === 'across'"}],
            "mark": {"type": "rule", "strokeWidth": 1.6},
            "encoding": {**common, "strokeDash": dashes(looks), "tooltip": tips(
                ("optimizer", "optimizer"), ("error", "mean test error", ".4~g"), ("low", "from", ".4~g"), ("high", "to", ".4~g"))},
        },
        {
            "transform": [{"filter": "datum.kind === 'tuning'"}],
            "params": [zoom()],
            "mark": {"type": "line", "point": {"size": 35}},
            "encoding": {**common, "x": x, "strokeDash": dashes(looks), "tooltip": shown},
        },
        {
            "transform": [{"filter": "datum.kind === 'reported'"}],
            "mark": {"type": "point", "size": 18},
            "encoding": {**common, "x": x, "tooltip": shown},
        },
    ]  # fmt: skip
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
    parts = []
    for optimizer, label in untuned(runs).items():
        ids = first["run_id"][first["optimizer"] == optimizer]
        curve = data.curves[data.curves["run_id"].isin(ids[:1]) & (data.curves["eta"] > 0)]
        curve = curve[np.isfinite(curve["eta"])]
        if len(curve) > 1:
            own = {"optimizer": label, "kind": "curve", "step": curve["step"], "eta": curve["eta"]}
            parts.append(pd.DataFrame(own))
    if not parts:
        return None
    labels = [part["optimizer"].iloc[0] for part in parts]
    tuned = runs[(runs["role"] == TUNED) & (runs["learning_rate"] > 0) & is_grid_run(runs)]
    for label in in_order(tuned["label"]):
        rate = best_rate(comparison, tuned[tuned["label"] == label])
        if rate is not None:
            name = f"tuned {label}"
            parts.append(pd.DataFrame([{"optimizer": name, "kind": "rate", "eta": rate}]))
            labels.append(name)
    frame = pd.concat(parts)
    looks = looks_of(labels, _reference([comparison]))
    y = axis("eta", "step size η (log scale)", log=True)
    common = {
        "y": y, "color": colours(looks), "opacity": opacity(), "strokeDash": dashes(looks),
        "tooltip": tips(("optimizer", "optimizer"), ("step", "step", ",.0f"), ("eta", "step size", ".3~g")),
    }  # fmt: skip
    layers = [
        {
            "transform": [{"filter": "datum.kind === 'rate'"}],
            "mark": {"type": "rule", "strokeWidth": 1.2},
            "encoding": common,
        },
        {
            "transform": [{"filter": "datum.kind === 'curve'"}],
            "params": [zoom()],
            "mark": {"type": "line", "point": {"size": 14}, "strokeWidth": 1.6},
            "encoding": {**common, "x": axis("step", "step (log scale)", log=True)},
        },
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
    """What tuning gives by its cost, and DoG's error as a line across."""
    if not comparison.break_even or comparison.reference is None:
        return None
    unit, scale = error_unit(comparison)
    labels = {cell.optimizer: cell.label for cell in comparison.cells}
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
    shown = tips(
        ("optimizer", "optimizer"),
        ("runs", "rates tried"),
        ("error", "expected test error", ".4~g"),
        ("time", "time"),
    )
    common = {
        "y": axis("error", f"expected {unit}", log=True),
        "color": colours(looks),
        "opacity": opacity(),
        "tooltip": shown,
    }
    x = axis("runs", "learning rates tried, k", axis={"tickMinStep": 1})
    layers = [
        {
            "transform": [{"filter": "datum.runs == null"}],
            "mark": {"type": "rule", "strokeWidth": 1.8},
            "encoding": common,
        },
        {
            "transform": [{"filter": "datum.runs != null"}],
            "params": [zoom()],
            "mark": {"type": "line", "point": {"size": 30}},
            "encoding": {**common, "x": x, "strokeDash": dashes(looks)},
        },
        {
            "transform": [{"filter": "datum.even === true"}],
            "mark": {"type": "point", "size": 160, "strokeWidth": 1.5},
            "encoding": {**common, "x": x},
        },
    ]  # fmt: skip
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
    moved = moved_starts(runs)
    if not moved:
        return None
    parts = [_means(comparison, runs, label) for label, runs in moved.items()]
    found = starts_found(runs)
    for label, test in found.items():
        level = {"optimizer": label, "kind": "level", "score": score(comparison, test).mean()}
        parts.append(pd.DataFrame([level]))
    looks = looks_of([*moved, *found], _reference([comparison]))
    return Chart(
        name=f"starts-{comparison.stem}",
        title="Sensitivity to the start",
        note="Start: r_ε, d_0 or ε as each method has it. Mean over seeds, bars: their range; "
        "ring: the default. Lines across: methods that find their start.",
        description="Test score by the start of each method that needs no learning rate.",
        spec=_by_value(pd.concat(parts), looks, "start (log scale)", score_label(comparison)),
        legend=legend_of(looks),
    )


def _means(comparison: Comparison, runs: pd.DataFrame, label: str) -> pd.DataFrame:
    """The mean score of each value, and its range over the seeds."""
    scores = score(comparison, runs["test"]).groupby(runs["value"])
    default = runs["value"][runs["opt_default"]]
    frame = pd.DataFrame({"score": scores.mean(), "low": scores.min(), "high": scores.max()})
    frame = frame.reset_index(names="start")
    ring = frame["start"].isin(default)
    return frame.assign(optimizer=label, kind="moved", seeds=scores.size().to_numpy(), ring=ring)


def _by_value(frame: pd.DataFrame, looks: Looks, x_title: str, y_title: str) -> Spec:
    x, y = axis("start", x_title, log=True), axis("score", y_title)
    shown = tips(
        ("optimizer", "optimizer"),
        ("start", "start", ".3~g"),
        ("score", "score", ".2f"),
        ("seeds", "seeds"),
    )
    common = {"y": y, "color": colours(looks), "opacity": opacity(), "tooltip": shown}
    moved = {"filter": "datum.kind === 'moved'"}
    return chart_spec(
        [
            {
                "transform": [{"filter": "datum.kind === 'level'"}],
                "mark": {"type": "rule", "strokeWidth": 1.4},
                "encoding": {**common, "strokeDash": dashes(looks)},
            },
            {
                "transform": [moved],
                "mark": {"type": "rule", "strokeWidth": 1},
                "encoding": {**common, "x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}},
            },
            {
                "transform": [moved],
                "params": [zoom()],
                "mark": {"type": "line", "point": {"size": 30}},
                "encoding": {**common, "x": x, "strokeDash": dashes(looks)},
            },
            {
                "transform": [moved, {"filter": "datum.ring"}],
                "mark": {"type": "point", "size": 160, "strokeWidth": 1.5},
                "encoding": {**common, "x": x},
            },
        ],
        frame,
    )  # fmt: skip


def batch_norm_charts(data: FigureData) -> Iterator[tuple[Chart, list[BatchNormLine]]]:
    """What batch normalization does to DoG's start, and the lines that each chart shows."""
    for stem, lines in batch_norm_lines(data):
        parts = [_means(comparison, runs, label) for label, comparison, runs in lines]
        looks = looks_of(label for label, _, _ in lines)
        problem = lines[0][1].problem
        spec = _by_value(
            pd.concat(parts), looks, "DoG's initial step length reps_rel (log scale)", score_label(lines[0][1])
        )  # fmt: skip
        chart = Chart(
            name=stem,
            title=f"Batch normalization and DoG's start: {problem.task}, {problem.protocol}",
            note="Mean over seeds, bars: their range; ring: the default.",
            description="Test score by DoG's initial step length, a line each way to normalize.",
            spec=spec,
            legend=legend_of(looks),
        )
        yield chart, lines


def budget_charts(data: FigureData) -> Iterator[Chart]:
    """Test error against the number of steps, a chart for each problem run with several."""
    for stem, comparisons in budgets(data):
        cells = pd.concat(main_cells(comparison) for comparison in comparisons)
        cells = cells.sort_values("steps")
        unit, scale = error_unit(comparisons[0])
        task, model = comparisons[0].problem[["task", "model"]]
        errors = error(cells["test"], comparisons[0].problem.higher_is_better) * scale
        width = cells["test_half_width"].fillna(0) * scale
        names = cells["label"].where(cells["role"] != TUNED, "tuned " + cells["label"])
        frame = pd.DataFrame(
            {"optimizer": names, "steps": cells["steps"].astype(float), "error": errors}
        )
        frame = frame.assign(low=(errors - width).clip(lower=errors * 0.5), high=errors + width)
        looks = looks_of(in_order(names), _reference(comparisons))
        x = axis(
            "steps",
            "steps (log scale), each budget a run of its own",
            log=True,
            axis={"values": sorted(set(frame["steps"])), "format": ",.0f"},
        )
        y = axis("error", unit, log=True)
        common = {"x": x, "color": colours(looks), "opacity": opacity()}
        shown = tips(
            ("optimizer", "optimizer"), ("steps", "steps", ",.0f"), ("error", "test error", ".4~g")
        )
        layers = [
            {"mark": "rule", "encoding": {**common, "y": {**y, "field": "low"}, "y2": {"field": "high"}}},
            {
                "params": [zoom()],
                "mark": {"type": "line", "point": {"size": 35}},
                "encoding": {**common, "y": y, "strokeDash": dashes(looks), "tooltip": shown},
            },
        ]  # fmt: skip
        yield Chart(
            name=stem,
            title=f"Error against steps: {task} · {model}",
            note="Mean over reported seeds, bars: 95 % t interval. Rates are tuned for each "
            "budget.",
            description="Test error by training budget, a line an optimizer.",
            spec=chart_spec(layers, frame),
            legend=legend_of(looks),
        )


def run_charts() -> dict[str, Chart]:
    """The charts of a run, without its numbers, which the page puts in: step, value, and kind."""
    looks = looks_of(["last", "averaged"])
    x = axis("step", "step", axis={"tickCount": 5})
    found = {}
    for name, title, log in (
        ("loss", "Training loss of a batch", False),
        ("eta", "Step size η", True),
        ("lr", "Learning rate", False),
        ("validation", "Validation score", False),
    ):
        encoding = {"x": x, "y": axis("value", title, log), "tooltip": tips(("step", "step"), ("value", title, ".4~g"))}  # fmt: skip
        if name == "validation":
            encoding |= {"color": colours(looks, "kind"), "opacity": opacity("kind")}
        else:
            encoding["color"] = {"value": FRONT}
        mark = {"type": "line", "point": {"size": 18}}
        layer = {
            "transform": [{"filter": "datum.value != null"}],
            "mark": mark,
            "encoding": encoding,
        }
        none = pd.DataFrame({"step": [], "value": []})
        legend = legend_of(looks) if name == "validation" else []
        found[name] = Chart(
            f"run-{name}", title, "", f"{title} by step.", chart_spec([layer], none, 180), legend
        )
    return found
