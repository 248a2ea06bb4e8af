"""Compares rules that find DoG's start with the best fixed start, chosen in hindsight."""

import json
from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd

from analysis.choice import comparable
from analysis.comparison import Comparison, scored, title_of_protocol
from analysis.roles import finds_start_of
from analysis.statistics import student_t
from analysis.tables.page import Page, number
from analysis.varied import varied
from runner import TUNING_SEED

# Fewer fixed starts show no best one.
LEAST_STARTS = 3
KEY = "reps_rel"
COLUMNS = [
    "protocol",
    "protocol_version",
    "problem_id",
    "problem",
    "steps",
    "starts_of",
    "optimizer",
    "rule",
]
COLUMNS += ["seeds", "score", "best_start", "best_score", "default", "default_score"]
COLUMNS += ["regret", "half_width", "over_default", "over_default_half_width", "is_edge"]
LEFT = ["problem", "optimizer"]
# What is looked at of a run; few columns are faster to filter.
_OF_RUN = ["problem_id", "optimizer", "overrides", "seed", "test", "label", "opt_default"]
_OF_RUN += ["reps_rel", "c"]


def pages_of_starts(comparisons: Iterable[Comparison], frame: pd.DataFrame) -> Iterator[Page]:
    """Two tables of each protocol: the start that an optimizer finds, and all rules for it."""
    yield from pages_of_regrets(regrets(comparisons, frame))


def pages_of_regrets(found: pd.DataFrame) -> Iterator[Page]:
    """The tables of what `regrets` has found."""
    for protocol, lines in found.groupby("protocol"):
        title = title_of_protocol(str(protocol), lines["protocol_version"])
        has_rules = lines["optimizer"].isin(_with_rules(lines))
        own = lines[~has_rules]
        if not own.empty:
            yield Page(
                stem=f"starts-{protocol}",
                exact=own,
                title=f"Starts: {title}",
                shown=_shown(own),
                left=LEFT,
                notes=NOTES,
            )
        if has_rules.any():
            yield Page(
                stem=f"start-rules-{protocol}",
                exact=lines,
                title=f"Rules that find DoG's start: {title}",
                shown=regrets_of_rules(lines),
                left=["rule"],
                notes=RULE_NOTES,
            )


def regrets(comparisons: Iterable[Comparison], frame: pd.DataFrame) -> pd.DataFrame:
    """A line for each problem and each setting of an optimizer that finds its start by itself.

    Returns `COLUMNS`. `regret` is the score of the best fixed start, by its mean over the seeds
    that all runs of the line have, less that of the rule, for a metric of which more is better (and
    the other way round); `over_default` is the rule's score less that of the default start. The
    half widths are of 95 % intervals of the paired differences, NaN for one seed.
    """
    lines = [
        _line(comparison, fixed_name, rule, fixed)
        for comparison, fixed_name, rule, fixed in _found_and_fixed(comparisons, frame)
    ]
    return pd.DataFrame(lines, columns=COLUMNS)


def regrets_of_fixed(
    comparisons: Iterable[Comparison], frame: pd.DataFrame, optimizer: str
) -> pd.DataFrame:
    """The same of each fixed start beside which this optimizer finds its own, with it as `start`.

    Over the problems and seeds of the optimizer's line in `regrets`.
    """
    lines = [
        [*_line(comparison, fixed_name, of_start, fixed), start]
        for comparison, fixed_name, rule, fixed in _found_and_fixed(comparisons, frame)
        if rule["optimizer"].iloc[0] == optimizer
        for start, of_start in fixed[fixed["seed"].isin(rule["seed"])].groupby("value")
    ]
    return pd.DataFrame(lines, columns=[*COLUMNS, "start"])


def _found_and_fixed(
    comparisons: Iterable[Comparison], frame: pd.DataFrame
) -> Iterator[tuple[Comparison, str, pd.DataFrame, pd.DataFrame]]:
    """Each problem and setting that finds its start: whose start that is, and the runs of both."""
    runs = comparable(frame)
    runs = scored(runs[(runs["status"] != "failed") & (runs["seed"] < TUNING_SEED)])[_OF_RUN]
    by_problem = dict(list(runs.groupby("problem_id")))
    for comparison in comparisons:
        of_problem = by_problem.get(comparison.problem.problem_id, runs[:0])
        for (optimizer, setting), rule in of_problem.groupby(["optimizer", "overrides"]):
            fixed_name = finds_start_of(optimizer)
            if fixed_name is None:
                continue
            fixed = varied(of_problem[of_problem["optimizer"] == fixed_name], KEY)
            is_alone = set(json.loads(setting)) <= {"rule"}
            has_seeds = rule["seed"].isin(fixed["seed"]).any()
            if fixed["value"].nunique() >= LEAST_STARTS and is_alone and has_seeds:
                yield comparison, fixed_name, rule, fixed


