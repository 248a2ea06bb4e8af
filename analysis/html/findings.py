"""The answers that a page begins with: sentences, each with its numbers and what it rests on."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd

from analysis.answer import verdict_in_words
from analysis.choice import DEFAULT, INSTANCE_TUNED
from analysis.comparison import Comparison
from analysis.figures.batch_norm import KEY
from analysis.findings.pairs import NO_VERDICT
from analysis.html.charts import Chart
from analysis.html.duels import Duel, Key, Scope, duels
from analysis.html.table import fragment
from analysis.roles import REFERENCE, TUNED
from analysis.statistics import Verdict
from analysis.tables.leaderboard import Leaderboard, StepCosts
from analysis.tables.notes import unit
from analysis.tables.page import number, score_text, signed
from analysis.variants import settings
from tasks.format import plural

# The answers name so many rivals and subjects; the table of verdicts has them all.
RIVALS, SUBJECTS = 2, 2
# The reference of `make bench`.
BENCHMARK = "a step of torch's fused SGD with momentum"


@dataclass(frozen=True)
class Statement:
    """One sentence of an answer.

    Attributes:
        text: for readers.
        scope: what it is about, if not all.
        numbers: what it rests on: estimate, interval, how many problems.
        link: a fragment of the page: where these numbers are.
        verdict: one of `statistics.Verdict`, or "".
    """

    text: str
    numbers: str = ""
    link: str = ""
    verdict: str = ""
    scope: str = ""


@dataclass(frozen=True)
class Finding:
    """A question and its answer."""

    question: str
    statements: Sequence[Statement]


def verdicts(
    scopes: Sequence[Scope],
    subjects: Sequence[Key],
    rivals: Sequence[Key],
    names: Mapping[Key, str],
) -> Iterator[Finding]:
    """Whether tuning can be spared: of each kind of training, and in each domain."""
    tuned = [key for key in rivals if key[1] == INSTANCE_TUNED][:RIVALS]
    wide = [scope for scope in scopes if not scope.is_network]
    for subject in subjects[:SUBJECTS]:
        found: dict[tuple[Key, tuple[str, ...]], Duel] = {}
        for scope in wide:  # those over the same problems say the same
            for duel in duels(scope, subject, tuned):
                found.setdefault((duel.rival, tuple(duel.problems)), duel)
        if found:
            said = [statement(duel, names) for duel in found.values()]
            yield Finding(f"Is {names[subject]} as good as a tuned optimizer?", said)


def statement(duel: Duel, names: Mapping[Key, str]) -> Statement:
    """A verdict in words."""
    subject, rival = names[duel.subject], names[duel.rival]
    low, high = duel.interval
    name = duel.scope.name
    of = [each.problem.domain for each in duel.scope.problems if each.stem in duel.problems]
    only = "" if len({*of}) > 1 or of[0] in name else f", {of[0]}"
    where = f"{name[0].upper()}{name[1:]} ({plural(len(duel.problems), 'problem')}{only})"
    link = fragment("duel", name, *duel.subject, *duel.rival)
    red = f"RED {signed(duel.red)} %"
    if duel.verdict == NO_VERDICT:
        text = f"Cannot tell {subject} from {rival}: one seed gives no interval."
        return Statement(text, red, link, scope=where)
    found = cast(Verdict, duel.verdict)
    words = verdict_in_words(found, subject, rival, low, high)
    kind = "other tasks like these" if duel.is_for_other_tasks else "other seeds on these problems"
    numbers = f"{red}, 95 % interval {interval_text(low, high)} for {kind}"
    return Statement(words, numbers, link, found, where)


def interval_text(low: float, high: float) -> str:
    """An interval of RED in percent."""
    return f"{signed(low)} to {signed(high)}"


def best_lines(board: Leaderboard, link: str) -> Finding:
    """Which optimizers lead, with tuning and without, and where the reference stands."""
    frame = board.frame
    sure = _with_interval(frame)
    untuned = sure[(sure["runs"] == sure["tasks"]) & (sure["runs_elsewhere"] == 0)]
    place = int(np.flatnonzero(frame["role"] == REFERENCE)[0])
    reference = frame["label"].iloc[place]
    statements = [
        _leader("Best of all", sure.iloc[0], reference, link),
        _leader("Best with one run a problem", untuned.iloc[0], reference, link),
    ]
    front = ", ".join(_name(line) for _, line in frame[frame["pareto"]].iterrows())
    said = f"{reference} is number {place + 1} of {len(frame)}."
    text = f"{said} Nothing beats these in both error and runs (the Pareto front): {front}."
    statements.append(Statement(text, link=link))
    ahead = frame.loc[: sure.index[0]].iloc[:-1]
    if len(ahead):
        names = ", ".join(_name(line) for _, line in ahead.iterrows())
        text = f"Not counted, for they have one seed alone on some problem: {names}."
        statements.append(Statement(text, link=link))
    over = plural(len(board.problems), "problem")
    return Finding(f"Which optimizer is best? {board.kind.capitalize()}, {over}", statements)


def _with_interval(frame: pd.DataFrame) -> pd.DataFrame:
    """The reference and the lines that have an interval; all of them where none has one."""
    known = frame["red_iqm_low"].notna()
    return frame[known | (frame["role"] == REFERENCE)] if known.any() else frame


def _leader(which: str, line: pd.Series, reference: str, link: str) -> Statement:
    red, runs = line["red_iqm"], plural(line["runs"], "run")
    text = f"{which}: {_name(line)}."
    if line["role"] == REFERENCE:
        return Statement(text, runs, link)
    size = f"{number(100 * abs(red), '.1f')} % {'smaller' if red > 0 else 'larger'}"
    known = not np.isnan(line["red_iqm_low"])
    interval = f" ({interval_text(line['red_iqm_low'], line['red_iqm_high'])})" if known else ""
    numbers = f"IQM of RED {signed(red)} %{interval}, {runs}"
    return Statement(f"{text} Its error is typically {size} than {reference}'s.", numbers, link)


def _name(line: pd.Series) -> str:
    """The name of a leaderboard's line for readers, as `duels.name_of`."""
    if line["row"] == INSTANCE_TUNED:
        return f"tuned {line['label']}"
    if line["role"] != TUNED:
        return str(line["label"])
    return f"{line['label']} ({'default settings' if line['row'] == DEFAULT else line['row']})"


