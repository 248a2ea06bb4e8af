"""Makes the tables that compare DoG with tuned baselines: one a problem, and a summary of all."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from analysis import statistics, text
from analysis.records import write_if_changed
from analysis.selection import (
    DEFAULT,
    DOG,
    INSTANCE_TUNED,
    MODEL_TUNED,
    choose,
    iterate,
    newest,
)
from runner import TUNING_SEED

# Says whose a file is: only files with it are removed when their table is gone.
MADE_BY = "made by scripts/tables.py of dog-bench, do not edit"

IDENTITY = ["problem_id", "task", "task_version", "model", "protocol", "protocol_version"]
IDENTITY += ["metric", "steps", "batch_size", "train_examples"]
# Scores, half widths and RED are fractions; "hours" includes tuning; "tried" counts crashed seeds.
CELLS = ["optimizer", "label", "row", "setting", "edge", "test", "test_half_width", "last"]
CELLS += ["averaged", "red", "red_of_pairs", "seeds", "tried", "diverged", "runs", "hours"]


STEM = ["task", "model", "protocol"]
LEFT = ["task", "model", "protocol", "optimizer", "row"]


# What a cell is made from; few columns are faster to filter.
_RUN = ["optimizer", "label", "setting", "opt_default", "status", "test", "error", "test_last"]
_RUN += ["seed", "test_averaged", "test_examples", "seconds"]


@dataclass(frozen=True)
class Table:
    """One problem's comparison."""

    stem: str  # <task>-<model>-<protocol>: the name of its files
    problem: pd.Series  # the columns of records.csv that all its runs share
    cells: pd.DataFrame  # CELLS, a line for each optimizer and row
    notes: list[str]

    @property
    def title(self) -> str:
        problem = self.problem
        return f"{problem.task} · {problem.model} · {problem.protocol} v{problem.protocol_version}"


def build(frame: pd.DataFrame) -> list[Table]:
    """The tables of all problems in `frame` (from `records.collect`), newest versions only."""
    current = newest(frame)
    choices = dict(list(choose(current).groupby("problem_id")))
    runs = dict(list(scored(current)[["problem_id", *_RUN]].groupby("problem_id")))
    problems = current.sort_values("test_examples").drop_duplicates("problem_id")
    problems = problems.sort_values([*STEM, "problem_id"])
    names = ["-".join(problem) for problem in zip(*(problems[part] for part in STEM), strict=True)]
    old = {name: text.left_out(group) for name, group in frame.groupby(STEM)}
    tables = []
    for name, (_, problem) in zip(names, problems.iterrows(), strict=True):
        problem_id = problem.problem_id
        rivals = problems[[other == name for other in names]]
        rivals = rivals[rivals["problem_id"] != problem_id]
        stem = name + (f"-{problem_id[:6]}" if len(rivals) else "")
        chosen = choices[problem_id]
        cells = _cells(runs[problem_id], chosen)
        notes = [
            *text.warnings(chosen, cells),
            *(text.difference(problem, rival) for _, rival in rivals.iterrows()),
            *old[tuple(problem[STEM])],
            *text.explanations(problem, chosen, cells),
        ]
        tables.append(Table(stem, problem, cells, notes))
    return tables


def scored(runs: pd.DataFrame) -> pd.DataFrame:
    """Adds `iterate`, chosen by validation, `test`, that iterate's test score, and `error`."""
    chosen = iterate(runs)
    test = runs["test_last"].mask(chosen == "averaged", runs["test_averaged"])
    error = statistics.error(test, runs["higher_is_better"])
    return runs.assign(iterate=chosen, test=test, error=error)


