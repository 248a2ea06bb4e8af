"""The answers that a page begins with: sentences, each with its numbers and what it rests on."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.aggregates import pareto_front
from analysis.choice import DEFAULT, INSTANCE_TUNED
from analysis.comparison import Comparison, LineKey
from analysis.figures.batch_norm import KEY
from analysis.findings.pairs import NO_VERDICT
from analysis.html.charts import Chart
from analysis.html.duels import Duel, Scope, duels
from analysis.html.table import fragment
from analysis.kinds import KINDS
from analysis.roles import REFERENCE, TUNED
from analysis.statistics import is_in_percent
from analysis.tables.leaderboard import Leaderboard, StepCosts
from analysis.tables.notes import unit
from analysis.tables.page import bounds, number, score_text, signed
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
        numbers: what it rests on: estimate, interval, how many problems.
        link: a fragment of the page: where these numbers are.
        verdict: one of `statistics.Verdict`, or "".
    """

    text: str
    numbers: str = ""
    link: str = ""
    verdict: str = ""


@dataclass(frozen=True)
class Finding:
    """A question and its answer.

    Attributes:
        statements: what is said.
        columns, rows: a small table below it: the name of each row, and its cells in short; None
            where there is nothing to say.
    """

    question: str
    statements: Sequence[Statement]
    columns: Sequence[str] = ()
    rows: Sequence[tuple[str, Sequence[Statement | None]]] = ()


# The verdicts in short, by how a summary begins where one of them is given.
WORSE, UNKNOWN, GOOD = (
    "Not without loss, by these runs",
    "That cannot be told from these runs",
    "Yes, by these runs",
)


def verdicts(
    scopes: Sequence[Scope],
    subjects: Sequence[LineKey],
    rivals: Sequence[LineKey],
    names: Mapping[LineKey, str],
) -> Iterator[Finding]:
    """Whether tuning can be spared: of each kind of training, and in each domain."""
    tuned = [key for key in rivals if key[1] == INSTANCE_TUNED][:RIVALS]
    wide = [scope for scope in scopes if not scope.is_network]
    for subject in subjects[:SUBJECTS]:
        found = {
            scope.name: {duel.rival: duel for duel in duels(scope, subject, tuned)}
            for scope in wide
        }
        rows = [
            (name, [_in_a_cell(mine[rival]) if rival in mine else None for rival in tuned])
            for name, mine in found.items()
            if mine
        ]
        if rows:
            of_kinds = [duel for kind in KINDS for duel in found.get(kind, {}).values()]
            question = f"Is {names[subject]} as good as a tuned optimizer?"
            said = [Statement(in_short(of_kinds, names))] if of_kinds else []
            yield Finding(question, said, [f"against {names[key]}" for key in tuned], rows)


def in_short(found: Sequence[Duel], names: Mapping[LineKey, str]) -> str:
    """Return in two sentences at most what the verdicts over whole kinds of problems say."""
    subject = names[found[0].subject]
    groups: dict[str, dict[LineKey, list[str]]] = {}
    for duel in found:
        verdict = UNKNOWN if duel.verdict in (NO_VERDICT, "inconclusive") else duel.verdict
        groups.setdefault(verdict, {}).setdefault(duel.rival, []).append(duel.scope.name)
    first = WORSE if "worse" in groups else UNKNOWN if UNKNOWN in groups else GOOD
    said = [f"{v} {TO[v]} {_listed(groups[v], names)}" for v in TO if v in groups]
    text = f"{first}: {subject} is {', and '.join(said)}." if said else f"{first}."
    if UNKNOWN in groups and said:
        text += f" Against {_listed(groups[UNKNOWN], names)} it cannot be told."
    return text


# What stands between a verdict and the rival.
TO = {"worse": "than", "non-inferior": "to", "better": "than"}


def _listed(rivals: Mapping[LineKey, Sequence[str]], names: Mapping[LineKey, str]) -> str:
    return " and ".join(f"{names[key]} ({', '.join(where)})" for key, where in rivals.items())


IN_A_CELL = {"inconclusive": "cannot tell", NO_VERDICT: "one seed"}


def _in_a_cell(duel: Duel) -> Statement:
    """A verdict as a cell has it."""
    interval = f" ({bounds(*duel.evidence.interval)})" if duel.verdict != NO_VERDICT else ""
    mark = "" if duel.evidence.is_for_other_tasks else " ¹"
    words = IN_A_CELL.get(duel.verdict, duel.verdict)
    return Statement(
        text=f"{words}, n = {len(duel.problems)}{mark}",
        numbers=f"{signed(duel.evidence.red)} %{interval}",
        link=fragment("duel", duel.scope.name, *duel.subject, *duel.rival),
        verdict=duel.verdict if duel.verdict != NO_VERDICT else "",
    )


