"""Chooses each optimizer's setting as its user would: from validation scores only."""

import json
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import starmap
from statistics import fmean, median
from typing import Any

import numpy as np
import pandas as pd

from analysis import variants
from analysis.roles import (
    REFERENCE,
    ROLES,
    TUNED,
    TUNING_FREE,
    is_reference_run,
    is_untuned_default,
    with_roles,
)
from analysis.statistics import error, gain, has_enough_errors
from runner import TUNING_SEED

DEFAULT, MODEL_TUNED, MODEL_TUNED_MEAN = "default", "model-tuned", "model-tuned (mean)"
LEAVE_ONE_TASK_OUT, CALIBRATED = "leave-one-task-out", "calibrated"
INSTANCE_TUNED = "instance-tuned"
# An optimizer's rows, each a setting that a sweep reports.
ROWS = [DEFAULT, MODEL_TUNED, MODEL_TUNED_MEAN, LEAVE_ONE_TASK_OUT, CALIBRATED, INSTANCE_TUNED]
# Those that are chosen without the task.
UNSEEN = (LEAVE_ONE_TASK_OUT, CALIBRATED)
# Those that rest on runs of the task alone.
OF_TASK = (DEFAULT, INSTANCE_TUNED)
# The row that speaks for an optimizer of each role.
MAIN_ROW = {REFERENCE: DEFAULT, TUNING_FREE: DEFAULT, TUNED: INSTANCE_TUNED}
# A line of its own, of several optimizers: the best of their defaults.
PORTFOLIO, BEST_OF_DEFAULTS = "portfolio", "best_of_defaults"
BEST_OF_DEFAULTS_LABEL = "best of k defaults"

# All that a choice may read: nothing of the test set. (Few columns are faster to filter, too.)
READ = ["run_id", "problem_id", "problem_settings", "task", "model", "protocol"]
READ += ["protocol_version", "budget", "steps", "batch_size", "metric", "higher_is_better"]
READ += ["status", "seed", "seconds"]
READ += ["optimizer", "role", "opt_default", "setting", "learning_rate", "overrides", "grid"]
READ += ["validation_last", "validation_averaged", "validation_examples"]

# The settings to report of each problem, by its id, and optimizer: changes of the defaults.
Chosen = dict[tuple[str, str], list[Mapping[str, Any]]]
# A problem: its columns of records.csv.
Problem = dict[Any, Any]


@dataclass(frozen=True)
class Trial:
    """A run at the tuning seed with a setting of the grid; a crashed one has no score and no RED.

    (Objects and no frame: the many small choices would take ten times as long.)
    """

    run_id: str
    problem_id: str
    task: str
    optimizer: str
    setting: str
    learning_rate: float
    overrides: str  # JSON
    seconds: float
    score: float  # on validation, higher is better
    red: float  # on validation, against the reference on this seed


_OF_RUN = ["run_id", "problem_id", "task", "optimizer", "setting", "learning_rate", "overrides"]
_OF_RUN += ["seconds"]


@dataclass(frozen=True)
class Choice:
    """A setting of an optimizer that is reported on a problem, and what choosing it has cost.

    Attributes:
        row: one of `ROWS`, or `PORTFOLIO`.
        setting: as in `records.csv`; "" also for a default that was never run. Of a portfolio how
            many methods it has, and which one was chosen.
        overrides: the setting as what to change in the optimizer's defaults.
        edge: whether the learning rate is the lowest or the highest of those tried.
        tuning_runs, tuning_seconds: what the choice has cost on this task (a crash has no time).
        tuning_runs_elsewhere: the runs on other tasks without which there is no such choice, where
            it uses nothing of this task.
        tuning_tasks: the tasks that it rests on, joined by ", "; where they were run for other
            steps or with another network than this one, these are named.
        members: the optimizers of a portfolio, that whose default was chosen first.
        tuning_ids: the runs of `tuning_runs` or `tuning_runs_elsewhere`.
    """

    problem_id: str
    task: str
    optimizer: str
    row: str
    setting: str
    overrides: Mapping[str, Any]
    edge: bool = False
    tuning_runs: int = 0
    tuning_seconds: float = 0.0
    tuning_runs_elsewhere: int = 0
    tuning_tasks: str = ""
    members: tuple[str, ...] = ()
    tuning_ids: tuple[str, ...] = ()


