"""Makes the tables that compare DoG with tuned baselines: one a problem, and a summary of all."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from analysis import statistics, text, variants
from analysis.records import write_if_changed
from analysis.roles import ROLES, is_reference_run
from analysis.selection import (
    DEFAULT,
    LEAVE_ONE_TASK_OUT,
    choose,
    comparable,
    is_grid_run,
    iterate,
    left_out,
    validation_score,
)
from runner import TUNING_SEED

# Says whose a file is: only files with it are removed when their table is gone.
MADE_BY = "made by scripts/tables.py of dog-bench, do not edit"
MARK = f"<!-- {MADE_BY} -->"

IDENTITY = ["problem_id", "task", "task_version", "model", "protocol", "protocol_version"]
IDENTITY += ["metric", "steps", "batch_size", "train_examples"]
# Scores, half widths and RED are fractions; "hours" includes tuning; "tried" counts crashed seeds.
CELLS = ["optimizer", "label", "row", "setting", "edge", "test", "test_half_width", "last"]
CELLS += ["averaged", "red", "red_of_pairs", "seeds", "tried", "diverged", "runs", "hours"]


STEM = ["task", "model", "protocol"]
LEFT = ["task", "model", "protocol", "optimizer", "row"]

# What a cell is made from, and what else a table; few columns are faster to filter.
_RUN = ["optimizer", "role", "label", "setting", "opt_default", "status", "test", "error"]
_RUN += ["seed", "test_last", "test_averaged", "test_examples", "seconds", "metric"]
_TABLE = [*_RUN, "problem_id", "overrides", "grid", "learning_rate", "higher_is_better"]
_TABLE += ["validation_last", "validation_averaged", "replicas", "numerics"]


@dataclass(frozen=True)
class Table:
    """One problem's comparison."""

    stem: str  # <task>-<model>-<protocol>: the name of its files, as from `file_stems`
    problem: pd.Series  # the columns of records.csv that all its runs share, and of `variants.rank`
    variant: str  # what tells it from other problems of its name; "" where there are none
    cells: pd.DataFrame  # CELLS and role, a line for each optimizer and row
    errors: list[dict[int, float]]  # of each line, the reported runs' test errors by seed
    dog_error: float  # DoG's test error at the tuning seed; nan: none, or too few errors
    break_even: dict[str, statistics.BreakEven]  # of each optimizer with a grid, against that
    caveats: list[str]  # which runs were left out, and in what those compared differ
    notes: list[str]

    @property
    def title(self) -> str:
        problem = self.problem
        name = f"{problem.task} · {problem.model} · {problem.protocol} v{problem.protocol_version}"
        return f"{name} · {self.variant}" if self.variant else name


def build(frame: pd.DataFrame) -> list[Table]:
    """The tables of all problems in `frame` (from `records.collect`), comparable runs only."""
    current = comparable(frame)
    choices = dict(list(choose(current).groupby("problem_id")))
    runs = dict(list(scored(current)[_TABLE].groupby("problem_id")))
    problems = current.sort_values("test_examples").drop_duplicates("problem_id")
    problems = problems.drop(columns=["steps", "started"])
    problems = problems.merge(variants.rank(current), on="problem_id")
    problems = problems.sort_values([*STEM, "problem_id"], ignore_index=True)
    names = ["-".join(problem) for problem in zip(*(problems[part] for part in STEM), strict=True)]
    others = left_out(frame)
    old = {name: text.left_out(group) for name, group in frame.groupby(STEM)}
    tables = []
    stems = dict(zip(problems["problem_id"], file_stems(names, problems), strict=True))
    for name, alike in problems.groupby(STEM):
        labels = variants.labels(alike.to_dict("records"))
        for (_, problem), label in zip(alike.iterrows(), labels, strict=True):
            one = problem.problem_id
            table = _table(stems[one], problem, label, runs[one], choices[one])
            rivals = alike[alike["problem_id"] != one]
            differences = [text.difference(problem, rival) for _, rival in rivals.iterrows()]
            caveats = [*text.other_data(others.get(one, 0)), *table.caveats]
            notes = [*caveats, *differences, *old[name], *table.notes]
            tables.append(replace(table, caveats=caveats, notes=notes))
    return tables


