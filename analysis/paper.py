"""The paper's tables and figures again, from the numbers that it published (results/paper)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis import text
from analysis.figures.style import ACROSS, CURVES, svg
from analysis.records import write_if_changed
from analysis.statistics import relative_error_difference

MADE_BY = "made by scripts/paper_tables.py of dog-bench, do not edit"
TUNED = ("SGD", "Adam")
HOWS = ("model_tuned", "instance_tuned")
# Marker, line and colour of each optimizer, as in the figures of our own records.
LOOK = dict(zip(TUNED, CURVES, strict=False)) | {"L-DoG": ("", *ACROSS["ldog"])}


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
    dog = cells[cells["optimizer"] == "DoG"].set_index(keys)["mean"]
    dog_error = 100 - dog.reindex(pd.MultiIndex.from_frame(cells[keys])).to_numpy()
    pairs = zip(dog_error, 100 - cells["mean"], strict=True)
    cells["red"] = [100 * relative_error_difference([dog], [other]) for dog, other in pairs]
    return cells


def by_rate(cells: pd.DataFrame) -> pd.DataFrame:
    """Return Figure 2: median and quartiles of RED over a model's tasks, for each learning rate.

    Columns: model, optimizer, peak_lr, median, q1, q3, in percent, and `tasks`, how many cells.
    L-DoG has one line a model, without a rate. Quartiles are interpolated linearly.
    """
    chosen = cells[cells["optimizer"].isin([*TUNED, "L-DoG"])]
    groups = chosen.groupby(["model", "optimizer", "peak_lr"], dropna=False)["red"]
    frame = groups.agg(
        median="median", q1=lambda red: red.quantile(0.25), q3=lambda red: red.quantile(0.75),
        tasks="count",
    )  # fmt: skip
    return frame.reset_index()


def tuned(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the cells that each way of tuning chooses, with a column `row` that names it.

    `model_tuned`: the one rate with the largest median RED over the model's tasks, among those
    that were tried on all of them; `instance_tuned`: on each task the rate with the best mean.
    """
    parts = [cells[cells["optimizer"] == "L-DoG"].assign(row="L-DoG")]
    for (model, optimizer), group in cells[cells["optimizer"].isin(TUNED)].groupby(
        ["model", "optimizer"]
    ):
        tasks = cells.loc[cells["model"] == model, "task"].nunique()
        rates = group.groupby("peak_lr")["red"].agg(["median", "count"])
        rate = rates.loc[rates["count"] == tasks, "median"].idxmax()
        parts.append(group[group["peak_lr"] == rate].assign(row=f"{optimizer}_model_tuned"))
        best = group.loc[group.groupby("task")["mean"].idxmax()]
        parts.append(best.assign(row=f"{optimizer}_instance_tuned"))
    return pd.concat(parts)


def bars(cells: pd.DataFrame) -> pd.DataFrame:
    """Return Figure 3: the median RED in percent of each way of tuning, a row a model."""
    columns = [f"{optimizer}_{how}" for optimizer in TUNED for how in HOWS]
    medians = tuned(cells).pivot_table(index="model", columns="row", values="red", aggfunc="median")
    return medians[[*columns, "L-DoG"]].reset_index().rename_axis(columns=None)


def write(source: Path, tables: Path, figures: Path) -> list[Path]:
    """Write Tables 1, 2, 4, 5 and Figures 2, 3, 7; the same source gives the same bytes."""
    cells = read_cells(source / "tables_4_5.csv")
    files = {
        tables / "paper_figure_2.csv": _csv(by_rate(cells).drop(columns="tasks")),
        tables / "paper_figure_3.csv": _csv(bars(cells)),
        tables / "paper_figure_7.csv": _csv(
            cells[["model", "task", "optimizer", "peak_lr", "red"]]
        ),
        figures / "paper_figure_2.svg": svg(draw_by_rate(cells), MADE_BY),
        figures / "paper_figure_3.svg": svg(draw_bars(cells), MADE_BY),
        figures / "paper_figure_7.svg": svg(draw_cells(cells), MADE_BY),
    }
    for number, title, table in _tables(source, cells):
        stem = tables / f"paper_table_{number}"
        head = f"<!-- {MADE_BY} -->\n# The paper's Table {number}: {title}\n\n"
        left = [str(name) for name in table if not pd.api.types.is_float_dtype(table[name])]
        shown = table.map(lambda value: f"{value:g}" if isinstance(value, float) else value)
        files[stem.with_suffix(".md")] = head + text.markdown(shown, left) + "\n"
        files[stem.with_suffix(".csv")] = _csv(table)
        files[stem.with_suffix(".tex")] = f"% {MADE_BY}\n{text.latex(shown, [*map(str, shown)])}"
    for path, content in files.items():
        write_if_changed(path, content)
    return list(files)


def _tables(source: Path, cells: pd.DataFrame) -> Iterator[tuple[int, str, pd.DataFrame]]:
    from_scratch = pd.read_csv(source / "tables_1_2.csv")
    titles = {
        1: "fine-tuning CLIP ViT-B/32 on ImageNet, accuracy in percent",
        2: "training WRN-28-10 on CIFAR-10 from scratch, accuracy in percent",
        4: "language, metric in percent, mean ± std over seeds",
        5: "vision, accuracy in percent, mean ± std over seeds",
    }
    for number in (1, 2):
        table = from_scratch[from_scratch["table"] == number].drop(columns=["table", "setting"])
        names = ["optimizer", "peak learning rate", "without averaging", "with averaging"]
        yield number, titles[number], table.set_axis(names, axis=1)
    for number in (4, 5):
        yield number, titles[number], _wide(cells[cells["table"] == number])


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