def best_lines(board: Leaderboard, link: str) -> Finding:
    """Which optimizers lead, with tuning and without, and where the reference stands."""
    frame = board.frame
    sure = _with_interval(frame)
    untuned = sure[(sure["runs"] == sure["tasks"]) & (sure["runs_elsewhere"] == 0)]
    place = 1 + int(np.flatnonzero(sure["role"] == REFERENCE)[0])
    reference = sure["label"].iloc[place - 1]
    front = sure[pareto_front(sure["red_iqm"], sure["runs"])]
    said = f"{reference} is number {place} of these {len(sure)}."
    names = ", ".join(_name(line) for _, line in front.iterrows())
    statements = [
        _leader("Best of those with several seeds on each problem", sure.iloc[0], reference, link),
        _leader("Best with one run a problem", untuned.iloc[0], reference, link),
        Statement(f"{said} In error and runs at once none beats {names} (the Pareto front)."),
    ]
    if len(sure) < len(frame):
        ahead = frame[(frame["red_iqm"] > 0) & ~frame.index.isin(sure.index)]
        names = ", ".join(_name(line) for _, line in ahead.iterrows())
        text = f"{len(frame) - len(sure)} with one seed on some problem are not counted"
        text += f"; of these {names} would stand above {reference}." if len(ahead) else "."
        statements.append(Statement(text))
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
    interval = f" ({bounds(line['red_iqm_low'], line['red_iqm_high'])})" if known else ""
    numbers = f"IQM of RED {signed(red)} %{interval}, for other seeds; {runs}"
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
        behind, said = {}, []
        for label, comparison, runs in lines:
            means = runs.groupby("value")["test"].mean()
            problem = comparison.problem
            best = means.idxmax() if problem.higher_is_better else means.idxmin()
            behind[label] = abs(means - means[best])
            shown = {value: score_text(mean, problem) for value, mean in means.items()}
            default = [*runs["value"][runs["opt_default"]].head(1)]
            others = dict.fromkeys([*default, means.index[0], means.index[-1]])
            rest = ", ".join(
                f"{'the default ' if value in default else ''}{value:g}: {shown[value]}"
                for value in others
                if value != best
            )
            how = _NORMALIZED[settings(problem).get(KEY)]
            text = (
                f"{how} ({problem.task} · {problem.model}), the best of "
                f"{plural(len(means), 'start')} is reps_rel={best:g}."
            )
            seeds = plural(runs["seed"].nunique(), "seed")
            numbers = f"test {unit(problem)} {shown[best]}; {rest}; {seeds}"
            said.append(Statement(text, numbers, f"figure-{chart.name}"))
        yield from start_for_all(
            pd.DataFrame(behind).dropna(), is_in_percent(problem), f"figure-{chart.name}"
        )
        yield from said
    for name, lines in regrets[regrets["rule"] == ""].groupby("optimizer", sort=False):
        worst = lines.loc[lines["regret"].idxmax()]
        median = number(100 * lines["regret"].median(), ".2f")
        text = (
            f"{name} finds its start by itself. It is behind the best fixed start, chosen in "
            f"hindsight, by {median} points in the median of {plural(len(lines), 'problem')}."
        )
        numbers = f"at worst by {number(100 * worst['regret'], '.2f')}: {worst['problem']}"
        yield Statement(text, numbers, f"table-starts-{worst['protocol']}")


def start_for_all(behind: pd.DataFrame, percent: bool, link: str) -> Iterator[Statement]:
    """The start that loses least on the worst of some networks, and what the best of others does.

    `behind` has how far each start, a line, is behind the best of each network, a column.
    """
    if behind.shape[1] < 2 or behind.empty or not percent:
        return
    worst = 100 * behind.max(axis=1)
    start = worst.idxmin()
    text = (
        f"Of the starts tried with all of these, reps_rel={start:g} loses least: at most "
        f"{number(worst[start], '.1f')} points against the best of each."
    )
    others = [best for best in behind.idxmin().unique() if best != start]
    for best in others:
        text += f" {best:g}, the best of one, loses {number(worst[best], '.1f')} on another."
    yield Statement(text, link=link)


_NORMALIZED = {
    "train": "With the statistics of batch normalization trained",
    "frozen": "With the statistics of batch normalization frozen",
    None: "Without batch normalization",
}


def step_cost(
    labels: Mapping[str, str], costs: StepCosts, lines: Sequence[LineKey]
) -> Iterator[Statement]:
    """What a step of the first optimizers of some lines costs."""
    named = dict.fromkeys(name for name, _ in lines if name in costs)
    for name in [*named][: RIVALS + 1]:
        cost = costs[name]
        text = f"{labels[name]}: {cost.ratio:.2f} × the time of {BENCHMARK}."
        memory = f"{cost.memory:.0f} bytes of extra memory a parameter"
        yield Statement(text, memory, "table-step-costs")
