"""The notes under a problem's table, which make it readable alone."""

from collections.abc import Iterable, Sequence

import pandas as pd

from analysis.choice import (
    BEST_OF_DEFAULTS_LABEL,
    CALIBRATED,
    DEFAULT,
    INSTANCE_TUNED,
    LEAVE_ONE_TASK_OUT,
    MODEL_TUNED,
    MODEL_TUNED_MEAN,
    PORTFOLIO,
    Choice,
    OldVersion,
)
from analysis.comparison import Cell, Comparison
from analysis.roles import TUNED
from analysis.statistics import (
    CORRELATIONS,
    LEAST_ERRORS,
    RATES,
    binomial_standard_error,
    error_name,
    is_in_percent,
)
from analysis.tables.page import count, score_text
from analysis.variants import NULL, by_key
from runner import TUNING_SEED
from tasks.format import duration, plural

EDGE = "†: the lowest or highest rate tried; the optimum may lie outside the grid."
# Settings that are named in a heading and so need no entry in records.csv's problem_settings.
_HEADING = {"steps": "steps", "batch_size": "batch size"}


def caveats_of(comparison: Comparison) -> list[str]:
    """Which runs were left out because of their data, and in what those compared differ."""
    return [*other_data(comparison.other_data), *differing_numerics(comparison.numerics)]


def notes_of(comparison: Comparison) -> list[str]:
    """All notes of a problem's table."""
    problem = comparison.problem
    return [
        *caveats_of(comparison),
        *(_difference(problem, rival) for rival in comparison.rivals),
        *of_old_versions(comparison.old_versions),
        *_warnings(comparison),
        *_explanations(comparison),
        *_shared_time(comparison.replicas),
        *times_of_devices([comparison]),
        *_break_even(comparison),
    ]


def _warnings(comparison: Comparison) -> list[str]:
    """What is missing in this table, and why."""
    notes = []
    problem, cells = comparison.problem, comparison.cells
    tuned = [choice for choice in comparison.choices if choice.row not in (DEFAULT, PORTFOLIO)]
    if not tuned:
        notes.append(f"No tuned rows: there are no grid runs at the tuning seed ({TUNING_SEED}).")
    by_model = {choice.optimizer for choice in tuned if choice.row == MODEL_TUNED}
    for optimizer in sorted({choice.optimizer for choice in tuned} - by_model):
        notes.append(
            f"No model-tuned row for {optimizer}: its choice needs a run of DoG at the tuning seed "
            f"that does not {without_red(problem)} on validation, and a rate tried on all tasks."
        )
    reference = comparison.reference
    if reference is None or not reference.seeds:
        notes.append("No RED: DoG with its default settings has no reported run.")
    elif pd.isna(reference.red):
        notes.append(f"No RED: DoG's runs {without_red(problem)} on the test set.")
    if any(cell.seeds == 1 for cell in cells):
        notes.append("A row of one seed has no interval.")
    if any(cell.seeds < cell.tried for cell in cells):
        notes.append("Crashed runs are left out of the means, never imputed: see the seeds.")
    return notes


def without_red(problem: pd.Series) -> str:
    """What runs of DoG do that have no RED (`statistics.has_enough_errors`)."""
    if problem.metric in RATES:
        return f"make fewer than {LEAST_ERRORS} errors"
    return f"reach a {problem.metric} of {int(problem.higher_is_better)}"


def _difference(problem: pd.Series, rival: pd.Series) -> str:
    """What tells apart two problems of the same task, model and protocol."""
    parts = [
        f"{name} {count(problem[key])} here, {count(rival[key])} there"
        for key, name in _HEADING.items()
        if problem[key] != rival[key]
    ]
    here, there = (by_key(each["problem_settings"]) for each in (problem, rival))
    for mine, other, where in ((here, there, "here"), (there, here, "there")):
        differing = (key for key in sorted(mine) if other.get(key, NULL) != mine[key])
        parts += [f"{key}={mine[key]} {where}" for key in differing]
    reason = "; ".join(parts) or "settings that records.csv does not show"
    return f"Not compared with problem {rival.problem_id[:6]}, which differs: {reason}."