def best_starts(
    charts: Sequence[tuple[Chart, Sequence[tuple[str, Comparison, pd.DataFrame]]]],
    regrets: pd.DataFrame,
) -> Iterator[Statement]:
    """Which start each way to normalize needs, and what a start that is found costs."""
    for chart, lines in charts:
        for _, comparison, runs in lines:
            means = runs.groupby("value")["test"].mean()
            percent = bool(comparison.problem.higher_is_better)
            best = means.idxmax() if percent else means.idxmin()
            shown = {value: score_text(mean, percent) for value, mean in means.items()}
            default = [*runs["value"][runs["opt_default"]].head(1)]
            others = dict.fromkeys([*default, means.index[0], means.index[-1]])
            rest = ", ".join(
                f"{'the default ' if value in default else ''}{value:g}: {shown[value]}"
                for value in others
                if value != best
            )
            problem = comparison.problem
            how = _NORMALIZED[settings(problem).get(KEY)]
            text = (
                f"{how} ({problem.task} · {problem.model}), the best of "
                f"{plural(len(means), 'start')} is reps_rel={best:g}."
            )
            numbers = f"test {unit(problem)} {shown[best]}; {rest}"
            yield Statement(text, numbers, f"figure-{chart.name}")
    for name, lines in regrets[regrets["rule"] == ""].groupby("optimizer", sort=False):
        worst = lines.loc[lines["regret"].idxmax()]
        median = number(100 * lines["regret"].median(), ".2f")
        text = (
            f"{name} finds its start by itself. It is behind the best fixed start, chosen in "
            f"hindsight, by {median} points in the median of {plural(len(lines), 'problem')}."
        )
        numbers = f"at worst by {number(100 * worst['regret'], '.2f')}: {worst['problem']}"
        yield Statement(text, numbers, f"table-starts-{worst['protocol']}")


_NORMALIZED = {
    "train": "With batch normalization trained",
    "frozen": "With batch normalization frozen",
    None: "Without batch normalization",
}


def step_cost(
    labels: Mapping[str, str], costs: StepCosts, lines: Sequence[Key]
) -> Iterator[Statement]:
    """What a step of the first optimizers of some lines costs."""
    named = dict.fromkeys(name for name, _ in lines if name in costs)
    for name in [*named][: RIVALS + 1]:
        cost = costs[name]
        text = f"{labels[name]}: {cost.ratio:.2f} × the time of {BENCHMARK}."
        memory = f"{cost.memory:.0f} bytes of extra memory a parameter"
        yield Statement(text, memory, "table-step-costs")
