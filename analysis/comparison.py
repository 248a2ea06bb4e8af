"""Compares the optimizers on each problem: a cell for each optimizer and way of choosing."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import pandas as pd

from analysis import statistics, variants
from analysis.choice import (
    BEST_OF_DEFAULTS,
    BEST_OF_DEFAULTS_LABEL,
    DEFAULT,
    PORTFOLIO,
    UNSEEN,
    Choice,
    OldVersion,
    choose_among,
    comparable,
    is_grid_run,
    iterate,
    left_out_of_other_data,
    old_versions,
    validation_score,
)
from analysis.kinds import kind_of_training
from analysis.roles import (
    REFERENCE,
    ROLES,
    TUNING_FREE,
    is_reference_run,
    is_untuned_default,
)
from runner import TUNING_SEED

# Problems of the same names differ in other settings, or in their version.
NAMES = ["task", "model", "protocol"]
# The longest that a file's name says of a variant, in letters.
LONGEST = 80

# What a cell is made from, and what else a comparison; few columns are faster to filter.
_OF_CELL = ["optimizer", "role", "label", "setting", "opt_default", "status", "test", "error"]
_OF_CELL += ["run_id", "seed", "test_last", "test_averaged", "test_examples", "seconds", "metric"]
_OF_RUN = [*_OF_CELL, "problem_id", "overrides", "grid", "learning_rate", "higher_is_better"]
_OF_RUN += ["validation_last", "validation_averaged", "replicas", "numerics"]


# Of a line that problems share: an optimizer and one of its rows.
LineKey = tuple[str, str]


@dataclass(frozen=True)
class Cell:
    """The reported runs of one setting of an optimizer on one problem."""

    optimizer: str
    label: str  # the optimizer's name for readers
    role: str
    row: str  # one of `choice.ROWS`, or `choice.PORTFOLIO`
    setting: str
    edge: bool  # the learning rate is the lowest or the highest of those tried
    test: float  # mean over seeds, as are `last` and `averaged`: fractions, in the task's metric
    test_half_width: float  # of Student's 95 % t interval
    last: float
    averaged: float
    red: float  # of seed means, a fraction
    red_of_pairs: float
    seeds: int  # with a result
    tried: int  # crashed ones included
    diverged: int
    runs: int  # charged, tuning on this task included
    runs_elsewhere: int  # on other tasks, which the choice rests on
    hours: float  # of these
    errors: Mapping[int, float]  # on test, by seed
    run_ids: Sequence[str] = ()  # the reported runs, crashed ones included
    tuning_ids: Sequence[str] = ()  # those that the setting was chosen from

    @property
    def key(self) -> LineKey:
        """The optimizer and the row, which name the same line of each problem."""
        return self.optimizer, self.row

    @property
    def is_reference(self) -> bool:
        """Whether it is what all others are compared with."""
        return self.role == REFERENCE and self.row == DEFAULT

    @property
    def error(self) -> float:
        """The mean test error over the seeds; nan where there is none."""
        return float(np.mean([*self.errors.values()])) if self.errors else np.nan


_BY_RUN = ("errors", "run_ids", "tuning_ids")
_OF_FRAME = [field.name for field in fields(Cell) if field.name not in _BY_RUN]


@dataclass(frozen=True)
class Comparison:
    """All that is said of one problem."""

    page: str  # <task>-<model>-<protocol>: the name of its table's files, which variants share
    stem: str  # the page, and of all but the first variant what tells it apart, as from `stems_of`
    problem: pd.Series  # the columns of records.csv that all its runs share, and of `variants.rank`
    variant: str  # what tells it from other problems of its name; "" where there are none
    cells: list[Cell]
    choices: list[Choice]  # that the cells show
    reference_error: float  # on test at the tuning seed; nan: no run, or too few errors
    break_even: dict[str, statistics.BreakEven]  # of each optimizer with a grid, against that
    numerics: pd.Series  # of the runs compared, as in records.csv
    replicas: int  # at most so many of its runs trained together
    other_data: int  # how many runs are left out as they read other data
    rivals: list[pd.Series]  # the other problems of its name
    old_versions: list[OldVersion]  # of its name

    @property
    def name(self) -> str:
        """The problem within its protocol, for readers: "task · model, variant"."""
        return ", ".join(
            filter(None, [f"{self.problem.task} · {self.problem.model}", self.variant])
        )

    @property
    def title(self) -> str:
        """The problem's name for readers."""
        name = f"{self.problem.task} · {self.problem.model} · {protocol_title([self])}"
        return f"{name} · {self.variant}" if self.variant else name

    @property
    def address(self) -> str:
        """Where its table is in Markdown: the page, and of all but the first variant the heading.

        GitHub and others name a heading so.
        """
        heading = re.sub(r"[^\w -]", "", self.title.lower()).replace(" ", "-")
        return f"{self.page}.md" if self.stem == self.page else f"{self.page}.md#{heading}"

    @property
    def kind(self) -> str | None:
        """What is trained, one of those of `kinds`; None of none of them."""
        return kind_of_training(self.problem)

    @property
    def reference(self) -> Cell | None:
        """The cell that all others are compared with; None if there is none."""
        return next((cell for cell in self.cells if cell.is_reference), None)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The cells as a frame, a line each, without their errors by seed."""
        return frame_of(self.cells)


def labels_of(comparisons: Iterable[Comparison]) -> dict[str, str]:
    """The optimizers' names for readers."""
    return {cell.optimizer: cell.label for each in comparisons for cell in each.cells}