def reported(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs that tables report: of all seeds below the tuning seed's."""
    return runs[runs["seed"] < TUNING_SEED]


# A problem's reported runs: an array of shape (runs,) for each column. (Selecting from a frame
# takes a hundred times as long, and the tables shall be there at once.)
Runs = dict[str, np.ndarray]


def _select(runs: Runs, which: np.ndarray) -> Runs:
    return {name: values[which] for name, values in runs.items()}


def _cells(frame: pd.DataFrame, choices: pd.DataFrame) -> pd.DataFrame:
    seen = reported(frame)
    runs = {name: seen[name].to_numpy() for name in _RUN}
    runs["test_examples"] = seen["test_examples"].to_numpy(float, na_value=np.nan)
    is_dog = (runs["optimizer"] == DOG) & runs["opt_default"] & (runs["status"] != "failed")
    dog = _select(runs, is_dog)
    cells = pd.DataFrame(
        [_cell(runs, choice, dog) for choice in choices.to_dict("records")],
        columns=[name for name in CELLS if name != "label"],
    )
    labels = frame.set_index("optimizer")["label"].to_dict()
    # DoG and its relatives first: they are what the others are compared with.
    first = cells["optimizer"].map({DOG: 0, "ldog": 1}).fillna(2)
    cells = cells.assign(label=cells["optimizer"].map(labels), first=first).sort_values(
        ["first", "label", "optimizer"], kind="stable", ignore_index=True
    )
    return cells[CELLS]


def _cell(runs: Runs, choice: dict, dog: Runs) -> dict:
    """One line of a table, from the reported runs of one setting and those of DoG."""
    same = (runs["optimizer"] == choice["optimizer"]) & (runs["setting"] == choice["setting"])
    tried = _select(runs, same & (runs["opt_default"] | (choice["row"] != DEFAULT)))
    done = _select(tried, tried["status"] != "failed")
    mean, half_width = statistics.student_t(done["test"])
    red = of_pairs = np.nan
    if dog["error"].size and statistics.has_enough_errors(
        dog["error"].mean(), dog["test_examples"][0]
    ):
        red = statistics.relative_error_difference(dog["error"], done["error"])
        of_pairs = statistics.relative_error_difference_of_pairs(dog["error"], done["error"])
    tuning = int(choice["tuning_runs"])
    final = 0.0 if choice["row"] == MODEL_TUNED else _mean(done["seconds"])
    return {
        **{key: choice[key] for key in ("optimizer", "row", "setting", "edge")},
        "test": mean,
        "test_half_width": half_width,
        "last": _mean(done["test_last"]),
        "averaged": _mean(done["test_averaged"]),
        "red": red,
        "red_of_pairs": of_pairs,
        "seeds": done["test"].size,
        "tried": tried["test"].size,
        "diverged": int((done["status"] == "diverged").sum()),
        # Model-tuned is charged the K runs that chose its rate, the others their final run too.
        "runs": {DEFAULT: 1, MODEL_TUNED: tuning, INSTANCE_TUNED: tuning + 1}[choice["row"]],
        "hours": (choice["tuning_seconds"] + final) / 3600,
    }


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else np.nan


def write(tables: list[Table], frame: pd.DataFrame, folder: Path) -> list[Path]:
    """Writes each table as .md and .csv and the summary of all; removes those no longer made."""
    files = {"summary.md": _summary(tables, frame)}
    for table in tables:
        files[f"{table.stem}.md"] = f"{_marker()}\n# {table.title}\n\n{_body(table)}\n"
    for name, made in (*((table.stem, [table]) for table in tables), ("summary", tables)):
        numbers = pd.concat([_numbers(table) for table in made])
        files[f"{name}.csv"] = numbers.to_csv(index=False, lineterminator="\n")
    for name, content in files.items():
        write_if_changed(folder / name, content)
    header = ",".join([*IDENTITY, *CELLS])
    remove_stale(folder.glob("*.md"), files, _marker())
    remove_stale(folder.glob("*.csv"), files, header)
    return [folder / name for name in files]


def remove_stale(paths: Iterable[Path], keep: Iterable[str], mark: str) -> None:
    """Removes the files that have our `mark` near their beginning and names not in `keep`."""
    for path in sorted(paths):
        if path.name not in keep and mark in path.read_text(errors="replace")[:1000]:
            path.unlink()


def render(tables: list[Table], problem_ids: Sequence[str] | None = None) -> str:
    """The tables for the terminal: all, or those of the given problems (or beginnings of ids)."""
    wanted = [
        table
        for table in tables
        if problem_ids is None or table.problem.problem_id.startswith(tuple(problem_ids))
    ]
    return "\n\n".join(f"{table.title}\n\n{_body(table)}" for table in wanted)


def _body(table: Table) -> str:
    cells = text.markdown(text.display(table.cells, table.problem), LEFT)
    return f"{text.heading(table.problem)}\n\n{cells}\n\n{text.bullets(table.notes)}"


def _marker() -> str:
    return f"<!-- {MADE_BY} -->"


def _numbers(table: Table) -> pd.DataFrame:
    """The table's cells beside what identifies its problem, rounded below any real difference."""
    identity = pd.DataFrame([table.problem[IDENTITY]] * len(table.cells), columns=IDENTITY)
    cells = table.cells.round({"hours": 8}).round(8)
    return pd.concat([identity.reset_index(drop=True), cells], axis=1)


def _summary(tables: list[Table], frame: pd.DataFrame) -> str:
    parts = []
    for table in tables:
        cells = text.display(table.cells, table.problem)
        score = cells.columns[3]
        cells = cells.rename(columns={score: "test"}).drop(columns=["last", "averaged"])
        cells.insert(0, "table", f"[{table.stem}]({table.stem}.md)")
        cells.insert(1, "steps", text.count(table.problem.steps))
        cells.insert(5, "metric", score)
        parts.append(cells)
    lines = text.markdown(pd.concat(parts), [*LEFT, "table", "metric"])
    notes = ["The tables linked explain rows and columns.", *text.left_out(frame)]
    return f"{_marker()}\n# All results\n\n{lines}\n\n{text.bullets(notes)}\n"
