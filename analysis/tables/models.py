"""Compares the optimizers over all tasks of a model: RED with intervals, verdicts and costs."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd

from analysis.choice import DEFAULT, INSTANCE_TUNED
from analysis.comparison import Cell, Comparison, LineKey, by_protocol, protocol_title
from analysis.kinds import SAME_TEXTS, is_independent
from analysis.roles import REFERENCE
from analysis.statistics import (
    LEAST_TASKS,
    MARGIN,
    RESAMPLES,
    UNKNOWN,
    median_red,
    performance_profile,
    sign_test_interval,
    verdict,
)
from analysis.tables.notes import caveats_of, without_red
from analysis.tables.page import Page, bounds, count, signed
from analysis.variants import departures
from tasks.format import NONE, duration

GROUP = ["protocol", "protocol_version", "budget", "model"]
COLUMNS = [*GROUP, "optimizer", "label", "row", "tasks", "task_names"]
COLUMNS += ["red_median", "red_q1", "red_q3", "red_mean"]
COLUMNS += ["pairs_median", "pairs_q1", "pairs_q3", "pairs_mean"]
COLUMNS += ["these_low", "these_high", "verdict_these", "like_low", "like_high", "verdict_like"]
COLUMNS += ["near_best", "diverged", "crashed", "edges", "break_even_runs", "break_even_hours"]
COLUMNS += ["runs", "hours", "role"]
LEFT = ["model", "kind", "optimizer", "row"]


@dataclass(frozen=True)
class Line:
    """A cell of a problem's comparison, beside what it is compared with."""

    comparison: Comparison
    cell: Cell

    @property
    def errors_by_seed(self) -> tuple[np.ndarray, np.ndarray]:
        """The reference's errors and the cell's, as `by_seed`."""
        reference = self.comparison.reference
        return by_seed({} if reference is None else reference.errors, self.cell.errors)


def compare_over_tasks(comparisons: Iterable[Comparison]) -> pd.DataFrame:
    """A line for each model (of a protocol and a budget), optimizer and row, over the tasks.

    Returns `COLUMNS`; RED and its ends are fractions, positive where the optimizer beats DoG.

    - tasks, task_names: those with RED (where DoG has enough errors, and both have a reported run);
      everything about RED is over these;
    - red_median, red_q1, red_q3, red_mean: of RED of seed means, the headline; pairs_…: the same of
      RED as published, the mean over all pairs of seeds;
    - these_low, these_high: the 95 % interval of red_median "on these tasks", like_low and
      like_high: "on tasks like these"; nan where unknown (`statistics.median_red`,
      `statistics.sign_test_interval`);
    - verdict_these, verdict_like: what the interval says of DoG against the optimizer
      (`statistics.verdict`); "" for DoG itself;
    - near_best: the part of all the group's tasks on which the mean error is at most 1 + `MARGIN`
      times the smallest of any line (`statistics.performance_profile`);
    - diverged, crashed: reported runs; edges: tasks whose rate is at the edge of the grid;
    - break_even_runs, break_even_hours: the median over the tasks of what tuning takes to catch up
      with DoG, inf where it never does; of instance-tuned rows only, otherwise nan;
    - runs, hours: the sum charged over all tasks; hours is nan where a task has no time.
    """
    rows = []
    for values, group in groups_of(comparisons):
        identity = dict(zip(GROUP, values, strict=True))
        profile = performance_profile(mean_errors(group).to_numpy(), [1 + MARGIN])
        for lines, near_best in zip(lines_of(group).values(), profile[:, 0], strict=True):
            rows.append({**identity, **_compare(lines), "near_best": near_best})
    return pd.DataFrame(rows, columns=COLUMNS)