def by_protocol(comparisons: Iterable[Comparison]) -> dict[str, list[Comparison]]:
    """The problems of each protocol: no table and no figure mixes two."""
    groups: dict[str, list[Comparison]] = {}
    for comparison in comparisons:
        groups.setdefault(comparison.problem.protocol, []).append(comparison)
    return groups


def protocol_title(comparisons: Iterable[Comparison]) -> str:
    """The protocol of some problems that share it, for readers: "lite v1", or "lite v1, v2".

    Its sections have versions of their own, and a table may show problems of several.
    """
    problems = [comparison.problem for comparison in comparisons]
    versions = sorted({each.protocol_version for each in problems})
    return f"{problems[0].protocol} {', '.join(f'v{version}' for version in versions)}"


def frame_of(cells: Iterable[Cell]) -> pd.DataFrame:
    """Cells as a frame, a line each, without their errors by seed."""
    lines = [[getattr(cell, name) for name in _OF_FRAME] for cell in cells]
    return pd.DataFrame(lines, columns=_OF_FRAME)


def compare_problems(frame: pd.DataFrame) -> list[Comparison]:
    """A comparison of each problem in `frame` (from `records.collect`), comparable runs only.

    By task, model and protocol; of variants the first by `variants.rank` comes first.
    """
    current = comparable(frame)
    choices: dict[str, list[Choice]] = {}
    for choice in choose_among(current):
        choices.setdefault(choice.problem_id, []).append(choice)
    runs = dict(list(scored(current)[_OF_RUN].groupby("problem_id")))
    problems = current.sort_values(["test_examples", "run_id"], kind="stable")
    problems = problems.drop_duplicates("problem_id")
    problems = problems.drop(columns=["steps", "started"])
    problems = problems.merge(variants.rank(current), on="problem_id")
    problems = problems.sort_values("rank", ascending=False, ignore_index=True)
    other_data = left_out_of_other_data(frame)
    old = {name: old_versions(group) for name, group in frame.groupby(NAMES)}
    comparisons: list[Comparison] = []
    pages: set[str] = set()
    for name, alike in problems.groupby(NAMES):
        labels = variants.labels(alike.to_dict("records"))
        stems = stems_of("-".join(name), labels, [*alike["problem_id"]], pages)
        pages.add(stems[0])
        for (_, problem), label, stem in zip(alike.iterrows(), labels, stems, strict=True):
            problem_id = problem.problem_id
            mine, chosen = runs[problem_id], choices[problem_id]
            reference_error, curves = _break_even(mine)
            rivals = alike[alike["problem_id"] != problem_id]
            replicas = mine["replicas"].max()
            comparison = Comparison(
                page=stems[0],
                stem=stem,
                problem=problem,
                variant=label,
                cells=cells_of(mine, chosen),
                choices=chosen,
                reference_error=reference_error,
                break_even=curves,
                numerics=_compared(mine, chosen)["numerics"],
                replicas=1 if pd.isna(replicas) else int(replicas),
                other_data=int(other_data.get(problem_id, 0)),
                rivals=[rival for _, rival in rivals.iterrows()],
                old_versions=old[name],
            )
            comparisons.append(comparison)
    return comparisons


def stems_of(
    name: str, labels: Sequence[str], problem_ids: Sequence[str], pages: Collection[str] = ()
) -> list[str]:
    """The names of the variants of a problem: the name alone, and with what tells the others apart.

    That is their label, or the id where several would be the same or a name were too long for a
    file. Signs of paths, as in the model timm:resnet50, become dashes. `pages` are the names that
    other problems have.

    >>> stems_of("mnist-lenet5-lite", ["steps=500", "steps=125, lora=8"], ["1a2b", "3c4d"])
    ['mnist-lenet5-lite', 'mnist-lenet5-lite-steps=125-lora=8']
    """
    name = re.sub(r"[/:\\]+", "-", name)
    if name in pages:
        name += f"-{problem_ids[0][:6]}"
    stems = [name]
    for label, problem_id in zip(labels[1:], problem_ids[1:], strict=True):
        ending = re.sub(r"[^\w.=+-]+", "-", label)
        is_name = 0 < len(ending) <= LONGEST and f"{name}-{ending}" not in stems
        stems.append(f"{name}-{ending if is_name else problem_id[:6]}")
    return stems


