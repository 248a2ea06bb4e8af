"""The words of a table: how its numbers are written, and the notes that make it readable alone."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from analysis.roles import TUNED
from analysis.selection import (
    DEFAULT,
    INSTANCE_TUNED,
    LEAVE_ONE_TASK_OUT,
    MODEL_TUNED,
    MODEL_TUNED_MEAN,
    is_reference,
)
from analysis.statistics import LEAST_ERRORS, RATES, BreakEven, binomial_standard_error
from runner import TUNING_SEED

NONE = "–"
# Settings that are named in a heading and so need no entry in records.csv's problem_settings.
_HEADING = {"steps": "steps", "batch_size": "batch size"}


def heading(problem: pd.Series) -> str:
    """What the numbers of a problem's table rest on, in a line."""
    better = "higher" if problem.higher_is_better else "lower"
    sizes = {
        "training": count(problem.train_examples),
        "validation": count(problem.validation_examples),
        "test": count(problem.test_examples),
    }
    examples = ", ".join(f"{size} {split}" for split, size in sizes.items())
    return (
        f"Test {problem.metric} ({better} is better) after {count(problem.steps)} steps "
        f"of batch size {count(problem.batch_size)}; {examples} examples; "
        f"task version {problem.task_version}; problem {problem.problem_id}."
    )


def display(cells: pd.DataFrame, problem: pd.Series) -> pd.DataFrame:
    """The cells of a table as a reader sees them: text, in named columns."""
    percent = bool(problem.higher_is_better)
    means = [_score(value, percent) for value in cells["test"]]
    widths = [_score(value, percent) for value in cells["test_half_width"]]
    pairs = zip(means, widths, strict=True)
    is_dog = is_reference(cells)
    seeds = zip(cells["seeds"], cells["tried"], strict=True)
    return pd.DataFrame(
        {
            "optimizer": cells["label"],
            "row": cells["row"],
            "learning rate": learning_rates(cells),
            unit(problem): [
                mean if width == NONE else f"{mean} ± {width}" for mean, width in pairs
            ],
            "last": [_score(value, percent) for value in cells["last"]],
            "averaged": [_score(value, percent) for value in cells["averaged"]],
            "RED %": cells["red"].map(signed).mask(is_dog, "reference"),
            "seeds": [f"{done}/{tried}" if tried else NONE for done, tried in seeds],
            "diverged": cells["diverged"].astype(str).mask(cells["seeds"] == 0, NONE),
            "runs": cells["runs"].astype(str),
            "time": cells["hours"].map(duration),
        }
    )


def unit(problem: pd.Series) -> str:
    """The name of the metric, in percent where more is better."""
    return f"{problem.metric}{' %' if problem.higher_is_better else ''}"


def learning_rates(cells: pd.DataFrame) -> list[str]:
    """The settings in short: "0.01 †" for a rate at the grid's edge, "none" for DoG."""
    texts = []
    for role, setting, edge in cells[["role", "setting", "edge"]].itertuples(index=False):
        parts = [part.split("=", 1) for part in setting.split(" ") if part]
        short = [value if key == "lr" else f"{key}={value}" for key, value in parts]
        # A tuned optimizer whose default was never run has no known rate; the others need none.
        unknown = NONE if role == TUNED else "none"
        texts.append((", ".join(short) or unknown) + (" †" if edge else ""))
    return texts


def markdown(table: pd.DataFrame, left: Sequence[str] = ()) -> str:
    """A padded markdown table, readable in a terminal too; columns in `left` are left-aligned."""
    columns = []
    for name in table:
        values = [str(name), *table[name].astype(str)]
        width = max(3, *map(len, values))
        to_left = name in left
        rule = "-" * width if to_left else "-" * (width - 1) + ":"
        values = [value.ljust(width) if to_left else value.rjust(width) for value in values]
        columns.append([values[0], rule, *values[1:]])
    return "\n".join(f"| {' | '.join(line)} |" for line in zip(*columns, strict=True))