def _table(
    stem: str, problem: pd.Series, variant: str, runs: pd.DataFrame, choices: pd.DataFrame
) -> Table:
    """The table of a problem's `scored` runs; its notes are of these alone."""
    cells, errors = compare(runs, choices)
    dog_error, caught_up = _break_even(runs)
    notes = [
        *text.warnings(problem, choices, cells),
        *text.explanations(problem, choices, cells),
        *text.shared_time(runs["replicas"].max()),
        *text.break_even(problem, dog_error, caught_up, choices, cells),
    ]
    caveats = text.numerics(_behind(runs, choices)["numerics"])
    return Table(stem, problem, variant, cells, errors, dog_error, caught_up, caveats, notes)


def file_stems(names: Sequence[str], problems: pd.DataFrame) -> list[str]:
    """The names of the problems' files: those given, and an id where several would be the same.

    `problems` has the columns problem_id and rank. Of problems of one name the first by
    `variants.rank` keeps it.
    """
    ranked = problems[["problem_id", "rank"]].assign(name=names).sort_values("rank")
    first = set(ranked.drop_duplicates("name", keep="last")["problem_id"])
    return [
        name if problem_id in first else f"{name}-{problem_id[:6]}"
        for name, problem_id in zip(names, problems["problem_id"], strict=True)
    ]


def _behind(runs: pd.DataFrame, choices: pd.DataFrame) -> pd.DataFrame:
    """The runs with a result behind a table of one problem: those reported, and those of tuning."""
    tuning = is_grid_run(runs) | is_reference_run(runs)
    rows = zip(choices["optimizer"], choices["setting"], strict=True)
    chosen = pd.MultiIndex.from_frame(runs[["optimizer", "setting"]]).isin([*rows])
    of_tuning = runs["seed"] == TUNING_SEED
    return runs[(runs["status"] != "failed") & ((of_tuning & tuning) | (~of_tuning & chosen))]


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


def compare(
    frame: pd.DataFrame, choices: pd.DataFrame
) -> tuple[pd.DataFrame, list[dict[int, float]]]:
    """The lines of a table, CELLS, one for each choice, and of each line the errors by seed.

    `frame` has the `scored` runs of one problem, `choices` the columns that `selection.choose`
    gives; the runs of a choice are those of its setting, or of its optimizer's default.
    """
    seen = reported(frame)
    runs = {name: seen[name].to_numpy() for name in _RUN}
    runs["test_examples"] = seen["test_examples"].to_numpy(float, na_value=np.nan)
    is_dog = is_reference_run(seen) & (seen["status"] != "failed")
    dog = _select(runs, is_dog.to_numpy(bool))
    lines = [_cell(runs, choice, dog) for choice in choices.to_dict("records")]
    labels = dict(zip(frame["optimizer"], frame["label"], strict=True))
    roles = dict(zip(frame["optimizer"], frame["role"], strict=True))

    def place(line: dict) -> tuple[int, str, str]:
        return ROLES.index(line["role"]), line["label"], line["optimizer"]

    named = (
        line | {"label": labels[line["optimizer"]], "role": roles[line["optimizer"]]}
        for line in lines
    )
    lines = sorted(named, key=place)
    errors = [line.pop("errors") for line in lines]
    return pd.DataFrame(lines, columns=[*CELLS, "role"]), errors


def _cell(runs: Runs, choice: dict, dog: Runs) -> dict:
    """One line of a table, from the reported runs of one setting and those of DoG."""
    same = (runs["optimizer"] == choice["optimizer"]) & (runs["setting"] == choice["setting"])
    tried = _select(runs, same & (runs["opt_default"] | (choice["row"] != DEFAULT)))
    done = _select(tried, tried["status"] != "failed")
    mean, half_width = statistics.student_t(done["test"])
    red = of_pairs = np.nan
    if dog["error"].size and statistics.has_enough_errors(
        dog["error"].mean(), dog["test_examples"][0], dog["metric"][0]
    ):
        red = statistics.relative_error_difference(dog["error"], done["error"])
        of_pairs = statistics.relative_error_difference_of_pairs(dog["error"], done["error"])
    tuning = int(choice["tuning_runs"])
    # A tuned row's user keeps the run that was chosen: the reported seeds repeat it to measure it.
    final = choice["row"] in (DEFAULT, LEAVE_ONE_TASK_OUT)
    final_seconds = _mean(done["seconds"]) if final else 0.0
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
        "runs": tuning + final,
        "hours": (choice["tuning_seconds"] + final_seconds) / 3600,
        "errors": dict(zip(done["seed"].tolist(), done["error"].tolist(), strict=True)),
    }


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else np.nan


