"""The paper's tables and figures again, from the numbers that it published (results/paper)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.figures.red import (
    BY_HOW,
    BY_RATE,
    across,
    draw_bars,
    draw_by_rate,
    label,
    panels,
    summary,
)
from analysis.figures.style import CURVES, svg, tuning_free_looks
from analysis.files import write_files
from analysis.paper.names import DOG, LDOG, TUNED
from analysis.statistics import relative_error_difference
from analysis.tables.page import Page, write_pages

MADE_BY = "made by scripts/paper_tables.py of dog-bench, do not edit"
HOWS = ("model_tuned", "instance_tuned")
TITLES = {
    1: "fine-tuning CLIP ViT-B/32 on ImageNet, accuracy in percent",
    2: "training WRN-28-10 on CIFAR-10 from scratch, accuracy in percent",
    4: "language, metric in percent, mean ± std over seeds",
    5: "vision, accuracy in percent, mean ± std over seeds",
}


def read_cells(path: Path) -> pd.DataFrame:
    """Read the cells of Tables 4 and 5, with RED in percent against DoG's cell.

    Columns: table, model, optimizer, peak_lr (nan for DoG and L-DoG), task, mean and std of the
    metric in percent over seeds, and `red`, (err_DoG − err) / err_DoG with err = 100 − mean. The
    paper averages RED over all pairs of seeds; of these only means are published, so some tenths
    of a point are lost where stds are large. The printed row "Avg." is left out: it is made of
    truncated numbers.
    """
    cells = pd.read_csv(path)
    cells = cells[(cells["task"] != "Avg.") & cells["mean"].notna()].copy()
    cells["peak_lr"] = pd.to_numeric(cells["peak_lr"], errors="coerce")
    keys = ["model", "task"]
    dog = cells[cells["optimizer"] == DOG].set_index(keys)["mean"]
    dog_error = 100 - dog.reindex(pd.MultiIndex.from_frame(cells[keys])).to_numpy()
    pairs = zip(dog_error, 100 - cells["mean"], strict=True)
    cells["red"] = [100 * relative_error_difference([dog], [other]) for dog, other in pairs]
    return cells


def tuned(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the cells that each way of tuning chooses: `how`, and `row` with the optimizer.

    `model_tuned`: the one rate with the largest median RED over the model's tasks, among those
    that were tried on all of them; `instance_tuned`: on each task the rate with the best mean.
    """
    parts = [cells[cells["optimizer"] == LDOG].assign(row=LDOG)]
    for (model, optimizer), group in cells[cells["optimizer"].isin(TUNED)].groupby(
        ["model", "optimizer"]
    ):
        tasks = cells.loc[cells["model"] == model, "task"].nunique()
        rates = group.groupby("peak_lr")["red"].agg(["median", "count"])
        rate = rates.loc[rates["count"] == tasks, "median"].idxmax()
        parts.append(group[group["peak_lr"] == rate].assign(row=f"{optimizer}_model_tuned"))
        best = group.loc[group.groupby("task")["mean"].idxmax()]
        parts.append(best.assign(row=f"{optimizer}_instance_tuned"))
    chosen = pd.concat(parts)
    hows = chosen["row"].map(lambda row: row.partition("_")[2].replace("_", "-"))
    return chosen.assign(how=hows)


def bars(cells: pd.DataFrame) -> pd.DataFrame:
    """Return Figure 3: the median RED in percent of each way of tuning, a row a model."""
    columns = [f"{optimizer}_{how}" for optimizer in TUNED for how in HOWS]
    medians = tuned(cells).pivot_table(index="model", columns="row", values="red", aggfunc="median")
    return medians[[*columns, LDOG]].reset_index().rename_axis(columns=None)


