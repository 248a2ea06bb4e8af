"""The paper's published cells in the forms of ours, and beside them."""

from collections.abc import Iterator, Sequence

import pandas as pd

from analysis.comparison import Comparison, by_protocol
from analysis.figures.red import BY_HOW, HOWS, summary, tuned_cells
from analysis.html.board_charts import CUT, FLOOR, NARROW
from analysis.html.charts import (
    Chart,
    Spec,
    axis,
    chart_spec,
    layer,
    legend_of,
    line_encoding,
    looks_of,
    points_look,
    reference_line,
    tips,
)
from analysis.html.table import Table, table_of
from analysis.kinds import KINDS, PROBES
from analysis.paper.names import DOG, LDOG, TUNED
from analysis.paper.published import PAPER, pages_of_published
from analysis.paper.reproduction import read_cells, tables_of_paper, tuned

OURS, THEIRS = "ours", "the paper"


def paper_charts(comparisons: Sequence[Comparison]) -> Iterator[Chart]:
    """RED by network and way of tuning, of both; and the paper's error by learning rate."""
    cells = read_cells(PAPER / "tables_4_5.csv")
    yield _ways_of_tuning(cells, comparisons)
    yield _by_rate(cells)


def _ways_of_tuning(cells: pd.DataFrame, comparisons: Sequence[Comparison]) -> Chart:
    """The paper's Figure 3 beside the same of our runs: of the optimizers that both have."""
    parts = [summary(tuned(cells), BY_HOW).assign(whose=THEIRS)]
    for protocol, of_protocol in sorted(by_protocol(comparisons).items()):
        for kind in KINDS:
            mine = tuned_cells([each for each in of_protocol if each.kind == kind])
            mine = mine[mine["optimizer"].isin((*TUNED, LDOG)) & mine["how"].isin(("", *HOWS))]
            if not mine.empty:
                names = mine["model"].str.partition("\n")[0] + (" probe" if kind == PROBES else "")
                named = mine.assign(model=f"{protocol}: " + names)
                parts.append(summary(named, BY_HOW).assign(whose=OURS))
    frame = pd.concat(parts)
    frame["line"] = (frame["optimizer"] + " " + frame["how"]).str.strip()
    frame["place"] = frame["whose"] + " · " + frame["model"]
    ends = ["median", "q1", "q3"]
    frame = frame[["place", "line", *ends, "tasks"]]
    frame[ends] = frame[ends].clip(lower=FLOOR)
    looks = looks_of(sorted(set(frame["line"])))
    y: Spec = {"field": "place", "type": "nominal", "title": None, "sort": None}
    y |= {"axis": {"labelLimit": NARROW, "grid": True}}
    common = {"y": y, "yOffset": {"field": "line", "type": "nominal"}, **points_look(looks, "line")}
    numbers = [("median", "median RED %", "+.1f")]
    numbers += [(end, "quartile", "+.1f") for end in ("q1", "q3")]
    shown = tips(("place", "network"), ("line", "optimizer"), *numbers, "tasks")
    title = "median RED over tasks, % (right of 0: better than DoG)"
    quartiles = {**common, "x": axis("q1", title), "x2": {"field": "q3"}}
    medians = {**common, "x": axis("median", ""), "tooltip": shown}
    layers = [
        layer("rule", quartiles, strokeWidth=1.4),
        layer("point", medians, filled=True, size=40),
        reference_line("x", 0),
    ]
    return Chart(
        name="paper-ways",
        title="RED by network and way of tuning, the paper's and ours",
        note="Median over a network's tasks, bars: quartiles. The paper's are its Figure 3, of its "
        "Tables 4 and 5; ours are of other networks, tasks and budgets, so compare signs and "
        f"sizes, not digits. {CUT}",
        description="Median relative error difference to DoG of tuned SGD, tuned Adam and L-DoG.",
        spec=chart_spec(layers, frame, 46 * frame["place"].nunique()),
        legend=legend_of(looks),
        tall=True,
    )


def _by_rate(cells: pd.DataFrame) -> Chart:
    """The paper's test error by learning rate, of one network and task at a time."""
    frame = pd.DataFrame(
        {
            "pair": cells["model"] + " · " + cells["task"],
            "optimizer": cells["optimizer"],
            "rate": cells["peak_lr"],
            "error": 100 - cells["mean"],
        }
    )
    pairs = list(dict.fromkeys(frame["pair"]))
    looks = looks_of([*TUNED, LDOG], DOG)
    numbers = ("rate", "learning rate", ".3~g"), ("error", "test error", ".4~g")
    y = axis("error", "test error (%, log scale)", log=True)
    line = line_encoding(looks, tips("optimizer", *numbers), y=y)
    x = axis("rate", "peak learning rate (log scale)", log=True)
    chosen = "datum.pair === shown && datum.rate"
    layers = [
        layer("rule", line, f"{chosen} == null", strokeWidth=1.6),
        layer("line", {**line, "x": x}, f"{chosen} != null", point={"size": 35}),
    ]
    spec = chart_spec(layers, frame)
    spec["params"][1]["value"] = pairs[0]
    return Chart(
        name="paper-rates",
        title="The paper's error by learning rate",
        note="From its Tables 4 and 5: means over seeds of the iterate that validation chose. "
        "Lines across: DoG and L-DoG.",
        description="Published test error of SGD and Adam by learning rate, and of DoG and L-DoG.",
        spec=spec,
        legend=legend_of(looks),
        choose="network and task",
        choices=pairs,
    )


def paper_tables(frame: pd.DataFrame) -> Iterator[Table]:
    """The cells that both have, and the paper's own tables."""
    for page in (*pages_of_published(frame), *tables_of_paper(PAPER)):
        yield table_of(page)
