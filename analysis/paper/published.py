"""Sets our records beside the numbers that the paper published for the same cells."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from analysis import statistics
from analysis.choice import comparable, is_grid_run, left_out_of_other_data
from analysis.comparison import reported, scored
from analysis.paper.names import (
    AUGMENTS,
    FINAL,
    FIRST_MOVEMENTS,
    METRICS,
    MODELS,
    OPTIMIZERS,
    TASKS,
)
from analysis.paper.reproduction import read_cells
from analysis.roles import TUNED, is_reference_run
from analysis.tables.notes import other_data
from analysis.tables.page import Page, count, number, signed
from analysis.variants import by_key
from runner import ROOT, TUNING_SEED

PAPER = ROOT / "results" / "paper"

CELL = ["model", "task", "optimizer", "rate"]
COLUMNS = ["table", *CELL, "iterate", "protocol", "problem_id", "steps"]
COLUMNS += ["mean", "half_width", "seeds"]
COLUMNS += ["diverged", "paper_mean", "paper_std", "difference"]
COLUMNS += ["red", "paper_red", "departures"]

ORDER = ["table", *CELL, "protocol", "problem_id", "iterate"]
NAMES = {
    "steps": "steps",
    "batch_size": "batch size",
    "metric": "metric",
    "train_examples": "training examples",
    "validation_examples": "validation examples",
    "test_examples": "test examples",
    "reps_rel": "initial step length",
    "model.batch_norm": "batch norm",
    "train.augment": "augmentation",
}
NOTHING = "nothing of steps, batch, examples, batch norm, initial step length"
_NOTES = [
    "ours: the mean over the seeds named and the half width of Student's 95 % t interval; a rate "
    f"that was tried and not chosen has the tuning seed's run alone ({TUNING_SEED}).",
    "paper: its printed mean and standard deviation over seeds (none: a single seed), version 1 of "
    "arXiv 2302.12022; Tables 4 and 5 have the iterate that validation chose, Tables 1 and 2 both.",
    "ours − paper: in points, of the same metric. A line is of one protocol and one problem. What "
    "it has other than the paper is named of steps, batch size, metric, examples, batch norm, "
    "augmentation and DoG's initial step length; so are settings that tell our own lines of a cell "
    "apart, and another protocol than `paper`, whose weight decay, clipping, warm-up and image "
    "size may differ, too.",
    "Metrics are in percent. RED: (err_DoG − err) / err_DoG, of each side's own DoG; none where "
    f"ours makes fewer than {statistics.LEAST_ERRORS} errors. A rate with the tuning seed's run "
    "alone is compared with DoG's mean over its reported seeds: of other seeds, and one against "
    "several, it is noisier than the lines of the same seeds.",
]


def pages_of_published(frame: pd.DataFrame) -> Iterator[Page]:
    """The table `published`; none where we have run no cell of the paper's."""
    cells = compare_with_paper(frame)
    if cells.empty:
        return
    others = left_out_of_other_data(frame)
    notes = other_data(others[others.index.isin(cells["problem_id"])].sum())
    yield Page(
        stem="published",
        exact=cells.round(4),
        title="Our records beside the paper's numbers",
        shown=_shown(cells),
        left=["model", "task", "optimizer", "iterate", "protocol", "other than in the paper"],
        notes=[*notes, *_NOTES],
    )