def choose(frame: pd.DataFrame) -> list[Choice]:
    """The settings to report: for each problem and optimizer its default and its tuned ones.

    `frame` is what `records.collect` returns, of any stage: only runs at `TUNING_SEED` and of them
    only the validation columns decide. The tuned rows are

    - model-tuned, by either of the paper's rules: the best median validation RED over the tasks of
      the same protocol, budget and model, and the best mean validation score over them,
      "model-tuned (mean)", where that is another setting;
    - leave-one-task-out: the first of these rules without the task itself: what its user knew
      before;
    - calibrated: the same over the tasks of the same protocol and budget with any network: one
      setting for all tasks of a domain;
    - instance-tuned: the best validation score on the task itself.

    An optimizer without a grid has the default only; so has one without tuning runs. A problem on
    which several optimizers that need no tuning were run at `TUNING_SEED` has their portfolio: of
    their defaults that with the best validation score.
    """
    return choose_among(comparable(frame))


def choose_among(frame: pd.DataFrame) -> list[Choice]:
    """`choose`, of runs that are `comparable`."""
    ranks = variants.rank(frame)["rank"].to_dict()
    frame = frame[READ]
    trials = _trials(frame)
    problems = {
        problem["problem_id"]: problem
        | {"rank": ranks[problem["problem_id"]], "traits": _traits(problem)}
        for problem in frame.drop_duplicates("problem_id").to_dict("records")
    }
    choices: list[Choice] = []
    for (problem_id, optimizer), runs in frame.groupby(["problem_id", "optimizer"]):
        here = problems[problem_id]
        default = next(iter(runs["setting"][runs["opt_default"]]), "")
        choices.append(Choice(problem_id, here["task"], str(optimizer), DEFAULT, default, {}))
        choices += _tuned_rows(trials.get(str(optimizer), {}), here, problems)
    choices += _portfolios(frame)
    return choices


def settings_to_report(
    frame: pd.DataFrame, tuning: Iterable[str], rows: Collection[str] = ROWS
) -> Chosen:
    """What `choose` has chosen for these rows, by problem and optimizer: changes of the defaults.

    `tuning` are the run ids of a sweep's own tuning runs: a sweep does not choose from what others
    have tried. A portfolio is a default of one of its methods, which is reported anyway.
    """
    settings: Chosen = {}
    for choice in choose(frame[frame["run_id"].isin(set(tuning))]):
        if choice.row in rows:
            key = (choice.problem_id, choice.optimizer)
            settings.setdefault(key, []).append(choice.overrides)
    return settings


# What a record says of its optimizer's settings, by the yaml of that time.
_DESCRIPTION = ["setting", "opt_default", "overrides", "grid"]


