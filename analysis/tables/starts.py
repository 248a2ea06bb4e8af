"""Compares rules that find DoG's start with the best fixed start, chosen in hindsight."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analysis.choice import comparable
from analysis.comparison import Comparison, protocol_title, scored
from analysis.roles import in_yaml
from analysis.statistics import student_t
from analysis.tables.page import Page, number, start_text
from analysis.varied import varied
from runner import TUNING_SEED

# Fewer fixed starts show no best one.
LEAST_STARTS = 3
KEY = "reps_rel"
COLUMNS = ["protocol", "protocol_version", "problem_id", "problem", "steps"]
COLUMNS += ["starts_of", "optimizer", "rule"]
COLUMNS += ["seeds", "score", "best_start", "best_score", "default", "default_score"]
COLUMNS += ["regret", "half_width", "over_default", "over_default_half_width", "is_edge"]
LEFT = ["problem", "optimizer"]
# What is looked at of a run; few columns are faster to filter.
_OF_RUN = ["problem_id", "optimizer", "overrides", "seed", "test", "label", "opt_default"]
_OF_RUN += ["reps_rel", "c"]


def pages_of_tried(tried: Iterable["Tried"]) -> Iterator[Page]:
    """Two tables of each protocol: the start that an optimizer finds, and all rules for it."""
    by_protocol: dict[str, list[Tried]] = {}
    for each in tried:
        by_protocol.setdefault(each.comparison.problem.protocol, []).append(each)
    for protocol, of_protocol in sorted(by_protocol.items()):
        lines = regrets_of(of_protocol)
        title = protocol_title(each.comparison for each in of_protocol)
        without_rules = lines[~lines["optimizer"].isin(_with_rules(lines))]
        if not without_rules.empty:
            yield Page(
                stem=f"starts-{protocol}",
                exact=without_rules,
                title=f"Starts: {title}",
                shown=_shown(without_rules),
                left=LEFT,
                notes=NOTES,
            )
        if rules := on_shared_seeds(of_protocol):
            yield Page(
                stem=f"start-rules-{protocol}",
                exact=regrets_of(rules),
                title=f"Rules that find DoG's start: {title}",
                shown=table_of_rules(of_protocol),
                left=["rule"],
                notes=RULE_NOTES,
            )


def regrets_of(tried: Iterable["Tried"]) -> pd.DataFrame:
    """A line for each problem and each setting of an optimizer that finds its start by itself.

    Returns `COLUMNS`. `regret` is the score of the best fixed start, by its mean over the seeds
    that all runs of the line have, less that of the rule, for a metric of which more is better (and
    the other way round); `over_default` is the rule's score less that of the default start. The
    half widths are of 95 % intervals of the paired differences, NaN for one seed.
    """
    return pd.DataFrame([each.line(each.found) for each in tried], columns=COLUMNS)


@dataclass(frozen=True)
class Tried:
    """The test scores on a problem of a start that is found, and of fixed ones on its seeds."""

    comparison: Comparison
    optimizer: str  # that finds its start
    label: str  # its name for readers
    rule: str  # by which it does, where it has several
    starts_of: str  # the optimizer of the fixed ones
    default: float  # its start by default
    found: pd.Series  # by seed
    fixed: pd.DataFrame  # by seed, a column for each start

    def over(self, start: float, scores: pd.Series) -> tuple[float, float]:
        """By how much scores are better than those from a fixed start: mean and half width."""
        fixed = self.fixed.get(start, scores * np.nan)
        return student_t(self._sign * (scores - fixed))

    def line(self, scores: pd.Series) -> list[object]:
        """Return the row of `regrets_of` for these scores."""
        problem, means = self.comparison.problem, self.fixed.mean()
        best = (self._sign * means).idxmax()
        return [
            *(problem.protocol, problem.protocol_version, problem.problem_id),
            *(self.comparison.name, problem.steps),
            *(self.starts_of, self.label, self.rule, len(scores), scores.mean()),
            *(best, means[best], self.default, means.get(self.default, np.nan)),
            *student_t(self._sign * (self.fixed[best] - scores)),
            *(*self.over(self.default, scores), best in (means.index[0], means.index[-1])),
        ]

    @property
    def _sign(self) -> float:
        return 1.0 if self.comparison.problem.higher_is_better else -1.0


def tried_starts(comparisons: Iterable[Comparison], frame: pd.DataFrame) -> Iterator[Tried]:
    """What was tried on each problem, for each setting of an optimizer that finds its start."""
    runs = comparable(frame)
    runs = scored(runs[(runs["status"] != "failed") & (runs["seed"] < TUNING_SEED)])[_OF_RUN]
    by_problem = dict(list(runs.groupby("problem_id")))
    for comparison in comparisons:
        of_problem = by_problem.get(comparison.problem.problem_id, runs[:0])
        finds_start_of = {
            optimizer: name
            for optimizer in of_problem["optimizer"].unique()
            if (name := in_yaml(optimizer, "finds_start_of"))
        }
        fixed = {
            name: varied(of_problem[of_problem["optimizer"] == name], KEY)
            for name in set(finds_start_of.values())
        }
        finding = of_problem[of_problem["optimizer"].isin(finds_start_of)]
        for (optimizer, setting), runs_of_setting in finding.groupby(["optimizer", "overrides"]):
            name, changed = finds_start_of[optimizer], json.loads(str(setting))
            starts = fixed[name]
            scores = starts.groupby(["seed", "value"])["test"].mean().unstack()
            found = runs_of_setting.set_index("seed")["test"]
            seeds = scores.index.intersection(found.index)
            if scores.shape[1] >= LEAST_STARTS and set(changed) <= {"rule"} and len(seeds):
                yield Tried(
                    comparison=comparison,
                    optimizer=str(optimizer),
                    label=runs_of_setting["label"].iloc[0],
                    rule=changed.get("rule", ""),
                    starts_of=name,
                    default=starts["value"][starts["opt_default"]].median(),
                    found=found.loc[seeds],
                    fixed=scores.loc[seeds],
                )


def on_shared_seeds(tried: Iterable[Tried]) -> list[Tried]:
    """Return what was tried where there are rules, on the seeds that all rules of a problem have.

    So all are compared with one best fixed start.
    """
    groups: dict[tuple[str, str], list[Tried]] = {}
    for each in tried:
        key = (each.comparison.problem.problem_id, each.starts_of)
        groups.setdefault(key, []).append(each)
    found = []
    for group in groups.values():
        seeds = sorted(set.intersection(*(set(each.found.index) for each in group)))
        if seeds and any(each.rule for each in group):
            found += [
                replace(each, found=each.found.loc[seeds], fixed=each.fixed.loc[seeds])
                for each in group
            ]
    return found


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
                f"{start_text(start)}{'†' if edge else ''}"
                for start, edge in zip(lines["best_start"], lines["is_edge"], strict=True)
            ],
            "its score %": _percent(lines["best_score"]),
            "regret": _points(lines["regret"], lines["half_width"]),
            "default %": _percent(lines["default_score"]),
            "over default": _points(lines["over_default"], lines["over_default_half_width"]),
        }
    )


def table_of_rules(tried: Iterable[Tried]) -> pd.DataFrame:
    """Return `regrets_of_rules` as text, in points, with the worst and the mean."""
    table = regrets_of_rules(tried)
    shown = table.assign(worst=table.max(axis=1), mean=table.mean(axis=1)).sort_values("worst")
    texts = shown.map(lambda points: number(100 * points, ".2f"))
    return texts.reset_index(names="rule")


def regrets_of_rules(tried: Iterable[Tried]) -> pd.DataFrame:
    """Return a row for each rule, a column for each problem that has all rules: the regrets."""
    lines = regrets_of(on_shared_seeds(tried))
    lines["name"] = lines["rule"].where(lines["rule"] != "", lines["optimizer"])
    table = lines.pivot_table(index="name", columns="problem", values="regret", sort=False)
    return table.dropna(axis="columns")


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
    "rule, both on the seeds that all rules have there. worst, mean: over the problems shown, "
    "which have every rule.",
    "docs/start.md says what each rule does; rivals/start_rules.py has it.",
]