def _explanations(comparison: Comparison) -> list[str]:
    """What the columns and rows of this table mean."""
    problem, cells = comparison.problem, comparison.cells
    diverged = "the majority class" if problem.higher_is_better else "the start"
    diverged = "0" if problem.metric in CORRELATIONS else diverged
    notes = [
        f"{problem.metric}: of the last or the averaged iterate, whichever is better on validation "
        "in that run; the next two columns show both.",
        "±: half width of Student's 95 % t interval over seeds; a diverged run counts as "
        f"{diverged}.",
        f"RED: how much smaller the mean {error_name(problem)} is than DoG's, "
        "(err_DoG − err) / err_DoG; positive is better than DoG.",
    ]
    rows: dict[str, list[Choice]] = {}
    for choice in comparison.choices:
        rows.setdefault(choice.row, []).append(choice)
    if INSTANCE_TUNED in rows:
        notes.append(
            "instance-tuned: the learning rate with the best validation score on this task, at "
            f"seed {TUNING_SEED}, which is not reported."
        )
    if set(rows) != {DEFAULT}:
        notes.append(
            "runs, time: of a tuned row those of all learning rates tried, of a portfolio those of "
            "all its methods. Its user keeps the run that was chosen; the reported seeds only "
            "measure it."
        )
    for tasks, optimizers in _by_tasks(rows.get(MODEL_TUNED, [])):
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
    labels = {cell.optimizer: cell.label for cell in cells}
    for row, meaning in (
        (LEAVE_ONE_TASK_OUT, "the model-tuned learning rate without this task"),
        (CALIBRATED, "the setting with the best median validation RED over the other tasks of the "
                     "domain, with any network"),
    ):  # fmt: skip
        for tasks, optimizers in _by_tasks(rows.get(row, [])):
            runs = ", ".join(f"{runs} of {labels[name]}" for name, runs in optimizers.items())
            notes.append(
                f"{row}: {meaning} ({tasks}); it needs 1 run here after the runs on these other "
                f"tasks: {runs}."
            )
    notes += [portfolio_note(choice, cells) for choice in rows.get(PORTFOLIO, [])]
    if any(cell.edge for cell in cells):
        notes.append(EDGE)
    return notes + _sampling_error(problem, cells)


def portfolio_note(choice: Choice, cells: Sequence[Cell]) -> str:
    """Which methods a portfolio has, which one was chosen, and which could not be in it."""
    labels = {cell.optimizer: cell.label for cell in cells if cell.role != TUNED}
    methods = ", ".join(labels[name] for name in sorted(choice.members, key=[*labels].index))
    absent = [
        label for name, label in labels.items() if name not in (*choice.members, choice.optimizer)
    ]
    without = f" Without such a run, and not in it: {', '.join(absent)}." if absent else ""
    return (
        f"{BEST_OF_DEFAULTS_LABEL}: of the {len(choice.members)} methods that need no tuning, each "
        f"with its defaults ({methods}), that with the best validation score at seed {TUNING_SEED}:"
        f" {labels[choice.members[0]]}.{without}"
    )


def _shared_time(replicas: int) -> list[str]:
    """What the times mean where up to so many runs trained together."""
    if replicas <= 1:
        return []
    return [
        f"time: up to {replicas} runs trained together; each is charged an equal share, whatever "
        "its optimizer. `make bench` measures what a step of each costs."
    ]


def times_of_devices(comparisons: Iterable[Comparison]) -> list[str]:
    """That times do not compare optimizers where the runs of a problem are of several devices."""
    notes = []
    for each in comparisons:
        devices = {
            one["processor"] if one["device"] == "cuda" and "processor" in one else one["device"]
            for one in _known(each.numerics)
            if "device" in one
        }
        if len(devices) > 1:
            notes.append(
                f"time: the runs of {each.stem} are of {' and '.join(sorted(devices))}, so the "
                "times of two rows may be those of two machines."
            )
    return notes


def _by_tasks(choices: Sequence[Choice]) -> list[tuple[str, dict[str, int]]]:
    """The tasks that choices of one row rest on, and for each optimizer its runs on others."""
    found: dict[str, dict[str, int]] = {}
    for choice in choices:
        runs = found.setdefault(choice.tuning_tasks, {})
        runs[choice.optimizer] = choice.tuning_runs_elsewhere
    return sorted(found.items())


