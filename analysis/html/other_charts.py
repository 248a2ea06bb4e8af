"""The charts over several problems, and those of a run."""

from collections.abc import Iterator, Sequence

import pandas as pd

from analysis.figures.batch_norm import Line as BatchNormLine
from analysis.figures.batch_norm import batch_norm_lines
from analysis.figures.budget import budgets, main_cells
from analysis.figures.data import FigureData
from analysis.figures.style import error_unit, score_label
from analysis.html.board_charts import reference_label
from analysis.html.charts import (
    FRONT,
    Chart,
    axis,
    chart_spec,
    layer,
    legend_of,
    line_encoding,
    lines_look,
    looks_of,
    points_look,
    tips,
)
from analysis.html.problem_charts import by_start, means_by_start
from analysis.roles import TUNED, in_order
from analysis.statistics import error


def batch_norm_charts(data: FigureData) -> Iterator[tuple[Chart, list[BatchNormLine]]]:
    """What batch normalization does to DoG's start, and the lines that each chart shows."""
    for stem, lines in batch_norm_lines(data):
        means = pd.concat(means_by_start(each, runs, label) for label, each, runs in lines)
        looks = looks_of(label for label, _, _ in lines)
        problem, unit = lines[0][1].problem, score_label(lines[0][1])
        chart = Chart(
            name=stem,
            title=f"Batch normalization and DoG's start: {problem.task}, {problem.protocol}",
            note=f"Mean over seeds{_seeds(lines)}; bars: their range; ring: the default.",
            description="Test score by DoG's initial step length, a line each way to normalize.",
            spec=by_start(means, looks, "initial step length reps_rel (log scale)", unit),
            legend=legend_of(looks),
        )
        yield chart, lines


def _seeds(lines: Sequence[BatchNormLine]) -> str:
    """How many seeds the points of each line are of, where it is one alone."""
    alone = [label for label, _, runs in lines if runs["seed"].nunique() == 1]
    return f" (one alone: {', '.join(alone)})" if alone else ""


def budget_charts(data: FigureData) -> Iterator[Chart]:
    """Test error against the number of steps, a chart for each problem run with several."""
    for stem, comparisons in budgets(data):
        cells = pd.concat(map(main_cells, comparisons)).sort_values("steps")
        first = comparisons[0].problem
        unit, scale = error_unit(comparisons[0])
        errors = error(cells["test"], first.higher_is_better) * scale
        width = cells["test_half_width"].fillna(0) * scale
        names = cells["label"].where(cells["role"] != TUNED, "tuned " + cells["label"])
        frame = pd.DataFrame(
            {
                "optimizer": names,
                "steps": cells["steps"].astype(float),
                "error": errors,
                "low": (errors - width).clip(lower=errors / 2),  # a log axis has no place for 0
                "high": errors + width,
            }
        )
        looks = looks_of(in_order(frame["optimizer"]), reference_label(comparisons))
        ticks = {"values": sorted(set(frame["steps"])), "format": ",.0f"}
        x = axis("steps", "steps (log scale), each budget a run of its own", log=True, axis=ticks)
        y = axis("error", unit, log=True)
        shown = tips("optimizer", ("steps", "steps", ",.0f"), ("error", "test error", ".4~g"))
        interval = {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}}
        joined = line_encoding(looks, shown, x=x, y=y)
        layers = [
            layer("rule", {**interval, **points_look(looks)}),
            layer("line", joined, zoomable=True, point={"size": 35}),
        ]
        yield Chart(
            name=stem,
            title=f"Error against steps: {first.task} · {first.model}",
            note="Mean over reported seeds, bars: 95 % t interval. Rates are tuned for each "
            "budget.",
            description="Test error by training budget, a line an optimizer.",
            spec=chart_spec(layers, frame),
            legend=legend_of(looks),
        )


def run_charts() -> dict[str, Chart]:
    """The charts of a run, without its numbers, which the page puts in: step, value, and kind."""
    looks = looks_of(["last", "averaged"])
    found = {}
    for name, title, log in (
        ("loss", "Training loss of a batch", False),
        ("eta", "Step size η", True),
        ("lr", "Learning rate", False),
        ("validation", "Validation score", False),
    ):
        encoding = {
            "x": axis("step", "step", axis={"tickCount": 5}),
            "y": axis("value", title, log),
            "tooltip": tips("step", ("value", title, ".4~g")),
        }
        several = name == "validation"
        encoding |= lines_look(looks, "kind") if several else {"color": {"value": FRONT}}
        layers = [layer("line", encoding, "datum.value != null", point={"size": 18})]
        none = pd.DataFrame({"step": [], "value": []})
        found[name] = Chart(
            name=f"run-{name}",
            title=title,
            note="",
            description=f"{title} by step.",
            spec=chart_spec(layers, none, 180),
            legend=legend_of(looks) if several else [],
        )
    return found
