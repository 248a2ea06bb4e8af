"""Makes the tables that compare DoG with tuned baselines: one a problem, and a summary of all."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
import pandas as pd

from analysis import statistics, text
from analysis.records import write_if_changed
from analysis.selection import (
    DEFAULT,
    DOG,
    MODEL_TUNED,
    MODEL_TUNED_MEAN,
    choose,
    is_grid_run,
    is_reference,
    iterate,
    newest,
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
# Which of the variants of a problem comes first: the one with the largest of these.
RANK = ["runs", "steps", "problem_id"]


# What a cell is made from; few columns are faster to filter.
_RUN = ["optimizer", "label", "setting", "opt_default", "status", "test", "error", "test_last"]
_RUN += ["seed", "test_averaged", "test_examples", "seconds", "higher_is_better"]


@dataclass(frozen=True)
class Table:
    """One problem's comparison."""

    stem: str  # <task>-<model>-<protocol>: the name of its files, as from `file_stems`
    problem: pd.Series  # the columns of records.csv that all its runs share, and `runs`: how many
    cells: pd.DataFrame  # CELLS, a line for each optimizer and row
    errors: list[dict[int, float]]  # of each line, the reported runs' test errors by seed
    break_even: dict[str, statistics.BreakEven]  # of each optimizer with a grid, against DoG
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
    trials = _trials(current)
    problems = current.sort_values("test_examples").drop_duplicates("problem_id")
    problems = problems.sort_values([*STEM, "problem_id"])
    problems = problems.assign(
        runs=problems["problem_id"].map(current["problem_id"].value_counts())
    )
    names = ["-".join(problem) for problem in zip(*(problems[part] for part in STEM), strict=True)]
    together = current.groupby("problem_id")["replicas"].max()
    old = {name: text.left_out(group) for name, group in frame.groupby(STEM)}
    tables = []
    stems = file_stems(names, problems)
    for name, stem, (_, problem) in zip(names, stems, problems.iterrows(), strict=True):
        problem_id = problem.problem_id
        rivals = problems[[other == name for other in names]]
        rivals = rivals[rivals["problem_id"] != problem_id]
        chosen = choices[problem_id]
        cells, errors = compare(runs[problem_id], chosen)
        caught_up = _break_even(trials.get(problem_id, {}), cells, errors)
        notes = [
            *text.warnings(problem, chosen, cells),
            *(text.difference(problem, rival) for _, rival in rivals.iterrows()),
            *old[tuple(problem[STEM])],
            *text.explanations(problem, chosen, cells),
            *text.shared_time(together[problem_id]),
            *text.break_even(caught_up, chosen, cells),
        ]
        tables.append(Table(stem, problem, cells, errors, caught_up, notes))
    return tables


def file_stems(names: Sequence[str], problems: pd.DataFrame) -> list[str]:
    """The names of the problems' files: those given, and an id where several would be the same.

    `problems` has the columns `RANK`. Of problems of one name that with the most runs keeps it, so
    that links to it stay right when a variant is run; of equals, that with the most steps.
    """
    ranked = problems[RANK].assign(name=names).sort_values(RANK)
    first = set(ranked.drop_duplicates("name", keep="last")["problem_id"])
    return [
        name if problem_id in first else f"{name}-{problem_id[:6]}"
        for name, problem_id in zip(names, problems["problem_id"], strict=True)
    ]


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
    is_dog = (runs["optimizer"] == DOG) & runs["opt_default"] & (runs["status"] != "failed")
    dog = _select(runs, is_dog)
    lines = [_cell(runs, choice, dog) for choice in choices.to_dict("records")]
    labels = dict(zip(frame["optimizer"], frame["label"], strict=True))

    def place(line: dict) -> tuple[int, str, str]:
        # DoG and its relatives first: they are what the others are compared with.
        first = {DOG: 0, "ldog": 1}.get(line["optimizer"], 2)
        return first, line["label"], line["optimizer"]

    lines = sorted((line | {"label": labels[line["optimizer"]]} for line in lines), key=place)
    errors = [line.pop("errors") for line in lines]
    return pd.DataFrame(lines, columns=CELLS), errors


def _cell(runs: Runs, choice: dict, dog: Runs) -> dict:
    """One line of a table, from the reported runs of one setting and those of DoG."""
    same = (runs["optimizer"] == choice["optimizer"]) & (runs["setting"] == choice["setting"])
    tried = _select(runs, same & (runs["opt_default"] | (choice["row"] != DEFAULT)))
    done = _select(tried, tried["status"] != "failed")
    mean, half_width = statistics.student_t(done["test"])
    red = of_pairs = np.nan
    if dog["error"].size and statistics.has_enough_errors(
        dog["error"].mean(), dog["test_examples"][0], dog["higher_is_better"][0]
    ):
        red = statistics.relative_error_difference(dog["error"], done["error"])
        of_pairs = statistics.relative_error_difference_of_pairs(dog["error"], done["error"])
    tuning = int(choice["tuning_runs"])
    # Model-tuned is charged the K runs that chose its rate, the others their final run too.
    final = choice["row"] not in (MODEL_TUNED, MODEL_TUNED_MEAN)
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


# An optimizer's grid runs of a problem: for each its gain, test error and seconds.
Trials = dict[str, list[tuple[float, float, float]]]


def _trials(current: pd.DataFrame) -> dict[str, Trials]:
    """The grid runs at the tuning seed that have a result, of each problem, by learning rate.

    The gain is the validation score, where lower is better with its sign changed.
    """
    runs = current[(current["seed"] == TUNING_SEED) & (current["status"] != "failed")]
    runs = scored(runs[is_grid_run(runs)]).sort_values(["learning_rate", "setting"])
    score = validation_score(runs)
    gain = statistics.gain(score, runs["higher_is_better"])
    trials: dict[str, Trials] = {}
    whose = zip(runs["problem_id"], runs["optimizer"], strict=True)
    numbers = zip(gain, runs["error"], runs["seconds"], strict=True)
    for (problem_id, optimizer), trial in zip(whose, numbers, strict=True):
        trials.setdefault(problem_id, {}).setdefault(optimizer, []).append(trial)
    return trials


def _break_even(
    trials: Trials, cells: pd.DataFrame, errors: list[dict[int, float]]
) -> dict[str, statistics.BreakEven]:
    """Each grid's break-even with DoG's reported runs; empty where DoG has no RED."""
    is_dog = is_reference(cells) & cells["red"].notna()
    if not is_dog.any():
        return {}
    dog_error = fmean(errors[int(is_dog.argmax())].values())
    curves = {}
    for optimizer, runs in sorted(trials.items()):
        gain, error, seconds = np.transpose(runs)
        curves[optimizer] = statistics.break_even(gain, error, seconds, dog_error)
    return curves


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
    cells = cells.round({"hours": 8}).round(8)
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
    notes = ["The tables linked explain rows and columns.", *text.left_out(frame)]
    return f"{MARK}\n# All results\n\n{lines}\n\n{text.bullets(notes)}\n"
