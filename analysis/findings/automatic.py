"""What archived runs say of starts that are found: beside fixed ones, and rule beside rule."""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import pandas as pd

from analysis.findings.archived import AUTO, DOG, LAUTO, Archived
from analysis.findings.problems import name_of
from analysis.findings.texts import NO_RUNS, named, span
from analysis.kinds import PROBES
from analysis.tables import starts
from analysis.tables.page import markdown, number, start_text
from analysis.tables.starts import COLUMNS, KEY, Tried
from analysis.variants import departures
from analysis.varied import varied
from tasks.format import plural

# A regret that counts; the published start, which docs/start.md judges by, too; and the problem on
# which it shows what more training does.
POINT, PUBLISHED, OVERTRAINED = 0.01, 1e-6, "probe_amazon"
# Adapters are not in the protocol of docs/start.md: they count nowhere but where the aim is missed.
ADAPTERS = "model.lora="


def make_table(archived: Archived) -> str:
    """Return how far the automatic starts are behind the best fixed ones, and one for all is."""
    groups = {tried[0].label: _regrets_of(tried) for tried in _by_method(_of_protocol(archived))}
    for tried in _by_method(_of_protocol(archived)):
        lines, name = _lines_of_fixed(tried), archived.labels[tried[0].starts_of]
        means = _regrets_of_shared(lines).mean(axis=1)
        shown = [means.idxmin()] if len(means) else []
        shown += [each for each in means.index if each == tried[0].default and each not in shown]
        groups |= {
            f"{name} from {start_text(start)} on all": lines[lines["start"] == start]
            for start in shown
        }
    return _judged(groups)


def list_shared_starts(archived: Archived) -> str:
    """Return the fixed starts that all problems have, among which one for all is chosen."""
    found = [
        (tried[0], _regrets_of_shared(_lines_of_fixed(tried)).index)
        for tried in _by_method(_of_protocol(archived))
    ]
    said = (
        f"{archived.labels[each.starts_of]} {', '.join(map(start_text, shared)) or 'none'}"
        for each, shared in found
    )
    return "; ".join(said) or NO_RUNS


def _of_protocol(archived: Archived) -> list[Tried]:
    return [
        each
        for each in archived.tried
        if not any(text.startswith(ADAPTERS) for text in departures(each.comparison.problem))
    ]


def _by_method(tried: Iterable[Tried]) -> Iterator[list[Tried]]:
    """Yield what was tried beside each automatic start: DoG's, and L-DoG's."""
    tried = list(tried)
    for optimizer, _ in (AUTO, LAUTO):
        if found := [each for each in tried if each.optimizer == optimizer]:
            yield found


def _regrets_of(tried: Iterable[Tried]) -> pd.DataFrame:
    """The regrets, with names of problems that say what is not the protocol's own."""
    tried = list(tried)
    return starts.regrets_of(tried).assign(problem=[name_of(each.comparison) for each in tried])


def _lines_of_fixed(tried: Iterable[Tried]) -> pd.DataFrame:
    """The regrets of each fixed start, as if it had been found."""
    found = [
        [*each.line(each.fixed[start].dropna()), start, name_of(each.comparison)]
        for each in tried
        for start in each.fixed
    ]
    lines = pd.DataFrame(found, columns=[*COLUMNS, "start", "name"])
    return lines.assign(problem=lines.pop("name"))


def _regrets_of_shared(lines: pd.DataFrame) -> pd.DataFrame:
    """The regrets of the starts that all problems have, a column for each problem."""
    return lines.pivot_table(index="start", columns="problem_id", values="regret").dropna()


def make_table_by_steps(archived: Archived) -> str:
    """Return how far the automatic starts are behind, by what is trained and for how many steps."""
    groups: dict[tuple[str, int, str], list[Tried]] = {}
    for tried in _by_method(_of_protocol(archived)):
        for each in tried:
            key = (str(each.comparison.kind), int(each.comparison.problem.steps), each.label)
            groups.setdefault(key, []).append(each)
    return _judged(
        {
            f"{label}, {kind}, {steps:,} steps": _regrets_of(groups[kind, steps, label])
            for kind, steps, label in sorted(groups, key=lambda key: key[:2])
        }
    )


def _judged(groups: Mapping[str, pd.DataFrame]) -> str:
    """Return a row for each group of lines: its regrets, and its verdicts against the default."""
    rows = []
    for name, lines in groups.items():
        worst = lines.loc[lines["regret"].idxmax()]
        over, half = lines["over_default"], lines["over_default_half_width"]
        row = {
            "": name,
            "problems": str(len(lines)),
            "seeds": span(lines["seeds"]),
            "at most 1 point behind": str((lines["regret"] <= POINT).sum()),
            "farthest behind": f"{number(100 * worst['regret'], '.1f')} ({worst['problem']})",
            "over the default start, mean": number(100 * over.mean(), "+.1f"),
            "better": str((over > half).sum()),
            "worse": str((over < -half).sum()),
        }
        rows.append(row)
    return markdown(pd.DataFrame(rows), ["", "farthest behind"]) if rows else NO_RUNS