def latex(table: pd.DataFrame, left: Sequence[str] = ()) -> str:
    """A tabular with booktabs' rules; columns in `left` are left-aligned."""
    escape = str.maketrans(
        {"%": r"\%", "&": r"\&", "_": r"\_", "#": r"\#", "±": r"$\pm$", "–": "--", "−": "$-$"}
        | {"†": r"$\dagger$"}
    )
    rows = [
        [str(value).translate(escape) for value in row] for row in [[*table], *table.to_numpy()]
    ]
    lines = [" & ".join(row) + r" \\" for row in rows]
    columns = "".join("l" if name in left else "r" for name in table)
    body = "\n".join([r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"])
    return f"\\begin{{tabular}}{{{columns}}}\n{body}\n\\end{{tabular}}\n"


def warnings(problem: pd.Series, choices: pd.DataFrame, cells: pd.DataFrame) -> list[str]:
    """What is missing in this table, and why."""
    notes = []
    tuned = choices[choices["row"] != DEFAULT]
    if tuned.empty:
        notes.append(f"No tuned rows: there are no grid runs at the tuning seed ({TUNING_SEED}).")
    by_model = set(tuned["optimizer"][tuned["row"] == MODEL_TUNED])
    for optimizer in sorted(set(tuned["optimizer"]) - by_model):
        notes.append(
            f"No model-tuned row for {optimizer}: its choice needs a run of DoG at the tuning seed "
            f"that does not {without_red(problem)} on validation, and a rate tried on all tasks."
        )
    dog = cells[is_reference(cells)]
    if dog.empty or not dog["seeds"].iloc[0]:
        notes.append("No RED: DoG with its default settings has no reported run.")
    elif dog["red"].isna().all():
        notes.append(f"No RED: DoG's runs {without_red(problem)} on the test set.")
    if (cells["seeds"] == 1).any():
        notes.append("A row of one seed has no interval.")
    if (cells["seeds"] < cells["tried"]).any():
        notes.append("Crashed runs are left out of the means, never imputed: see the seeds.")
    return notes


def without_red(problem: pd.Series) -> str:
    """What runs of DoG do that have no RED (`statistics.has_enough_errors`)."""
    if problem.metric in RATES:
        return f"make fewer than {LEAST_ERRORS} errors"
    return f"reach a {problem.metric} of {int(problem.higher_is_better)}"


def difference(problem: pd.Series, rival: pd.Series) -> str:
    """What tells apart two problems of the same task, model and protocol."""
    parts = [
        f"{name} {count(problem[key])} here, {count(rival[key])} there"
        for key, name in _HEADING.items()
        if problem[key] != rival[key]
    ]
    here, there = (set(one["problem_settings"].split("; ")) for one in (problem, rival))
    parts += [f"{text} here" for text in sorted(here - there)]
    parts += [f"{text} there" for text in sorted(there - here)]
    reason = "; ".join(parts) or "settings that records.csv does not show"
    return f"Not compared with problem {rival.problem_id[:6]}, which differs: {reason}."


def explanations(problem: pd.Series, choices: pd.DataFrame, cells: pd.DataFrame) -> list[str]:
    """What the columns and rows of this table mean."""
    diverged = "majority class" if problem.higher_is_better else "start"
    notes = [
        f"{problem.metric}: of the last or the averaged iterate, whichever is better on validation "
        "in that run; the next two columns show both.",
        "±: half width of Student's 95 % t interval over seeds; a diverged run counts as the "
        f"{diverged}.",
        "RED: how much smaller the mean error is than DoG's, (err_DoG − err) / err_DoG; positive "
        "is better than DoG.",
    ]
    rows = {row: choices[choices["row"] == row] for row in set(choices["row"])}
    if set(rows) != {DEFAULT}:
        notes.append(
            "instance-tuned: the learning rate with the best validation score on this task, at "
            f"seed {TUNING_SEED}, which is not reported."
        )
        notes.append(
            "runs, time: of a tuned row those of all learning rates tried. Its user keeps the run "
            "that was chosen; the reported seeds only measure it."
        )
    for tasks, optimizers in _by_tasks(rows.get(MODEL_TUNED)):
        which = "" if len(optimizers) == len(rows[MODEL_TUNED]) else ", ".join(optimizers)
        alone = " One task: the same choice as instance-tuned." if ", " not in tasks else ""
        notes.append(
            f"model-tuned{which and f' ({which})'}: the learning rate with the best median "
            f"validation RED over the tasks of this model and protocol ({tasks}).{alone}"
        )
    if MODEL_TUNED_MEAN in rows:
        notes.append(
            "model-tuned (mean): the same by the paper's other rule, the best mean validation "
            "score over these tasks; shown where it is another learning rate."
        )
    labels = dict(zip(cells["optimizer"], cells["label"], strict=True))
    for tasks, optimizers in _by_tasks(rows.get(LEAVE_ONE_TASK_OUT)):
        runs = ", ".join(f"{runs} of {labels[name]}" for name, runs in optimizers.items())
        notes.append(
            f"leave-one-task-out: the model-tuned learning rate without this task ({tasks}); it "
            f"needs 1 run here after the runs on these other tasks: {runs}."
        )
    if cells["edge"].any():
        notes.append("†: the lowest or highest rate tried; the optimum may lie outside the grid.")
    return notes + _sampling_error(problem, cells)


def shared_time(replicas: int) -> list[str]:
    """What the times mean where up to so many runs trained together."""
    if pd.isna(replicas) or replicas <= 1:
        return []
    return [
        f"time: up to {replicas} runs trained together; each is charged an equal share, whatever "
        "its optimizer. `make bench` measures what a step of each costs."
    ]


def _by_tasks(choices: pd.DataFrame | None) -> list[tuple[str, dict[str, int]]]:
    """The tasks that choices of one row rest on, and for each optimizer its runs on others."""
    found: dict[str, dict[str, int]] = {}
    if choices is not None:
        columns = (choices[name] for name in ("tuning_tasks", "optimizer", "tuning_runs_elsewhere"))
        for tasks, optimizer, runs in zip(*columns, strict=True):
            found.setdefault(tasks, {})[optimizer] = runs
    return sorted(found.items())


def other_data(runs: int) -> list[str]:
    """What was left out because it was trained on other data."""
    if not runs:
        return []
    return [
        f"Left out: {_runs(runs)} of the same settings on other data: other "
        "examples or other pretrained weights."
    ]


def numerics(column: pd.Series) -> list[str]:
    """In what runs that are compared differ, of what can change the last digits of a result.

    `column` is theirs of records.csv. Not all runs have all keys: SGD has no kernel of ours.
    """
    known = [dict(part.split("=", 1) for part in text.split("; ")) for text in set(column) if text]
    if not known:
        return []
    parts = []
    for key in sorted({key for one in known for key in one}):
        values = sorted({one[key] for one in known if key in one})
        if len(values) > 1:
            parts.append(f"{key} {', '.join(values[:-1])} and {values[-1]}")
    unknown = (column == "").sum()
    if unknown:
        parts.append(f"of {unknown} of {len(column)} runs it is not known")
    return [f"Runs differ in what can change the last digits: {'; '.join(parts)}."] if parts else []


def break_even(
    problem: pd.Series,
    dog_error: float,
    curves: dict[str, BreakEven],
    choices: pd.DataFrame,
    cells: pd.DataFrame,
) -> list[str]:
    """Where tuning catches up with DoG, in runs and in time."""
    tuned = choices["row"] == INSTANCE_TUNED
    if not curves:
        reason = f"needs a run of DoG at seed {TUNING_SEED} that does not {without_red(problem)}"
        return [f"No break-even: it {reason} on the test set."] if tuned.any() else []
    tuned = choices[tuned]
    charged = dict(zip(tuned["optimizer"], tuned["tuning_runs"], strict=True))
    labels = dict(zip(cells["optimizer"], cells["label"], strict=True))
    parts = []
    for optimizer, curve in curves.items():
        tried = len(curve.errors)
        crashed = charged[optimizer] - tried
        without = f" ({crashed} of the {charged[optimizer]} tried crashed)" if crashed else ""
        if curve.runs is None:
            parts.append(f"{labels[optimizer]} never catches up with DoG in {tried} runs{without}")
        else:
            time = duration(curve.hours[curve.runs - 1])
            runs = f"{curve.runs} of {tried} runs{without}, {time}"
            parts.append(f"{labels[optimizer]} catches up with DoG after {runs}")
    percent = bool(problem.higher_is_better)
    here = _score(1 - dog_error if percent else dog_error, percent)
    mean = _score(cells["test"][is_reference(cells)].mean(), percent)
    return [
        f"Break-even: {'; '.join(parts)}. That is where the expected test error of the best on "
        f"validation among so many learning rates, drawn at random, at seed {TUNING_SEED}, is at "
        f"most that of DoG at the same seed, whose {unit(problem)} is {here} (mean over its "
        f"reported seeds: {mean})."
    ]


def _sampling_error(problem: pd.Series, cells: pd.DataFrame) -> list[str]:
    means = cells["test"].dropna()
    if problem.metric not in RATES or means.empty or pd.isna(problem.test_examples):
        return []
    points = 100 * binomial_standard_error(means.iloc[0], problem.test_examples)
    return [
        f"The test set's own sampling error at {100 * means.iloc[0]:.1f} % is {points:.2f} points "
        f"(one standard error, {count(problem.test_examples)} examples), the same examples for "
        "every row."
    ]


def left_out(runs: pd.DataFrame) -> list[str]:
    """Names the runs of older task or protocol versions, which no table mixes with the newest."""
    notes = []
    for name in ("task", "protocol"):
        version = runs[f"{name}_version"]
        if (version == version.iloc[0]).all():
            continue
        old = runs[version < version.groupby(runs[name]).transform("max")]
        for (thing, number), group in old.groupby([name, f"{name}_version"]):
            notes.append(f"Left out: {_runs(len(group))} of version {number} of {name} {thing}.")
    return notes


def _runs(number: int) -> str:
    return f"{number} run{'' if number == 1 else 's'}"


def bullets(notes: Iterable[str]) -> str:
    return "\n".join(f"- {note}" for note in notes)


def count(value: object) -> str:
    """A number of things, with separators; a missing one is said to be unknown."""
    return "unknown" if pd.isna(value) else f"{int(value):,}"  # type: ignore[call-overload]


def _score(value: float, percent: bool) -> str:
    if np.isnan(value):
        return NONE
    return f"{100 * value:.2f}" if percent else f"{value:.4g}"


def signed(red: float) -> str:
    """RED in percent with its sign."""
    return NONE if np.isnan(red) else f"{100 * red:+.1f}".replace("-", "−")


def duration(hours: float) -> str:
    """A time with two significant digits, in a unit that suits them."""
    if np.isnan(hours):
        return NONE
    for unit, size in (("s", 3600), ("min", 60)):
        if hours * size < 99.5:
            return f"{hours * size:.{1 if hours * size < 9.95 else 0}f} {unit}"
    return f"{hours:.{1 if hours < 9.95 else 0}f} h"