def _line(
    comparison: Comparison, starts_of: str, rule: pd.DataFrame, fixed: pd.DataFrame
) -> list[object]:
    problem = comparison.problem
    table = fixed.pivot_table(index="seed", columns="value", values="test")
    own = rule.set_index("seed")["test"]
    seeds = table.index.intersection(own.index)
    sign = 1.0 if problem.higher_is_better else -1.0
    table, own = sign * table.loc[seeds], sign * own.loc[seeds]
    best, default = table.mean().idxmax(), fixed["value"][fixed["opt_default"]].median()
    behind = table[best] - own
    over = own - table[default] if default in table else own * np.nan
    first = rule.iloc[0]
    at_default = sign * table[default].mean() if default in table else np.nan
    return [
        *(problem.protocol, problem.protocol_version, problem.problem_id),
        *(comparison.name, problem.steps),
        *(starts_of, first["label"], json.loads(first["overrides"]).get("rule", ""), len(seeds)),
        *(sign * own.mean(), best, sign * table[best].mean(), default, at_default),
        *(*student_t(behind), *student_t(over), best in (table.columns[0], table.columns[-1])),
    ]


def _with_rules(lines: pd.DataFrame) -> set[str]:
    return set(lines["optimizer"][lines["rule"] != ""])


def _shown(lines: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "problem": lines["problem"],
            "steps": lines["steps"].map("{:,}".format),
            "optimizer": lines["optimizer"],
            "seeds": lines["seeds"],
            "score %": _percent(lines["score"]),
            "best fixed start": [
                f"{start:g}{'†' if edge else ''}"
                for start, edge in zip(lines["best_start"], lines["is_edge"], strict=True)
            ],
            "its score %": _percent(lines["best_score"]),
            "regret": _points(lines["regret"], lines["half_width"]),
            "default %": _percent(lines["default_score"]),
            "over default": _points(lines["over_default"], lines["over_default_half_width"]),
        }
    )


def regrets_of_rules(lines: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each rule, a column for each problem that has all rules: the regrets."""
    with_rules = lines[lines["optimizer"].isin(_with_rules(lines))]
    lines = lines[lines["problem_id"].isin(with_rules["problem_id"])]
    lines = lines[lines["starts_of"].isin(with_rules["starts_of"])]
    names = lines["rule"].where(lines["rule"] != "", lines["optimizer"])
    lines = lines.assign(name=names, column=lines["problem"])
    table = lines.pivot_table(index="name", columns="column", values="regret", sort=False)
    complete = table.dropna()
    shown = complete.assign(worst=complete.max(axis=1), mean=complete.mean(axis=1))
    shown = shown.sort_values("worst")
    texts = shown.map(lambda points: number(100 * points, ".2f"))
    return texts.reset_index(names="rule")


def _percent(scores: pd.Series) -> list[str]:
    return [number(100 * score, ".2f") for score in scores]


def _points(means: pd.Series, half_widths: pd.Series) -> list[str]:
    return [
        number(100 * mean, "+.2f") + ("" if np.isnan(half) else f" ± {100 * half:.2f}")
        for mean, half in zip(means, half_widths, strict=True)
    ]


NOTES = [
    "optimizer: finds its start by itself. best fixed start: the `reps_rel` with the highest mean "
    "score over the same seeds, chosen in hindsight; † the lowest or the highest that was tried.",
    "regret: the score of the best fixed start less that of the rule, in points; below 0: the rule "
    "is better. over default: the rule's score less that of the protocol's `reps_rel`, in points.",
    "±: 95 % interval of the mean difference over seeds, paired, Student's t.",
]
RULE_NOTES = [
    "Regret in points: the score of the best fixed start, chosen in hindsight, less that of the "
    "rule. worst, mean: over the problems shown, which have every rule.",
    "docs/start.md says what each rule does; rivals/start_rules.py has it.",
]