def comparable(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that may be compared: of the newest versions, of the same data, each run once.

    With the role and label of each optimizer (`with_roles`).

    Runs of different versions of a task or a protocol are not comparable, nor are runs of different
    data (`of_other_data`). An optimizer's defaults have no version; where they differ in anything,
    those last run are taken. A run may have several ids: its data were read from several folders.
    Runs of the same settings are described alike, as the last of them is: which are the defaults,
    and which keys the grid has, may have changed in the yaml meanwhile.
    """
    frame = with_roles(of_newest_versions(frame))
    frame = frame[~of_other_data(frame)]
    same = frame.sort_values(["started", "run_id"]).groupby(
        ["problem_id", "optimizer", "optimizer_id"]
    )
    frame = frame.assign(**{name: same[name].transform("last") for name in _DESCRIPTION})
    # The default is compared as such: its setting's text changes when the default changes.
    for key in (frame["setting"].mask(frame["opt_default"], DEFAULT), frame["setting"]):
        order = frame.sort_values(["started", "run_id"])
        groups = order.groupby(["problem_id", "optimizer", key.reindex(order.index)])
        latest = groups["optimizer_id"].transform("last").reindex(frame.index)
        frame = frame[frame["optimizer_id"] == latest]
    order = frame.assign(failed=frame["status"] == "failed")
    order = order.sort_values(["failed", "started", "run_id"])
    copy = order.duplicated(["problem_id", "optimizer", "optimizer_id", "seed"])
    return frame[~copy.reindex(frame.index)]


# What has versions, and of what there is one each: a protocol's sections have their own.
_VERSIONED = {"task": ["task"], "protocol": ["protocol", "budget"]}


def of_newest_versions(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of the newest version of every task and of every section of a protocol."""
    for kind, key in _VERSIONED.items():
        version = f"{kind}_version"
        frame = frame[frame[version] == frame.groupby(key)[version].transform("max")]
    return frame


def of_other_data(frame: pd.DataFrame) -> pd.Series:
    """Whether a run read other examples or weights than most runs of its problem.

    Where two data have equally many results, the one with the latest run is taken. A crash before
    any data were read belongs to every data.
    """
    done = frame[frame["status"] != "failed"]
    data = done.groupby(["problem_id", "data_id"])["started"].agg(["size", "max"]).reset_index()
    data = data.sort_values(["size", "max", "data_id"])
    taken = data.groupby("problem_id")["data_id"].last()
    unknown = (frame["status"] == "failed") & (frame["data_id"] == "")
    others = frame["data_id"] != frame["problem_id"].map(taken).fillna(frame["data_id"])
    return others & ~unknown


def left_out_of_other_data(frame: pd.DataFrame) -> pd.Series:
    """How many runs `comparable` leaves out because of their data, by problem id."""
    frame = of_newest_versions(frame)
    return frame["problem_id"][of_other_data(frame)].value_counts()


@dataclass(frozen=True)
class OldVersion:
    """Runs of an older version of a task or a protocol, which no table mixes with the newest."""

    kind: str  # task or protocol
    name: str
    version: int
    runs: int


def old_versions(frame: pd.DataFrame) -> list[OldVersion]:
    """The runs that `comparable` leaves out because of their version."""
    found = []
    for kind, key in _VERSIONED.items():
        version = frame[f"{kind}_version"]
        if (version == version.iloc[0]).all():
            continue
        old = frame[version < frame.groupby(key)[f"{kind}_version"].transform("max")]
        for (name, number), runs in old.groupby([kind, f"{kind}_version"]):
            found.append(OldVersion(kind, str(name), int(number), len(runs)))
    return found


def validation_score(frame: pd.DataFrame) -> pd.Series:
    """The better iterate's validation score of each run, in the task's metric."""
    averaged = iterate(frame) == "averaged"
    return frame["validation_last"].mask(averaged, frame["validation_averaged"])


def iterate(frame: pd.DataFrame) -> pd.Series:
    """ "last" or "averaged": the iterate of each run that is better on validation."""
    more = frame["validation_averaged"] - frame["validation_last"]
    better = gain(more, frame["higher_is_better"]) >= 0
    # A tie goes to the average; a run without an average has nan here and keeps its last iterate.
    return pd.Series(np.where(better, "averaged", "last"), index=frame.index)


def is_grid_run(frame: pd.DataFrame) -> pd.Series:
    """Whether a run's setting is one of its optimizer's tuning: only keys of the grid changed."""

    def within(overrides: str, grid: str) -> bool:
        keys = json.loads(grid)
        return bool(keys) and set(json.loads(overrides)) <= set(keys)

    # There are few different pairs, however many runs.
    pairs = list(zip(frame["overrides"], frame["grid"], strict=True))
    known = {pair: within(*pair) for pair in set(pairs)}
    return pd.Series([known[pair] for pair in pairs], index=frame.index, dtype=bool)


def _trials(frame: pd.DataFrame) -> dict[str, dict[str, list[Trial]]]:
    """The tuning runs by optimizer and problem; a crashed run has no score and no RED (nan)."""
    runs = frame[frame["seed"] == TUNING_SEED]
    runs = runs.assign(
        score=gain(validation_score(runs), runs["higher_is_better"]),
        error=error(validation_score(runs), runs["higher_is_better"]),
    )
    runs.loc[runs["status"] == "failed", ["score", "error"]] = np.nan
    reference = runs[is_reference_run(runs)]
    enough = has_enough_errors(
        reference["error"],
        reference["validation_examples"].astype("float64"),
        reference["metric"],
    )
    dog_errors = reference[enough].set_index("problem_id")["error"].to_dict()
    dog_error = runs["problem_id"].map(dog_errors).astype("float64")
    runs = runs.assign(red=(dog_error - runs["error"]) / dog_error)
    trials: dict[str, dict[str, list[Trial]]] = {}
    tried = runs.loc[is_grid_run(runs), [*_OF_RUN, "score", "red"]]
    for trial in starmap(Trial, tried.itertuples(index=False)):
        by_problem = trials.setdefault(trial.optimizer, {})
        by_problem.setdefault(trial.problem_id, []).append(trial)
    return trials


def _tuned_rows(
    rivals: dict[str, list[Trial]], here: Problem, problems: dict[str, Problem]
) -> Iterator[Choice]:
    """The tuned rows of an optimizer on the problem `here`, from its trials on all problems."""
    tried = rivals.get(here["problem_id"], [])
    done = {trial.setting for trial in tried if _known(trial.score)}
    if not done:
        return
    domain = _nearest_of_other_tasks(here, [problems[name] for name in sorted(rivals)])
    model = [name for name in domain if problems[name]["model"] == here["model"]]
    names = {name: _name(problems[name], here) for name in (here["problem_id"], *domain)}
    alike = [trial for name in (here["problem_id"], *model) for trial in rivals[name]]
    by_red = _best_over_problems(alike, "red", median, done)
    if by_red is not None:
        yield _tuned(here, tried, MODEL_TUNED, by_red, _named(alike, "red", names))
        by_score = _best_over_problems(alike, "score", fmean, done)
        if by_score not in (None, by_red):
            yield _tuned(here, tried, MODEL_TUNED_MEAN, by_score, _named(alike, "score", names))
    for row, others in ((LEAVE_ONE_TASK_OUT, model), (CALIBRATED, domain)):
        with_say = _with_say((trial for name in others for trial in rivals[name]), "red")
        elsewhere = [trial for name in others if name in with_say for trial in rivals[name]]
        settings = {trial.setting for trial in elsewhere}
        unseen = _best_over_problems(elsewhere, "red", median, settings)
        if unseen is not None:
            choice = _tuned(here, elsewhere, row, unseen, _named(elsewhere, "red", names))
            runs = choice.tuning_runs
            yield replace(choice, tuning_runs=0, tuning_seconds=0.0, tuning_runs_elsewhere=runs)
    best = _first((trial.score, trial.learning_rate, trial.setting) for trial in tried)
    yield _tuned(here, tried, INSTANCE_TUNED, best, here["task"])


def _name(problem: Problem, here: Problem) -> str:
    """The problem's task, and its network and steps where the problem `here` has others."""
    network = "" if problem["model"] == here["model"] else f" with {problem['model']}"
    steps = "" if problem["steps"] == here["steps"] else f" at {problem['steps']:,} steps"
    return f"{problem['task']}{network}{steps}"


def _named(trials: Iterable[Trial], value: str, names: Mapping[str, str]) -> str:
    """The names of the problems that have a say, those of one task together."""
    return ", ".join(sorted(names[problem_id] for problem_id in _with_say(trials, value)))


def _known(value: float) -> bool:
    return not math.isnan(value)


def _first(ranking: Iterable[tuple[float, float, str]]) -> str:
    """The setting of the highest value; of equals, that with the smallest rate.

    `ranking` has (value, rate, setting) of each; the rate is nan where a grid has none.
    """
    return min(
        (-value, rate if _known(rate) else 0.0, setting)
        for value, rate, setting in ranking
        if _known(value)
    )[2]


def _with_say(trials: Iterable[Trial], value: str) -> set[str]:
    """The problems that have a say: those where the value is known."""
    return {trial.problem_id for trial in trials if _known(getattr(trial, value))}


def _best_over_problems(
    trials: list[Trial], value: str, aggregate: Callable[[list[float]], float], among: set[str]
) -> str | None:
    """The setting of `among` with the best aggregate of a value over problems, if there is any.

    A problem counts if the value is known there (RED: if DoG has enough errors there); a setting,
    if it has one on all these problems.
    """
    values: dict[str, list[float]] = {}
    rates: dict[str, float] = {}
    for trial in trials:
        if trial.setting in among and _known(getattr(trial, value)):
            values.setdefault(trial.setting, []).append(getattr(trial, value))
            rates[trial.setting] = trial.learning_rate
    count = len(_with_say(trials, value))
    # The last digits of a median depend on the order of sums; a tie must stay one.
    ranking = [
        (round(aggregate(of_problems), 12), rates[setting], setting)
        for setting, of_problems in values.items()
        if len(of_problems) == count
    ]
    return _first(ranking) if ranking else None


def _nearest_of_other_tasks(here: Problem, problems: list[Problem]) -> list[str]:
    """Of every other task of the domain, with each network, the variant most like `here`.

    A domain is what shares protocol and budget. A task may have been run in variants (other steps,
    another BatchNorm mode): those that share the most settings with this problem are comparable
    with it. Of equals the first by `variants.rank` is taken.
    """
    domain = ("protocol", "protocol_version", "budget")
    nearest: dict[tuple[str, str], tuple[int, int, str]] = {}
    for other in problems:
        if other["task"] != here["task"] and all(other[key] == here[key] for key in domain):
            likeness = (len(here["traits"] & other["traits"]), other["rank"], other["problem_id"])
            key = (other["task"], other["model"])
            nearest[key] = max(likeness, nearest.get(key, (-1, -1, "")))
    return [problem_id for *_, problem_id in nearest.values()]


def _traits(problem: Problem) -> set[str]:
    settings = variants.settings(problem).items()
    return {f"{key}={value}" for key, value in settings if not key.startswith("task.")}


def _tuned(here: Problem, tried: list[Trial], row: str, setting: str | None, tasks: str) -> Choice:
    chosen = next(trial for trial in tried if trial.setting == setting)
    rates = [trial.learning_rate for trial in tried if _known(trial.score)]
    rates = [rate for rate in rates if _known(rate)]
    return Choice(
        problem_id=here["problem_id"],
        task=here["task"],
        optimizer=chosen.optimizer,
        row=row,
        setting=chosen.setting,
        overrides=json.loads(chosen.overrides),
        edge=bool(rates) and chosen.learning_rate in (min(rates), max(rates)),
        tuning_runs=len(tried),
        tuning_seconds=sum(trial.seconds for trial in tried if _known(trial.seconds)),
        tuning_tasks=tasks,
        tuning_ids=tuple(trial.run_id for trial in tried),
    )


def _portfolios(frame: pd.DataFrame) -> Iterator[Choice]:
    """Of each problem the best of the defaults that need no tuning, by validation, charged for all.

    Of equal scores the reference's comes first. A method without a run at the tuning seed is in no
    portfolio: its reported runs are those by which the choice is measured.
    """
    runs = frame[(frame["seed"] == TUNING_SEED) & is_untuned_default(frame)]
    score = gain(validation_score(runs), runs["higher_is_better"])
    runs = runs.assign(score=np.where(runs["status"] == "failed", np.nan, score))
    runs = runs.assign(place=runs["role"].map(ROLES.index))
    for problem_id, tried in runs.groupby("problem_id"):
        ranked = tried.sort_values(["score", "place", "optimizer"], ascending=[False, True, True])
        if len(ranked) < 2 or ranked["score"].isna().all():
            continue
        members = tuple(ranked["optimizer"])
        yield Choice(
            problem_id=str(problem_id),
            task=ranked["task"].iloc[0],
            optimizer=BEST_OF_DEFAULTS,
            row=PORTFOLIO,
            setting=f"k={len(members)} opt={members[0]}",
            overrides={},
            tuning_runs=len(members),
            tuning_seconds=float(ranked["seconds"].sum()),
            tuning_tasks=ranked["task"].iloc[0],
            members=members,
            tuning_ids=tuple(ranked["run_id"]),
        )