def mean_errors(comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """The mean error of each optimizer and row (index) on each problem (columns, by stem).

    nan where a problem lacks the line. What a performance profile is made from.
    """
    lines = lines_of(comparisons)
    means = [{line.comparison.stem: line.cell.error for line in same} for same in lines.values()]
    index = pd.MultiIndex.from_tuples(lines, names=["optimizer", "row"])
    columns = [comparison.stem for comparison in comparisons]
    return pd.DataFrame(means, index=index, columns=columns, dtype=float)


def groups_of(comparisons: Iterable[Comparison]) -> Iterator[tuple[tuple, list[Comparison]]]:
    """The problems of each protocol, budget and model (`GROUP`): of a task's variants the first.

    That is the protocol's own, if it was run (`variants.rank`).
    """
    for values, group in groupby(sorted(comparisons, key=_group), _group):
        by_task = groupby(sorted(group, key=_task), _task)
        yield values, [max(variants, key=_rank) for _, variants in by_task]


def _group(comparison: Comparison) -> tuple:
    return tuple(comparison.problem[name] for name in GROUP)


def _task(comparison: Comparison) -> str:
    return str(comparison.problem.task)


def _rank(comparison: Comparison) -> int:
    return int(comparison.problem["rank"])


def _left_out(comparison: Comparison, taken: Comparison) -> str:
    """Why another variant of its task is taken."""
    mine, other = comparison.problem, taken.problem
    if mine.departures > other.departures:
        changed = ", ".join(departures(mine))
        reason = f"which departs more from the protocol's own settings: {changed}"
    elif mine.runs < other.runs:
        reason = f"with {count(mine.runs)} runs, fewer than its {count(other.runs)}"
    elif mine.steps < other.steps:
        reason = f"with {count(mine.steps)} steps, fewer than its {count(other.steps)}"
    else:
        reason = "alike in runs and steps and not run later"
    return f"Left out: {comparison.stem}, a variant of {taken.stem} {reason}."


def lines_of(comparisons: Iterable[Comparison]) -> dict[LineKey, list[Line]]:
    """The lines of each optimizer and row, in the order of the comparisons."""
    lines: dict[LineKey, list[Line]] = {}
    for comparison in comparisons:
        for cell in comparison.cells:
            lines.setdefault(cell.key, []).append(Line(comparison, cell))
    return lines


def _compare(lines: list[Line]) -> dict[str, Any]:
    """One line of `COLUMNS` without the group, from the same line of several problems."""
    first = lines[0].cell
    known = [line for line in lines if np.isfinite(line.cell.red)]
    sides = [line.errors_by_seed for line in known]
    median = median_red([reference for reference, _ in sides], [other for _, other in sides])
    these, like = median.on_these_tasks, _for_other_tasks(known)
    verdicts: list[str] = [verdict(*these), verdict(*like)]
    if first.is_reference:
        these, like, verdicts = UNKNOWN, UNKNOWN, ["", ""]
    return {
        **{key: getattr(first, key) for key in ("optimizer", "role", "label", "row")},
        "tasks": len(known),
        "task_names": ", ".join(_task(line.comparison) for line in known),
        **_spread("red", [line.cell.red for line in known]),
        **_spread("pairs", [line.cell.red_of_pairs for line in known]),
        **dict(zip(("these_low", "these_high"), these, strict=True)),
        **dict(zip(("like_low", "like_high"), like, strict=True)),
        **dict(zip(("verdict_these", "verdict_like"), verdicts, strict=True)),
        "diverged": sum(line.cell.diverged for line in lines),
        "crashed": sum(line.cell.tried - line.cell.seeds for line in lines),
        "edges": sum(line.cell.edge for line in lines),
        **_break_even(lines),
        "runs": sum(line.cell.runs for line in lines),
        "hours": sum(line.cell.hours for line in lines),
    }


def _for_other_tasks(lines: list[Line]) -> tuple[float, float]:
    """The interval of the median RED for other tasks, in which those of the same texts are one."""
    tasks = [_task(line.comparison) for line in lines]
    pairs = zip(lines, tasks, strict=True)
    return sign_test_interval(
        [line.cell.red for line, task in pairs if is_independent(task, tasks)]
    )


def by_seed(*sides: Mapping[int, float]) -> tuple[np.ndarray, np.ndarray]:
    """Two sides' errors, of shape (seeds,): of all seeds that either has, nan where one has not."""
    seeds = sorted({seed for errors in sides for seed in errors})
    reference, other = (np.array([errors.get(seed, np.nan) for seed in seeds]) for errors in sides)
    return reference, other


def _spread(name: str, values: list[float]) -> dict[str, float]:
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75]) if values else [np.nan] * 3
    mean = np.mean(values) if values else np.nan
    return {
        f"{name}_median": median,
        f"{name}_q1": low,
        f"{name}_q3": high,
        f"{name}_mean": float(mean),
    }


def _break_even(lines: list[Line]) -> dict[str, float]:
    runs, hours = [], []
    for line in lines:
        curve = line.comparison.break_even.get(line.cell.optimizer)
        if curve is not None and line.cell.row == INSTANCE_TUNED:
            runs.append(curve.runs or np.inf)
            hours.append(curve.hours[curve.runs - 1] if curve.runs else np.inf)
    return {
        "break_even_runs": float(np.median(runs)) if runs else np.nan,
        "break_even_hours": float(np.median(hours)) if hours else np.nan,
    }


def pages_of_models(comparisons: Sequence[Comparison]) -> Iterator[Page]:
    """A table for each protocol: models-<protocol>."""
    for protocol, of_protocol in sorted(by_protocol(comparisons).items()):
        frame = compare_over_tasks(of_protocol)
        yield Page(
            stem=f"models-{protocol}",
            exact=frame.drop(columns="role").round(8),
            title=f"All tasks of each model · {protocol_title(of_protocol)}",
            shown=shown_lines(frame),
            left=LEFT,
            notes=_notes(of_protocol, frame),
            latex=True,
        )