def compare_with_paper(frame: pd.DataFrame) -> pd.DataFrame:
    """A line for each cell of Tables 1, 2, 4 and 5 and each problem of ours that has it.

    `frame` is what `records.collect` returns. Returns `COLUMNS`; mean, half_width (Student's 95 %
    t), paper_mean, paper_std and difference (ours − theirs) are in percent and points.

    - rate: the peak learning rate, 0 for DoG and L-DoG, which are compared with default settings;
    - iterate: "chosen" by validation (Tables 4 and 5), or "last" and "averaged" (Tables 1 and 2);
    - protocol, problem_id, steps: of our runs. A line is of one problem, and so of one protocol;
    - seeds: the seeds that ours is the mean of: the reported ones, or else the tuning seed;
    - red, paper_red: RED of seed means against DoG's own cell, in percent, of Tables 4 and 5
      alone; ours only where DoG with its default settings was run on the same problem and makes
      enough errors there (`statistics.has_enough_errors`);
    - departures: what our runs have other than the paper, as far as its tables and text tell (and
      records.csv: of clipping and weight decay only that the protocol is another), and what tells
      them apart from our other problems of the same cell and protocol.
    """
    runs = comparable(frame)
    runs = runs[runs["model"].isin(MODELS) & runs["task"].isin(TASKS)]
    runs = runs[runs["optimizer"].isin(OPTIMIZERS) & (runs["status"] != "failed")]
    runs = runs[runs["opt_default"] | is_grid_run(runs)]
    if runs.empty:
        return pd.DataFrame(columns=COLUMNS)
    theirs: dict[tuple, list[dict]] = {}
    for cell in _cells().to_dict("records"):
        theirs.setdefault(tuple(cell[name] for name in CELL), []).append(cell)
    budgets = _budgets()
    runs = scored(runs)
    dog = reported(runs[is_reference_run(runs)])
    dog_errors: dict[Any, Any] = dict(list(dog.groupby("problem_id")["error"]))
    variants = _variants(runs)
    rows = []
    for (problem_id, *_), tried in runs.groupby(["problem_id", "optimizer", "setting"]):
        seen = reported(tried) if len(reported(tried)) else tried
        same = theirs.get(_cell(seen.iloc[0]), [])
        dog_error = dog_errors.get(problem_id, [])
        variant = variants[problem_id]
        rows += [_line(seen, dog_error, cell, budgets[cell["task"]], variant) for cell in same]
    return pd.DataFrame(rows, columns=COLUMNS).sort_values(ORDER, ignore_index=True)


def _cell(run: pd.Series) -> tuple[str, str, str, float]:
    """`CELL` of a run by the paper's names; the rate of an optimizer without one is 0."""
    # As it is written: 0.1 · 0.1 is 0.01.
    rate = float(f"{run['learning_rate']:.6g}") if run["role"] == TUNED else 0.0
    return MODELS[run["model"]], TASKS[run["task"]], OPTIMIZERS[run["optimizer"]], rate


def _cells() -> pd.DataFrame:
    """The cells of Tables 1, 2, 4 and 5: table, `CELL`, iterate, and what the paper has."""
    tuned = read_cells(PAPER / "tables_4_5.csv").rename(columns={"peak_lr": "rate"})
    tuned = tuned.rename(columns={"mean": "paper_mean", "std": "paper_std", "red": "paper_red"})
    parts = [tuned.assign(iterate="chosen", rate=tuned["rate"].fillna(0))]
    final = pd.read_csv(PAPER / "tables_1_2.csv").rename(columns={"algorithm": "optimizer"})
    # "0.1 (canonical)" is a rate, and "-" is none.
    rate = final["peak_lr"].str.extract(r"([\d.e-]*\d)", expand=False).astype(float).fillna(0)
    names = final["table"].map({number: name[:2] for number, name in FINAL.items()})
    final = final.assign(rate=rate, model=names.str[0], task=names.str[1])
    for iterate, column in (("last", "without"), ("averaged", "with")):
        score = final[f"acc_{column}_averaging_pct"]
        parts.append(final.assign(iterate=iterate, paper_mean=score, paper_std=np.nan))
    columns = ["table", *CELL, "iterate", "paper_mean", "paper_std", "paper_red"]
    return pd.concat(parts)[columns]


def _budgets() -> dict[str, dict[Any, Any]]:
    """What the paper says of each task's budget: by the names of our columns."""
    config = pd.read_csv(PAPER / "table_3_config.csv").set_index("task")
    config = config[["steps", "batch_size", "metric"]]
    budgets: dict[str, dict[Any, Any]] = {
        str(task): dict(row) for task, row in config.to_dict("index").items()
    }
    vision = budgets.pop("VTAB datasets")
    for split in pd.read_csv(PAPER / "vtab_splits.csv").to_dict("records"):
        sizes = zip(("train", "validation", "test"), ("train", "val", "test"), strict=True)
        counts: dict[Any, Any] = {f"{ours}_examples": split[theirs] for ours, theirs in sizes}
        budgets[split["task"]] = vision | counts
    budgets |= {task: dict(budget) for _, task, budget in FINAL.values()}
    for task, augment in AUGMENTS.items():
        budgets[task] |= {"model.batch_norm": "train", "train.augment": augment}
    return budgets