def write_reproduction(source: Path, tables: Path, figures: Path) -> list[Path]:
    """Write Tables 1, 2, 4, 5 and Figures 2, 3, 7; the same source gives the same bytes."""
    cells = read_cells(source / "tables_4_5.csv")
    rates = summary(cells[cells["optimizer"] != DOG], BY_RATE)
    numbers = {
        "paper_figure_2": rates.drop(columns="tasks"),
        "paper_figure_3": bars(cells),
        "paper_figure_7": cells[["model", "task", "optimizer", "peak_lr", "red"]],
    }
    pages = [Page(stem, _rounded(frame)) for stem, frame in numbers.items()]
    paths = write_pages([*pages, *tables_of_paper(source)], tables, MADE_BY)
    drawn = {
        "paper_figure_2.svg": svg(draw_by_rate(rates, (-50, 22), columns=4), MADE_BY),
        "paper_figure_3.svg": svg(draw_bars(summary(tuned(cells), BY_HOW), (-20, 30)), MADE_BY),
        "paper_figure_7.svg": svg(draw_cells(cells), MADE_BY),
    }
    write_files(drawn, figures, ".svg", MADE_BY)
    return [*paths, *(figures / name for name in drawn)]


def tables_of_paper(source: Path) -> Iterator[Page]:
    """Tables 1, 2, 4 and 5."""
    cells = read_cells(source / "tables_4_5.csv")
    from_scratch = pd.read_csv(source / "tables_1_2.csv")
    names = ["optimizer", "peak learning rate", "without averaging", "with averaging"]
    for number, title in TITLES.items():
        if number in (1, 2):
            table = from_scratch[from_scratch["table"] == number]
            table = table.drop(columns=["table", "setting"]).set_axis(names, axis=1)
        else:
            table = _wide(cells[cells["table"] == number])
        yield Page(
            stem=f"paper_table_{number}",
            exact=_rounded(table),
            title=f"The paper's Table {number}: {title}",
            shown=table.map(lambda value: f"{value:g}" if isinstance(value, float) else value),
            left=[str(name) for name in table if not pd.api.types.is_float_dtype(table[name])],
            latex=True,
        )


def _wide(cells: pd.DataFrame) -> pd.DataFrame:
    """Return a row a model, optimizer and rate, and a column a task."""
    std = cells["std"].map(" ± {:g}".format).where(cells["std"].notna(), "")
    named = cells.assign(
        cell=cells["mean"].map("{:g}".format) + std,
        rate=cells["peak_lr"].fillna(-1),  # DoG first
    )
    keys = ["model", "optimizer", "rate"]
    table = named.pivot(index=keys, columns="task", values="cell").fillna("–").reset_index()
    table = table.rename(columns={"rate": "peak learning rate"}).rename_axis(columns=None)
    rates = table["peak learning rate"]
    return table.assign(
        **{"peak learning rate": rates.map("{:g}".format).where(rates >= 0, "none")}
    )


def _rounded(frame: pd.DataFrame) -> pd.DataFrame:
    numeric = frame.select_dtypes("number").columns.difference(["peak_lr"])
    return frame.assign(**{name: frame[name].round(3) for name in numeric})


# Figures ------------------------------------------------------------------------------------------


def draw_cells(cells: pd.DataFrame) -> Any:
    """Draw Figure 7: RED by peak learning rate for every pair of model and task."""
    pairs = list(cells[["model", "task"]].drop_duplicates().itertuples(index=False, name=None))
    figure, grid = panels([f"{model}, {task}" for model, task in pairs], columns=8)
    for (model, task), axes in zip(pairs, grid.values(), strict=True):
        of_pair = cells[(cells["model"] == model) & (cells["task"] == task)]
        for optimizer, (marker, line, colour) in zip(TUNED, CURVES, strict=False):
            part = of_pair[of_pair["optimizer"] == optimizer].sort_values("peak_lr")
            axes.plot(
                part["peak_lr"], part["red"], marker=marker, linestyle=line, color=colour,
                markersize=2.5, linewidth=0.9, label=optimizer,
            )  # fmt: skip
        ldog = of_pair[of_pair["optimizer"] == LDOG].set_index("optimizer")["red"]
        across(axes, ldog, tuning_free_looks([LDOG]))
        axes.set_ylim(-60, 40)
    label(figure, grid, "peak learning rate", "RED, %")
    return figure