def _compared(runs: pd.DataFrame, choices: Sequence[Choice]) -> pd.DataFrame:
    """The runs of one problem with a result that count: those reported, and those of tuning."""
    tuning = is_grid_run(runs) | is_untuned_default(runs)
    settings = [(choice.optimizer, choice.setting) for choice in choices]
    chosen = pd.MultiIndex.from_frame(runs[["optimizer", "setting"]]).isin(settings)
    at_tuning_seed = runs["seed"] == TUNING_SEED
    counts = (at_tuning_seed & tuning) | (~at_tuning_seed & chosen)
    return runs[(runs["status"] != "failed") & counts]


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
RunColumns = dict[str, np.ndarray]


def _select(runs: RunColumns, which: np.ndarray) -> RunColumns:
    return {name: values[which] for name, values in runs.items()}


def cells_of(frame: pd.DataFrame, choices: Iterable[Choice]) -> list[Cell]:
    """The cells of a problem, one for each choice: the reference first, tuned optimizers last.

    `frame` has the `scored` runs of the problem. The runs of a choice are those of its setting, or
    of its optimizer's default.
    """
    seen = reported(frame)
    runs = {name: seen[name].to_numpy() for name in _OF_CELL}
    runs["test_examples"] = seen["test_examples"].to_numpy(float, na_value=np.nan)
    is_reference = is_reference_run(seen) & (seen["status"] != "failed")
    reference = _select(runs, is_reference.to_numpy(bool))
    named = frame.drop_duplicates("optimizer", keep="last").set_index("optimizer")
    labels, roles = named["label"].to_dict(), named["role"].to_dict()
    labels[BEST_OF_DEFAULTS], roles[BEST_OF_DEFAULTS] = BEST_OF_DEFAULTS_LABEL, TUNING_FREE
    cells = [
        _cell(runs, choice, labels[choice.optimizer], roles[choice.optimizer], reference)
        for choice in choices
    ]
    return sorted(cells, key=lambda cell: (ROLES.index(cell.role), cell.label, cell.optimizer))


def _cell(runs: RunColumns, choice: Choice, label: str, role: str, reference: RunColumns) -> Cell:
    """A cell from the reported runs of one setting and those of the reference."""
    if choice.row == PORTFOLIO:
        same = (runs["optimizer"] == choice.members[0]) & runs["opt_default"]
    else:
        same = (runs["optimizer"] == choice.optimizer) & (runs["setting"] == choice.setting)
        same &= runs["opt_default"] | (choice.row != DEFAULT)
    tried = _select(runs, same)
    done = _select(tried, tried["status"] != "failed")
    mean, half_width = statistics.student_t(done["test"])
    red = of_pairs = np.nan
    if reference["error"].size and statistics.has_enough_errors(
        reference["error"].mean(), reference["test_examples"][0], reference["metric"][0]
    ):
        red = statistics.relative_error_difference(reference["error"], done["error"])
        of_pairs = statistics.relative_error_difference_of_pairs(reference["error"], done["error"])
    # A tuned row's user keeps the run that was chosen: the reported seeds repeat it to measure it.
    final = choice.row in (DEFAULT, *UNSEEN)
    final_seconds = _mean(done["seconds"]) if final else 0.0
    return Cell(
        optimizer=choice.optimizer,
        label=label,
        role=role,
        row=choice.row,
        setting=choice.setting,
        edge=choice.edge,
        test=mean,
        test_half_width=half_width,
        last=_mean(done["test_last"]),
        averaged=_mean(done["test_averaged"]),
        red=red,
        red_of_pairs=of_pairs,
        seeds=done["test"].size,
        tried=tried["test"].size,
        diverged=int((done["status"] == "diverged").sum()),
        runs=choice.tuning_runs + final,
        runs_elsewhere=choice.tuning_runs_elsewhere,
        hours=(choice.tuning_seconds + final_seconds) / 3600,
        errors=dict(zip(done["seed"].tolist(), done["error"].tolist(), strict=True)),
        run_ids=tried["run_id"].tolist(),
        tuning_ids=choice.tuning_ids,
    )


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else np.nan


def _break_even(runs: pd.DataFrame) -> tuple[float, dict[str, statistics.BreakEven]]:
    """The reference's error at the tuning seed and each grid's break-even with it, of one problem.

    `runs` are `scored`. Without such a run, or with too few errors, nan and nothing.
    """
    runs = runs[(runs["seed"] == TUNING_SEED) & (runs["status"] != "failed")]
    reference = runs[is_reference_run(runs)]
    enough = statistics.has_enough_errors(
        reference["error"], reference["test_examples"].astype("float64"), reference["metric"]
    )
    if not enough.any():
        return np.nan, {}
    reference_error = float(reference["error"].iloc[0])
    tried = runs[is_grid_run(runs)].sort_values(["learning_rate", "setting"])
    score = statistics.gain(validation_score(tried), tried["higher_is_better"])
    return reference_error, {
        str(optimizer): statistics.break_even(
            grid["gain"], grid["error"], grid["seconds"], reference_error
        )
        for optimizer, grid in tried.assign(gain=score).groupby("optimizer")
    }