def other_data(runs: int) -> list[str]:
    """What was left out because it was trained on other data."""
    if not runs:
        return []
    return [
        f"Left out: {plural(runs, 'run')} of the same settings on other data: other "
        "examples or other pretrained weights."
    ]


def differing_numerics(column: pd.Series) -> list[str]:
    """In what runs that are compared differ, of what can change the last digits of a result.

    `column` is theirs of records.csv. Not all runs have all keys: SGD has no kernel of ours.
    """
    known = _known(column)
    if not known:
        return []
    parts = []
    for key in sorted({key for numerics in known for key in numerics}):
        values = sorted({numerics[key] for numerics in known if key in numerics})
        if len(values) > 1:
            parts.append(f"{key} {', '.join(values[:-1])} and {values[-1]}")
    unknown = (column == "").sum()
    if unknown:
        parts.append(f"of {unknown} of {len(column)} runs it is not known")
    return [f"Runs differ in what can change the last digits: {'; '.join(parts)}."] if parts else []


def _known(column: pd.Series) -> list[dict[str, str]]:
    """Each different numerics of a column of records.csv that is known, as keys and values."""
    return [by_key(text) for text in set(column) if text]


def _break_even(comparison: Comparison) -> list[str]:
    """Where tuning catches up with DoG, in runs and in time."""
    problem, cells = comparison.problem, comparison.cells
    tuned = [choice for choice in comparison.choices if choice.row == INSTANCE_TUNED]
    if not comparison.break_even:
        reason = f"needs a run of DoG at seed {TUNING_SEED} that does not {without_red(problem)}"
        return [f"No break-even: it {reason} on the test set."] if tuned else []
    charged = {choice.optimizer: choice.tuning_runs for choice in tuned}
    labels = {cell.optimizer: cell.label for cell in cells}
    parts = []
    for optimizer, curve in comparison.break_even.items():
        tried = len(curve.errors)
        crashed = charged[optimizer] - tried
        without = f" ({crashed} of the {charged[optimizer]} tried crashed)" if crashed else ""
        if curve.runs is None:
            parts.append(f"{labels[optimizer]} never catches up with DoG in {tried} runs{without}")
        else:
            time = duration(3600 * curve.hours[curve.runs - 1])
            runs = f"{curve.runs} of {tried} runs{without}, {time}"
            parts.append(f"{labels[optimizer]} catches up with DoG after {runs}")
    error, reference = comparison.reference_error, comparison.reference
    here = score_text(1 - error if problem.higher_is_better else error, problem)
    mean = score_text(float("nan") if reference is None else reference.test, problem)
    return [
        f"Break-even: {'; '.join(parts)}. That is where the expected test error of the best on "
        f"validation among so many learning rates, drawn at random, at seed {TUNING_SEED}, is at "
        f"most that of DoG at the same seed, whose {unit(problem)} is {here} (mean over its "
        f"reported seeds: {mean})."
    ]


def unit(problem: pd.Series) -> str:
    """The name of the metric, and in what it is shown."""
    return f"{problem.metric}{' %' if is_in_percent(problem) else ''}"


def _sampling_error(problem: pd.Series, cells: Iterable[Cell]) -> list[str]:
    mean = next((cell.test for cell in cells if not pd.isna(cell.test)), None)
    if problem.metric not in RATES or mean is None or pd.isna(problem.test_examples):
        return []
    points = 100 * binomial_standard_error(mean, problem.test_examples)
    return [
        f"The test set's own sampling error at {100 * mean:.1f} % is {points:.2f} points "
        f"(one standard error, {count(problem.test_examples)} examples), the same examples for "
        "every row."
    ]


def of_old_versions(versions: Iterable[OldVersion]) -> list[str]:
    """Names the runs of older task or protocol versions, which no table mixes with the newest."""
    return [
        f"Left out: {plural(old.runs, 'run')} of version {old.version} of {old.kind} {old.name}."
        for old in versions
    ]