def _csv(frame: pd.DataFrame) -> str:
    rounded = frame.round({"median": 3, "q1": 3, "q3": 3, "red": 3})
    numeric = frame.select_dtypes("number").columns.difference(["peak_lr"])
    rounded[numeric] = frame[numeric].round(3)
    return rounded.to_csv(index=False, lineterminator="\n")


# Figures ------------------------------------------------------------------------------------------


def draw_by_rate(cells: pd.DataFrame) -> Any:
    """Draw Figure 2: median RED by peak learning rate, quartiles shaded, a panel a model."""
    frame = by_rate(cells)
    figure, panels = _panels(list(frame["model"].unique()), columns=4)
    for model, axes in panels.items():
        own = frame[frame["model"] == model]
        for optimizer in TUNED:
            marker, line, colour = LOOK[optimizer]
            part = own[own["optimizer"] == optimizer].sort_values("peak_lr")
            axes.plot(
                part["peak_lr"], part["median"], marker=marker, linestyle=line, color=colour,
                markersize=4, label=optimizer,
            )  # fmt: skip
            axes.fill_between(
                part["peak_lr"], part["q1"], part["q3"], color=colour, alpha=0.15, linewidth=0
            )
        _across(axes, own.loc[own["optimizer"] == "L-DoG", "median"].iloc[0])
        axes.set_ylim(-50, 22)
    _label(figure, panels, "peak learning rate", "median RED, %")
    return figure


def draw_bars(cells: pd.DataFrame) -> Any:
    """Draw Figure 3: median RED with quartiles of each way of tuning, a group a model."""
    from matplotlib.figure import Figure

    chosen = tuned(cells)
    rows = [*(f"{optimizer}_{how}" for how in HOWS for optimizer in TUNED), "L-DoG"]
    models = sorted(chosen["model"].unique())
    figure = Figure(figsize=(9.2, 3.6))
    axes = figure.add_axes((0.07, 0.12, 0.72, 0.82))
    for i, row in enumerate(rows):
        optimizer, _, how = row.partition("_")
        groups = chosen[chosen["row"] == row].groupby("model")["red"]
        medians = groups.median().reindex(models)
        quartiles = [groups.quantile(q).reindex(models) for q in (0.25, 0.75)]
        spread = np.abs(np.array([quartile - medians for quartile in quartiles]))
        axes.bar(
            np.arange(len(models)) + (i - 2) * 0.16, medians, width=0.15, yerr=spread,
            color=LOOK[optimizer][2], hatch="//" if how == HOWS[0] else "", edgecolor="white",
            label=row.replace("_", " ", 1).replace("_", "-"), error_kw={"linewidth": 0.7},
        )  # fmt: skip
    axes.axhline(0, color="#000000", linewidth=0.8)
    axes.set_xticks(range(len(models)), models)
    axes.set_ylabel("median RED, % (above 0: better than DoG)")
    axes.set_ylim(-20, 30)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=8)
    return figure


def draw_cells(cells: pd.DataFrame) -> Any:
    """Draw Figure 7: RED by peak learning rate for every pair of model and task."""
    pairs = list(cells[["model", "task"]].drop_duplicates().itertuples(index=False, name=None))
    figure, panels = _panels([f"{model}, {task}" for model, task in pairs], columns=8)
    for (model, task), axes in zip(pairs, panels.values(), strict=True):
        own = cells[(cells["model"] == model) & (cells["task"] == task)]
        for optimizer in TUNED:
            marker, line, colour = LOOK[optimizer]
            part = own[own["optimizer"] == optimizer].sort_values("peak_lr")
            axes.plot(
                part["peak_lr"], part["red"], marker=marker, linestyle=line, color=colour,
                markersize=2.5, linewidth=0.9, label=optimizer,
            )  # fmt: skip
        red = own.loc[own["optimizer"] == "L-DoG", "red"]
        if not red.empty:
            _across(axes, red.iloc[0])
        axes.set_ylim(-60, 40)
    _label(figure, panels, "peak learning rate", "RED, %")
    return figure


def _panels(titles: list[str], columns: int) -> tuple[Any, dict[str, Any]]:
    from matplotlib.figure import Figure

    rows = -(-len(titles) // columns)
    figure = Figure(figsize=(2.3 * columns, 1.9 * rows + 0.5))
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    figure.subplots_adjust(
        left=0.45 / columns, right=0.99, bottom=0.45 / (rows + 0.3), top=1 - 0.3 / (rows + 0.3),
        wspace=0.25, hspace=0.4,
    )  # fmt: skip
    for axes in grid[len(titles) :]:
        axes.set_visible(False)
    for title, axes in zip(titles, grid, strict=False):
        axes.set_xscale("log")
        axes.set_title(title, fontsize=8)
        axes.tick_params(labelsize=7)
        axes.minorticks_off()  # a megabyte of them, in 78 panels
        axes.axhline(0, color="#000000", linewidth=0.8)
    return figure, dict(zip(titles, grid, strict=False))


def _across(axes: Any, red: float) -> None:
    _, line, colour = LOOK["L-DoG"]
    axes.axhline(red, color=colour, linestyle=line, linewidth=1, label="L-DoG")


def _label(figure: Any, panels: dict[str, Any], x: str, y: str) -> None:
    figure.supxlabel(x, fontsize=9)
    figure.supylabel(f"{y} (above 0: better than DoG)", fontsize=9)
    first = next(iter(panels.values()))
    first.legend(fontsize=6, frameon=False, loc="lower center")