def _break_even(runs: pd.DataFrame) -> tuple[float, dict[str, statistics.BreakEven]]:
    """DoG's error at the tuning seed and each grid's break-even with it, of one problem.

    `runs` are `scored`. Without such a run of DoG, or with too few errors, nan and nothing.
    """
    runs = runs[(runs["seed"] == TUNING_SEED) & (runs["status"] != "failed")]
    dog = runs[is_reference_run(runs)]
    enough = statistics.has_enough_errors(
        dog["error"], dog["test_examples"].astype("float64"), dog["metric"]
    )
    if not enough.any():
        return np.nan, {}
    dog_error = float(dog["error"].iloc[0])
    tried = runs[is_grid_run(runs)].sort_values(["learning_rate", "setting"])
    score = statistics.gain(validation_score(tried), tried["higher_is_better"])
    return dog_error, {
        str(optimizer): statistics.break_even(own["gain"], own["error"], own["seconds"], dog_error)
        for optimizer, own in tried.assign(gain=score).groupby("optimizer")
    }


def files(tables: list[Table], frame: pd.DataFrame) -> dict[str, str]:
    """Each table as .md, .csv and .tex and the summary of all as .md and .csv, by file name."""
    shown = [text.display(table.cells, table.problem) for table in tables]
    exact = [numbers(table.problem, table.cells) for table in tables]
    made = {"summary.md": _summary(tables, shown, frame), "summary.csv": csv(pd.concat(exact))}
    for table, cells, of_cells in zip(tables, shown, exact, strict=True):
        made[f"{table.stem}.md"] = f"{MARK}\n# {table.title}\n\n{_body(table, cells)}\n"
        made[f"{table.stem}.csv"] = csv(of_cells)
        made[f"{table.stem}.tex"] = f"% {MADE_BY}\n{text.latex(cells, LEFT)}"
    return made


def of_models(tables: Iterable[Table]) -> list[str]:
    """The names of the tables over all tasks of a model (`models.files`): one a protocol."""
    return [f"models-{one}.md" for one in sorted({table.problem.protocol for table in tables})]


def csv(frame: pd.DataFrame) -> str:
    """The numbers as the file holds them."""
    return frame.to_csv(index=False, lineterminator="\n")


def write(files: dict[str, str], folder: Path) -> None:
    """Writes the files by their names, where they differ; removes tables no longer made."""
    for name, content in files.items():
        write_if_changed(folder / name, content)
    stale = [path for path in folder.glob("*.md") if path.name not in files]
    for path in stale:
        if MARK in path.read_text(errors="replace")[:1000]:
            for suffix in (".csv", ".tex", ".md"):  # the one with the mark last
                path.with_suffix(suffix).unlink(missing_ok=True)


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
    shown = [text.display(table.cells, table.problem) for table in wanted]
    parts = zip(wanted, shown, strict=True)
    return "\n\n".join(f"{table.title}\n\n{_body(table, cells)}" for table, cells in parts)


def _body(table: Table, shown: pd.DataFrame) -> str:
    lines = text.markdown(shown, LEFT)
    return f"{text.heading(table.problem)}\n\n{lines}\n\n{text.bullets(table.notes)}"


def numbers(problem: pd.Series, cells: pd.DataFrame) -> pd.DataFrame:
    """The cells beside what identifies their problem, rounded below any real difference."""
    identity = pd.DataFrame([problem[IDENTITY]] * len(cells), columns=IDENTITY)
    cells = cells[CELLS].round({"hours": 8}).round(8)
    return pd.concat([identity.reset_index(drop=True), cells], axis=1)


def _summary(tables: list[Table], shown: list[pd.DataFrame], frame: pd.DataFrame) -> str:
    parts = []
    for table, cells in zip(tables, shown, strict=True):
        score = cells.columns[3]
        cells = cells.rename(columns={score: "test"}).drop(columns=["last", "averaged"])
        cells.insert(0, "table", f"[{table.stem}]({table.stem}.md)")
        cells.insert(1, "steps", text.count(table.problem.steps))
        cells.insert(5, "metric", score)
        parts.append(cells)
    lines = text.markdown(pd.concat(parts), [*LEFT, "table", "metric"])
    links = ", ".join(f"[{name}]({name})" for name in of_models(tables))
    notes = [
        "The tables linked explain rows and columns.",
        f"Over all tasks of a model, with intervals and verdicts: {links}.",
        *text.left_out(frame),
        *text.other_data(left_out(frame).sum()),
    ]
    return f"{MARK}\n# All results\n\n{lines}\n\n{text.bullets(notes)}\n"