def shown_lines(frame: pd.DataFrame) -> pd.DataFrame:
    """The lines as a reader sees them: text, in named columns."""
    is_reference = (frame["role"] == REFERENCE) & (frame["row"] == DEFAULT)
    quartiles = frame["red_q1"].map(signed) + ", " + frame["red_q3"].map(signed)
    columns = {
        "model": frame["model"],
        "kind": frame["budget"],
        "optimizer": frame["label"],
        "row": frame["row"],
        "tasks": frame["tasks"].astype(str),
        "median RED %": frame["red_median"].map(signed).mask(is_reference, "reference"),
        "quartiles": quartiles.mask(is_reference | (frame["tasks"] == 0), NONE),
        "mean": frame["red_mean"].map(signed).mask(is_reference, NONE),
        "of pairs": frame["pairs_median"].map(signed).mask(is_reference, NONE),
        "on these tasks": _intervals(frame, "these"),
        "on tasks like these": _intervals(frame, "like"),
        "diverged": frame["diverged"].astype(str),
        "crashed": frame["crashed"].astype(str),
        "near best %": [f"{100 * near:.0f}" for near in frame["near_best"]],
        "†": frame["edges"].astype(str),
        "break-even": [
            _caught_up(runs, hours)
            for runs, hours in zip(frame["break_even_runs"], frame["break_even_hours"], strict=True)
        ],
        "runs": frame["runs"].astype(str),
        "time": (3600 * frame["hours"]).map(duration),
    }
    return pd.DataFrame(columns)


def _intervals(frame: pd.DataFrame, which: str) -> list[str]:
    names = [f"{which}_low", f"{which}_high", f"verdict_{which}"]
    texts = []
    for low, high, said in frame[names].itertuples(index=False):
        judged = said if said == "inconclusive" else f"DoG {said}"
        texts.append(NONE if np.isnan(low) else f"{bounds(low, high)}: {judged}")
    return texts


def _caught_up(runs: float, hours: float) -> str:
    if np.isnan(runs):
        return NONE
    return "never" if np.isinf(runs) else f"{runs:g} runs, {duration(3600 * hours)}"


def _budget(group: list[Comparison]) -> str:
    """What a model was trained for on which tasks: "minilm (language): 400 steps (movies)"."""
    tasks: dict[tuple, list[str]] = {}
    for comparison in group:
        key = (comparison.problem.steps, comparison.problem.batch_size)
        tasks.setdefault(key, []).append(_task(comparison))
    parts = [
        f"{count(steps)} steps of batch size {count(size)} ({', '.join(names)})"
        for (steps, size), names in tasks.items()
    ]
    first = group[0].problem
    return f"{first.model} ({first.budget}): {', '.join(parts)}."


def _notes(comparisons: list[Comparison], frame: pd.DataFrame) -> list[str]:
    """What was left out, and what the columns mean."""
    groups = list(groups_of(comparisons))
    notes = [_budget(group) for _, group in groups]
    taken = {(values, _task(each)): each for values, group in groups for each in group}
    for comparison in comparisons:
        instead = taken[_group(comparison), _task(comparison)]
        if instead is not comparison:
            notes.append(_left_out(comparison, instead))
    for comparison in taken.values():
        reference = comparison.reference
        if reference is not None and reference.errors and np.isnan(reference.red):
            reason = without_red(comparison.problem)
            notes.append(f"Dropped: {comparison.stem}, where DoG's runs {reason}.")
    for comparison in taken.values():
        notes += [f"{comparison.stem}: {caveat}" for caveat in caveats_of(comparison)]
    if frame["tasks"].max() > 0 and frame["like_low"].isna().all():
        notes.append(
            f"With fewer than {LEAST_TASKS} tasks there is no 95 % interval on tasks like these; "
            "none is shown. Tasks of the same texts count as one there."
        )
    return [
        *notes,
        "RED: how much smaller the mean error is than DoG's on a task, (err_DoG − err) / err_DoG; "
        "positive is better than DoG. The median, quartiles and mean are over the tasks; of pairs: "
        "the median of RED as published, averaged over all pairs of seeds.",
        "95 % intervals of the median. On these tasks, for other seeds: of one task "
        f"Fieller's interval over seeds; of several a studentised bootstrap, {RESAMPLES:,} draws. "
        "On tasks like these, for other tasks too: that of the sign test; tasks of the same texts "
        f"({_same_texts()}) count as one.",
        "After the interval its verdict: DoG is better (RED below 0), non-inferior (below "
        f"{100 * MARGIN:g} %, the margin fixed before any run: close to the rival), worse (above 0 "
        "and not below the margin), or it is inconclusive.",
        *_multiplicity(frame),
        f"near best: on how many of the tasks the mean error is at most {1 + MARGIN:g} times the "
        "smallest of any line. †: tasks whose learning rate is the lowest or highest tried. "
        "break-even: what tuning takes until its expected test error is at most DoG's on the same "
        "seed, the median over the tasks. runs, time: charged over all tasks, tuning included.",
    ]


def _same_texts() -> str:
    return "; ".join(f"{other}, {task}" for task, other in SAME_TEXTS.items())


def _multiplicity(frame: pd.DataFrame) -> list[str]:
    """What the number of verdicts does to them."""
    number = int(frame[["these_low", "like_low"]].notna().sum().sum())
    if number < 2:
        return []
    return [
        f"{number} verdicts stand in this table, each by its own 95 % interval; none is corrected "
        f"for their number. Of so many intervals {0.05 * number:.1f} miss the truth on average: "
        "one verdict that differs from all others may be one of these."
    ]
