"""Ranks the optimizers over the problems of a protocol and a kind that all of them were run on."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.aggregates import (
    Estimate,
    interquartile_mean_of_red,
    pareto_front,
    probability_of_improvement,
)
from analysis.choice import (
    BEST_OF_DEFAULTS_LABEL,
    CALIBRATED,
    DEFAULT,
    INSTANCE_TUNED,
    MAIN_ROW,
    PORTFOLIO,
)
from analysis.comparison import Cell, Comparison, LineKey, labels_of, protocol_title
from analysis.kinds import KINDS, stem_of
from analysis.roles import REFERENCE, in_yaml
from analysis.statistics import MARGIN, performance_profile
from analysis.tables.models import Line, groups_of, lines_of, mean_errors
from analysis.tables.notes import times_of_devices, without_red
from analysis.tables.page import Page, bounds, number, signed
from tasks.errors import UserError
from tasks.format import NONE, duration, plural

# What of an optimizer is listed: what its user gets who tries nothing, who tries on other tasks,
# and who tries on this one. The rows that choose for one network are in models-<protocol>.
ROWS = (DEFAULT, PORTFOLIO, CALIBRATED, INSTANCE_TUNED)
# By name the optimizers of which it is said how probably another is better, as `INSTANCE_TUNED`.
RIVALS = {"sgd": "SGD", "adamw": "AdamW"}

COLUMNS = ["protocol", "tasks", "optimizer", "label", "role", "row"]
COLUMNS += ["red_iqm", "red_iqm_low", "red_iqm_high", "red_median", "red_mean"]
COLUMNS += [f"over_{name}{end}" for name in RIVALS for end in ("", "_low", "_high")]
COLUMNS += ["near_best", "pareto", "runs", "runs_elsewhere", "hours", "diverged", "crashed"]
COLUMNS += ["left_to_set", "memory_per_parameter", "step_ratio"]
LEFT = ["optimizer", "row", "left to set"]


class StepCost(NamedTuple):
    """What a step of an optimizer costs."""

    memory: float  # bytes a parameter, beside weights and gradients
    ratio: float  # of its time to that of the benchmark's reference


StepCosts = Mapping[str, StepCost]


@dataclass(frozen=True)
class Leaderboard:
    """The lines of a protocol and a kind of problem, best first, and what is not in them."""

    kind: str
    problems: list[Comparison]
    frame: pd.DataFrame  # `COLUMNS`
    errors: pd.DataFrame  # the mean error of each line, in their order, on each problem, by stem
    lacking: dict[tuple[str, ...], list[str]]  # lines not listed, by the problems that they lack
    # Problems not listed, by stem: of the listed optimizers those with a result there, and without.
    left_out: dict[str, tuple[list[str], list[str]]]
    without_red: list[Comparison]

    @property
    def stem(self) -> str:
        """The name of its files."""
        return f"leaderboard-{self.problems[0].problem.protocol}-{stem_of(self.kind)}"

    def profile(self, farthest: float) -> tuple[list[str], np.ndarray, np.ndarray]:
        """The performance profile of each optimizer's main row: labels, factors and shares.

        That is where a share changes, as a multiple of the smallest error, from 1 to `farthest`;
        and the part of the problems within it, of shape (optimizers, factors).
        """
        main = [
            row in (MAIN_ROW[role], PORTFOLIO)
            for row, role in zip(self.frame["row"], self.frame["role"], strict=True)
        ]
        errors = self.errors.to_numpy()
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = errors / errors.min(axis=0)
        factors = np.unique([1.0, *ratios[(ratios > 1) & (ratios < farthest)], farthest])
        return (
            self.frame["label"][main].to_list(),
            factors,
            performance_profile(errors, factors)[main],
        )

    @property
    def title(self) -> str:
        """Its kind and protocol for readers."""
        return f"{self.kind}, {protocol_title(self.problems)}"


def step_costs(path: Path) -> dict[str, StepCost]:
    """What `make bench` has measured of each optimizer's yaml: the medians over its networks.

    Nothing of a file that is not there, or that does not say which yaml a line is of.
    """
    if not path.exists():
        return {}
    try:
        lines = pd.read_csv(path)
        if "opt" not in lines:
            return {}
        lines = lines[(lines["status"] == "measured") & lines["opt"].notna()]
        lines = lines.drop_duplicates(["model", "opt"])
        numbers = lines[["memory_per_parameter", "ratio"]].astype("float64")
    except (ValueError, KeyError) as error:
        raise UserError(f"cannot read {path} ({error}): `make bench` writes it anew") from error
    medians = numbers.groupby(lines["opt"]).median()
    return {str(name): StepCost(*values) for name, *values in medians.itertuples()}


def leaderboards(
    comparisons: Iterable[Comparison], costs: StepCosts | None = None
) -> Iterator[Leaderboard]:
    """The leaderboards of each protocol, one for each of `KINDS`, with lines beside the reference.

    Problems of other kinds, those from random weights and those of theory, are in none.
    """
    found: dict[tuple[str, str | None], list[Comparison]] = {}
    for (protocol, *_), group in groups_of(comparisons):
        found.setdefault((protocol, group[0].kind), []).extend(group)
    for protocol, kind in product(dict.fromkeys(name for name, _ in found), KINDS):
        board = _leaderboard(kind, found.get((protocol, kind), []), costs or {})
        if board is not None:
            yield board


def common(problems_of: Mapping[str, Collection[str]]) -> tuple[list[str], list[str]]:
    """The problems that a leaderboard is over, and the optimizers that have all of them.

    `problems_of` has the problems of each optimizer but the reference, which has them all. Problem
    after problem is taken, each time that which the most of the optimizers have that have all
    before (of equals the first by name). It ends where the number of problems times that of
    optimizers is largest; of equals with the most problems.

    >>> common({"a": "xyz", "b": "xy", "c": "x"})
    (['x', 'y'], ['a', 'b'])
    """
    left = sorted({problem for problems in problems_of.values() for problem in problems})
    problems: list[str] = []
    optimizers = [*problems_of]
    best: tuple[list[str], list[str]] = ([], [])
    while left:
        having = {one: [name for name in optimizers if one in problems_of[name]] for one in left}
        taken = max(left, key=lambda problem: len(having[problem]))
        left.remove(taken)
        problems, optimizers = [*problems, taken], having[taken]
        if optimizers and len(problems) * len(optimizers) >= len(best[0]) * len(best[1]):
            best = problems, optimizers
    return best


def _leaderboard(kind: str, comparisons: list[Comparison], costs: StepCosts) -> Leaderboard | None:
    ran = [each for each in comparisons if each.reference is not None and each.reference.errors]
    known = [each for each in ran if _has_red(each.reference)]
    reference = next((each.reference.optimizer for each in known if each.reference), "")
    lines = {
        key: {line.comparison.stem: line for line in same if _has_red(line.cell)}
        for key, same in lines_of(known).items()
        if key[1] in ROWS
    }
    main = {
        optimizer: set(by_problem)
        for (optimizer, row), by_problem in lines.items()
        if any(row == MAIN_ROW[line.cell.role] for line in by_problem.values())
    }
    stems, optimizers = common({name: main[name] for name in main if name != reference})
    if not stems:
        return None
    problems = [each for each in known if each.stem in stems]
    # An interval's draws are in the order of the problems, not in that in which they were taken.
    listed = {
        key: [have[each.stem] for each in problems]
        for key, have in lines.items()
        if {*stems} <= {*have}
    }
    labels = labels_of(known)
    lacking: dict[tuple[str, ...], list[str]] = {}
    for (optimizer, row), have in lines.items():
        if gone := tuple(stem for stem in sorted(stems) if stem not in have):
            lacking.setdefault(gone, []).append(f"{labels[optimizer]} ({row})")
    left_out = {}
    for stem in (each.stem for each in known if each.stem not in stems):
        here, not_here = (
            [labels[name] for name in (reference, *optimizers) if (stem in main[name]) == has]
            for has in (True, False)
        )
        left_out[stem] = here, not_here
    frame = _frame(listed, costs)
    errors = mean_errors(problems).loc[[*zip(frame["optimizer"], frame["row"], strict=True)]]
    profile = performance_profile(errors.to_numpy(), [1 + MARGIN])
    return Leaderboard(
        kind=kind,
        problems=problems,
        frame=frame.assign(near_best=profile[:, 0])[COLUMNS],
        errors=errors,
        lacking=lacking,
        left_out=left_out,
        without_red=[each for each in ran if not _has_red(each.reference)],
    )


def _has_red(cell: Cell | None) -> bool:
    return cell is not None and bool(np.isfinite(cell.red))


def _frame(listed: Mapping[LineKey, list[Line]], costs: StepCosts) -> pd.DataFrame:
    """The lines, best first, without their place in the performance profile."""
    rivals = {name: listed.get((name, INSTANCE_TUNED), []) for name in RIVALS}
    rows = [_row(same, rivals, costs) for same in listed.values()]
    frame = pd.DataFrame(rows)
    # The last digits depend on the order of sums; a tie must stay one.
    frame["red_iqm"] = frame["red_iqm"].round(12)
    frame["pareto"] = pareto_front(frame["red_iqm"], frame["runs"])
    order = ["red_iqm", "label", "row"]
    return frame.sort_values(order, ascending=[False, True, True], ignore_index=True)


def _row(lines: list[Line], rivals: Mapping[str, list[Line]], costs: StepCosts) -> dict[str, Any]:
    """A line of `COLUMNS`, of the same line of each problem, without what others decide."""
    first, problem = lines[0].cell, lines[0].comparison.problem
    cells = [line.cell for line in lines]
    sides = [line.errors_by_seed for line in lines]
    iqm = interquartile_mean_of_red([dog for dog, _ in sides], [mine for _, mine in sides])
    red = [cell.red for cell in cells]
    cost = costs.get(first.optimizer, StepCost(np.nan, np.nan))
    # A record does not say it: what is known of a method may be corrected after its runs.
    left = in_yaml(first.optimizer, "left_to_set")
    row = {
        "protocol": problem.protocol,
        "tasks": len(lines),
        **{key: getattr(first, key) for key in ("optimizer", "label", "role", "row")},
        **_named("red_iqm", iqm),
        "red_median": float(np.median(red)),
        "red_mean": float(np.mean(red)),
        "runs": sum(cell.runs for cell in cells),
        "runs_elsewhere": sum(cell.runs_elsewhere for cell in cells),
        "hours": sum(cell.hours for cell in cells),
        "diverged": sum(cell.diverged for cell in cells),
        "crashed": sum(cell.tried - cell.seeds for cell in cells),
        "left_to_set": None if left is None else ", ".join(left) or "nothing",
        "memory_per_parameter": cost.memory,
        "step_ratio": cost.ratio,
    }
    for name, rival in rivals.items():
        chance = Estimate(np.nan, np.nan, np.nan)
        if rival and rival is not lines:
            errors = [[[*line.cell.errors.values()] for line in side] for side in (lines, rival)]
            chance = probability_of_improvement(*errors)
        row |= _named(f"over_{name}", chance)
    return row


def _named(name: str, found: Estimate) -> dict[str, float]:
    return {name: found.estimate, f"{name}_low": found.low, f"{name}_high": found.high}


def pages_of_leaderboards(comparisons: Sequence[Comparison], costs: StepCosts) -> Iterator[Page]:
    """The table of each leaderboard: leaderboard-<protocol>-<kind>."""
    for board in leaderboards(comparisons, costs):
        yield Page(
            stem=board.stem,
            exact=board.frame.drop(columns="role").round(8),
            title=f"Leaderboard · {board.title}",
            head=_head(board),
            shown=shown_board(board.frame),
            left=LEFT,
            notes=notes_of_board(board),
            latex=True,
        )


def _head(board: Leaderboard) -> str:
    names = ", ".join(f"[{each.stem}]({each.address})" for each in board.problems)
    return f"Over {plural(len(board.problems), 'problem')}: {names}."


def shown_board(frame: pd.DataFrame) -> pd.DataFrame:
    """The lines as a reader sees them: text, in named columns."""
    is_reference = (frame["role"] == REFERENCE) & (frame["row"] == DEFAULT)
    interval = [
        NONE if np.isnan(low) else bounds(low, high)
        for low, high in zip(frame["red_iqm_low"], frame["red_iqm_high"], strict=True)
    ]
    over = {
        f"over tuned {label} %": _chances(frame, f"over_{name}")
        for name, label in RIVALS.items()
        if frame[f"over_{name}"].notna().any()
    }
    columns = {
        "optimizer": frame["label"],
        "row": frame["row"],
        "IQM of RED %": frame["red_iqm"].map(signed).mask(is_reference, "reference"),
        "95 % interval": pd.Series(interval).mask(is_reference, NONE),
        "median": frame["red_median"].map(signed).mask(is_reference, NONE),
        "mean": frame["red_mean"].map(signed).mask(is_reference, NONE),
        **over,
        "near best %": [f"{100 * near:.0f}" for near in frame["near_best"]],
        "Pareto": ["front" if on else "" for on in frame["pareto"]],
        "runs": frame["runs"].astype(str),
        "elsewhere": [str(runs) if runs else NONE for runs in frame["runs_elsewhere"]],
        "time": (3600 * frame["hours"]).map(duration),
        "diverged": frame["diverged"].astype(str),
        "crashed": frame["crashed"].astype(str),
        "left to set": frame["left_to_set"].fillna(NONE),
        "memory": [number(value, ".0f") for value in frame["memory_per_parameter"]],
        "step": [number(value, ".2f") for value in frame["step_ratio"]],
    }
    return pd.DataFrame(columns)


def _chances(frame: pd.DataFrame, name: str) -> list[str]:
    texts = []
    for chance, low, high in frame[[name, f"{name}_low", f"{name}_high"]].itertuples(index=False):
        interval = "" if np.isnan(low) else f" ({100 * low:.0f} to {100 * high:.0f})"
        texts.append(NONE if np.isnan(chance) else f"{100 * chance:.0f}{interval}")
    return texts


def notes_of_board(board: Leaderboard) -> list[str]:
    """What is not in the table, and what the columns mean."""
    frame = board.frame
    notes = []
    for stem, (have, lack) in board.left_out.items():
        which = f"without a result of {', '.join(lack)}"
        if len(have) < len(lack):
            which = f"which has results of {', '.join(have)} alone"
        notes.append(f"Left out: {stem}, {which}.")
    for stems, names in board.lacking.items():
        where = "any of the problems" if len(stems) == len(board.problems) else ", ".join(stems)
        notes.append(f"Not listed, without a result on {where}: {'; '.join(names)}.")
    notes += [
        f"Dropped: {each.stem}, where DoG's runs {without_red(each.problem)}."
        for each in board.without_red
    ]
    notes += [
        f"No column over tuned {label}: it has no row {INSTANCE_TUNED} here."
        for name, label in RIVALS.items()
        if frame[f"over_{name}"].isna().all()
    ]
    if frame["red_iqm_low"].isna().any():
        notes.append("No interval where a problem has one seed.")
    notes += times_of_devices(board.problems)
    protocol = board.problems[0].problem.protocol
    notes += [
        "Which problems: taken one after another, each time that which most of the optimizers "
        "left have, until problems × optimizers (without DoG) is largest. A line is listed if it "
        "has a result on all of them. For the choice the defaults of a method without a rate to "
        "tune count, and the row instance-tuned of another. "
        f"[models-{protocol}.md](models-{protocol}.md) has all rows of each network.",
        "IQM of RED: the interquartile mean of RED over all runs of all problems, each problem "
        "with the same weight; the order of the table. Its 95 % interval is for other seeds on "
        "these problems. Lines whose intervals overlap are not told apart. median, mean: of RED "
        "of seed means over the problems.",
        "over tuned SGD, over tuned AdamW: how probably a run errs less than one of SGD or AdamW "
        "with its instance-tuned setting (Mann and Whitney, ties count half), the mean over the "
        "problems, with its 95 % interval.",
        f"near best: on how many of the problems the mean error is at most {1 + MARGIN:g} times "
        "the smallest of any line. Pareto: on the front, no other line has at least this IQM for "
        "at most as many runs, and one of the two better.",
        "runs, time: charged over all problems, tuning on the problem included. elsewhere: runs on "
        "other tasks without which there is no calibrated setting; the front does not count them.",
        "left to set: what a user may still have to set by hand. memory: bytes a parameter of "
        "optimizer state and averaged copies. step: its time as a multiple of the reference's of "
        "`make bench`, the median over networks. –: not known.",
    ]
    return notes + _portfolios(board)


def _portfolios(board: Leaderboard) -> list[str]:
    """Of which methods the portfolio of each problem is, and which one it chose."""
    parts = []
    for each in board.problems:
        labels = labels_of([each])
        parts += [
            f"{labels[choice.members[0]]} of {len(choice.members)} on {each.stem}"
            for choice in each.choices
            if choice.row == PORTFOLIO
        ]
    if not parts:
        return []
    return [
        f"{BEST_OF_DEFAULTS_LABEL}: of the methods that need no tuning, each with its defaults, "
        f"that with the best validation score on the problem: {', '.join(parts)}. The table of "
        "each problem names them all."
    ]