def _variants(runs: pd.DataFrame) -> dict[Any, set[str]]:
    """Of each problem the settings that not all of its model, task and protocol share.

    And a precision below fp32, of which the paper says nothing.
    """
    departing: dict[Any, set[str]] = {}
    problems = runs.drop_duplicates("problem_id")
    for _, alike in problems.groupby(["model", "task", "protocol"]):
        pairs = zip(alike["problem_id"], alike["problem_settings"], strict=True)
        settings = {problem_id: set(text.split("; ")) for problem_id, text in pairs}
        shared = set.intersection(*settings.values())
        named = shared - {"train.precision=bf16"}
        departing |= {problem_id: texts - named for problem_id, texts in settings.items()}
    return departing


def _line(
    runs: pd.DataFrame,
    dog_errors: ArrayLike,
    theirs: dict[Any, Any],
    budget: dict[Any, Any],
    variant: set[str],
) -> dict[str, Any]:
    """Our runs of one problem and setting beside the paper's cell."""
    first = runs.iloc[0]
    scores = 100 * runs["test" if theirs["iterate"] == "chosen" else f"test_{theirs['iterate']}"]
    mean, half_width = statistics.student_t(scores)
    red = np.nan
    dog_error = np.mean(np.asarray(dog_errors, float)) if np.size(dog_errors) else np.nan
    if statistics.has_enough_errors(dog_error, first["test_examples"], first["metric"]):
        red = 100 * statistics.relative_error_difference(dog_errors, runs["error"])
    seeds = ", ".join(str(seed) for seed in sorted(runs["seed"]))
    movement = FIRST_MOVEMENTS[theirs["task"]].get(theirs["optimizer"])
    departures = _departures(first, budget | ({"reps_rel": movement} if movement else {}))
    departures |= {text: text for text in sorted(variant) if text.split("=")[0] not in budget}
    return {
        **theirs,
        "protocol": f"{first['protocol']} v{first['protocol_version']}",
        "problem_id": first["problem_id"],
        "steps": first["steps"],
        "mean": mean,
        "half_width": half_width,
        "seeds": seeds,
        "diverged": int((runs["status"] == "diverged").sum()),
        "red": red if theirs["iterate"] == "chosen" else np.nan,
        "difference": np.nan if "metric" in departures else mean - theirs["paper_mean"],
        "departures": "; ".join(departures.values()),
    }


def _departures(problem: pd.Series, budget: dict[Any, Any]) -> dict[str, str]:
    """What the problem has other than the paper's budget: "steps 468, paper 20,000" of "steps"."""
    here = problem.to_dict() | by_key(problem["problem_settings"])
    here["metric"] = METRICS.get(problem["metric"], problem["metric"])
    protocol = problem["protocol"]
    other = {} if protocol == "paper" else {"protocol": f"protocol {protocol}"}
    # A model without batch norm has no such key.
    return other | {
        key: f"{NAMES[key]} {_value(here[key])}, paper {_value(value)}"
        for key, value in budget.items()
        if not pd.isna(here.get(key)) and here[key] != value
    }


def _value(value: Any) -> str:
    if isinstance(value, str):
        return value
    return f"{value:g}" if isinstance(value, float) else count(value)


def _shown(cells: pd.DataFrame) -> pd.DataFrame:
    """The lines as a reader sees them: text, in named columns."""
    ours = zip(cells["mean"], cells["half_width"], strict=True)
    theirs = zip(cells["paper_mean"], cells["paper_std"], strict=True)
    return pd.DataFrame(
        {
            "table": cells["table"].astype(str),
            **{name: cells[name] for name in ("model", "task", "optimizer")},
            "learning rate": [f"{rate:g}" if rate else "none" for rate in cells["rate"]],
            "iterate": cells["iterate"],
            "protocol": cells["protocol"],
            "steps": cells["steps"].map(count),
            "ours ± t": [_plus_minus(*pair) for pair in ours],
            "seeds": cells["seeds"],
            "diverged": cells["diverged"].astype(str),
            "paper ± std": [_plus_minus(*pair) for pair in theirs],
            "ours − paper": [signed(points / 100) for points in cells["difference"]],
            "RED %": [signed(red / 100) for red in cells["red"]],
            "paper's RED %": [signed(red / 100) for red in cells["paper_red"]],
            "other than in the paper": cells["departures"].replace("", NOTHING),
        }
    )


def _plus_minus(mean: float, width: float) -> str:
    return number(mean, ".1f") + ("" if np.isnan(width) else f" ± {width:.1f}")