def list_misses(archived: Archived) -> str:
    """Return where the aim is missed: a point behind the best, or behind what needs no choice."""
    lines: dict[str, list[str]] = {}
    unknown = 0
    for tried in _by_method(archived.tried):
        label = tried[0].label
        behind = _regrets_of(tried).sort_values("regret", ascending=False)
        lines[f"{label}, more than 1 point behind the best fixed start"] = [
            f"{problem} ({number(100 * regret, '.1f')})"
            for problem, regret in zip(behind["problem"], behind["regret"], strict=True)
            if regret > POINT
        ]
        for each in tried:
            for start in dict.fromkeys([each.default, PUBLISHED]):
                worse = lines.setdefault(f"{label}, worse than from {start_text(start)}", [])
                mean, half = each.over(start, each.found)
                unknown += bool(np.isnan(half))
                if mean + half < 0:
                    said = f"{number(100 * mean, '+.2f')} ± {100 * half:.2f}"
                    worse.append(f"{name_of(each.comparison)} ({said})")
    return named(lines, unknown)


def describe_gain(archived: Archived) -> str:
    """Return DoG's mean gain over the default start on probes with several seeds, by steps.

    And over how many it is: at some numbers of steps there is one.
    """
    probes = [
        each for each in _of_dog(archived) if each.comparison.kind == PROBES and len(each.found) > 1
    ]
    over = _regrets_of(probes).groupby("steps")["over_default"].agg(["mean", "size"])
    said = (
        f"{number(100 * mean, '+.1f')} at {steps:,} steps ({plural(size, 'probe')})"
        for steps, mean, size in over.itertuples()
    )
    return ", ".join(said) or NO_RUNS


def count_near(archived: Archived) -> str:
    """Return on how many problems DoG is at most a point behind the best fixed start."""
    found = _regrets_of(_of_dog(archived))["regret"]
    return f"{(found <= POINT).sum()} of {plural(len(found), 'problem')}"


def count_starts(archived: Archived) -> str:
    """Return among how many fixed starts the best one of a problem is chosen."""
    return span(each.fixed.shape[1] for each in _of_protocol(archived))


def describe_worst(archived: Archived) -> str:
    """Return what DoG reaches where it is farthest behind, and what fixed starts reach there."""
    found = _regrets_of(_of_dog(archived))
    if found.empty:
        return NO_RUNS
    line = found.loc[found["regret"].idxmax()]
    scores = (number(100 * line[name], ".1f") for name in ("score", "default_score", "best_score"))
    return "{} % on {}, where the default start has {} % and the best one {} %".format(
        *(next(scores), line["problem"], next(scores), next(scores))
    )


def describe_best(archived: Archived) -> str:
    """Return between which starts the best fixed one of each problem lies."""
    found = _regrets_of(_of_dog(archived))["best_start"]
    return " to ".join(map(start_text, (found.min(), found.max()))) if len(found) else NO_RUNS


def count_at_edge(archived: Archived) -> str:
    """Return on how many problems the best fixed start is the smallest or the largest tried."""
    found = _regrets_of(_of_dog(archived))["is_edge"]
    return f"{found.sum()} of {plural(len(found), 'problem')}"


def describe_overtraining(archived: Archived) -> str:
    """Return the training loss and test score from the smallest and the largest start."""
    tried = [each for each in _of_dog(archived) if each.comparison.problem.task == OVERTRAINED]
    if not tried:
        return NO_RUNS
    longest = max((each.comparison for each in tried), key=lambda each: each.problem.steps)
    runs = varied(archived.runs.of(longest, DOG[0]), KEY)
    means = runs.groupby("value")[["train_loss", "test"]].mean().iloc[[0, -1]]
    said = (
        f"{loss:.3f} and {100 * score:.1f} % from {start_text(start)}"
        for start, loss, score in means.itertuples()
    )
    return f"{longest.problem.steps:,} steps, {', '.join(said)}"


def _of_dog(archived: Archived) -> list[Tried]:
    return [each for each in _of_protocol(archived) if each.optimizer == AUTO[0]]


def make_table_of_rules(archived: Archived) -> str:
    """Return how far each rule is behind the best fixed start, on the problems that have all."""
    found = starts.table_of_rules(archived.tried)
    return markdown(found, ["rule"]) if len(found) else NO_RUNS


def describe_moved_constants(archived: Archived) -> str:
    """Return by how much the constants of the automatic start change a regret at most."""
    found = starts.regrets_of_rules(archived.tried)
    moved, name = found.filter(regex="^auto_", axis="index"), archived.labels.get(AUTO[0])
    if moved.empty or name not in found.index:
        return NO_RUNS
    return number(100 * (moved - found.loc[name]).abs().max(axis=None), ".1f")
