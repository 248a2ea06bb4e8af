"""What archived runs say of starts that are found: beside fixed ones, and rule beside rule."""

from collections.abc import Iterator, Mapping

import pandas as pd

from analysis.findings.archived import AUTO, DOG, LAUTO, Archived
from analysis.findings.texts import NO_RUNS, named, span
from analysis.kinds import PROBES
from analysis.tables.page import markdown, number
from analysis.tables.starts import (
    COLUMNS,
    KEY,
    Tried,
    regrets_of,
    regrets_of_rules,
    table_of_rules,
)
from analysis.varied import varied
from tasks.format import plural

# A regret that counts; the published start, which docs/start.md judges by, too; and the problem on
# which it shows what more training does.
POINT, PUBLISHED, OVERTRAINED = 0.01, 1e-6, "probe_amazon"


def table(archived: Archived) -> str:
    """Return how far the automatic starts are behind the best fixed ones, and one for all is."""
    groups = {tried[0].label: regrets_of(tried) for tried in _by_method(archived)}
    for tried in _by_method(archived):
        groups |= _one_for_all(archived, tried)
    return _judged(groups)


def _by_method(archived: Archived) -> Iterator[list[Tried]]:
    """Yield what was tried beside each automatic start: DoG's, and L-DoG's."""
    for optimizer, _ in (AUTO, LAUTO):
        if tried := [each for each in archived.tried if each.optimizer == optimizer]:
            yield tried


def _one_for_all(archived: Archived, tried: list[Tried]) -> Mapping[str, pd.DataFrame]:
    """The lines of the fixed start with the least mean regret over all problems; the default's."""
    found = [
        [*each.line(each.fixed[start].dropna()), start] for each in tried for start in each.fixed
    ]
    lines = pd.DataFrame(found, columns=[*COLUMNS, "start"])
    regret = lines.pivot_table(index="start", columns="problem_id", values="regret").dropna()
    name, means = archived.labels[tried[0].starts_of], regret.mean(axis=1)
    starts = [means.idxmin()] if len(means) else []
    starts += [start for start in means.index if start == tried[0].default and start not in starts]
    return {f"{name} from {start:g} on all": lines[lines["start"] == start] for start in starts}


def table_by_steps(archived: Archived) -> str:
    """Return how far the automatic starts are behind, by what is trained and for how many steps."""
    groups: dict[tuple[str, int, str], list[Tried]] = {}
    for tried in _by_method(archived):
        for each in tried:
            key = (str(each.comparison.kind), int(each.comparison.problem.steps), each.label)
            groups.setdefault(key, []).append(each)
    return _judged(
        {
            f"{label}, {kind}, {steps:,} steps": regrets_of(groups[kind, steps, label])
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


def missed(archived: Archived) -> str:
    """Return where the aim is missed: a point behind the best, or behind what needs no choice."""
    lines: dict[str, list[str]] = {}
    unknown = 0
    for tried in _by_method(archived):
        label = tried[0].label
        behind = regrets_of(tried).sort_values("regret", ascending=False)
        lines[f"{label}, more than 1 point behind the best fixed start"] = [
            f"{problem} ({number(100 * regret, '.1f')})"
            for problem, regret in zip(behind["problem"], behind["regret"], strict=True)
            if regret > POINT
        ]
        unknown += sum(len(each.found) == 1 for each in tried)
        for start in dict.fromkeys([tried[0].default, PUBLISHED]):
            over = {each.comparison.name: each.over(start, each.found) for each in tried}
            lines[f"{label}, worse than from {start:g}"] = [
                f"{problem} ({number(100 * mean, '+.2f')} ± {100 * half:.2f})"
                for problem, (mean, half) in over.items()
                if mean + half < 0
            ]
    return named(lines, unknown)


def gain(archived: Archived) -> str:
    """Return DoG's mean gain over the default start on the probes, by the number of steps."""
    probes = [
        each for each in _of_dog(archived) if each.comparison.kind == PROBES and len(each.found) > 1
    ]
    over = regrets_of(probes).groupby("steps")["over_default"].mean()
    said = (f"{number(100 * mean, '+.1f')} at {steps:,} steps" for steps, mean in over.items())
    return ", ".join(said) or NO_RUNS


def near(archived: Archived) -> str:
    """Return on how many problems DoG is at most a point behind the best fixed start."""
    found = regrets_of(_of_dog(archived))["regret"]
    return f"{(found <= POINT).sum()} of {plural(len(found), 'problem')}"


def worst(archived: Archived) -> str:
    """Return what DoG reaches where it is farthest behind, and what fixed starts reach there."""
    found = regrets_of(_of_dog(archived))
    if found.empty:
        return NO_RUNS
    line = found.loc[found["regret"].idxmax()]
    scores = (number(100 * line[name], ".1f") for name in ("score", "default_score", "best_score"))
    return "{} % on {}, where the default start has {} % and the best one {} %".format(
        *(next(scores), line["problem"], next(scores), next(scores))
    )


def best(archived: Archived) -> str:
    """Return between which starts the best fixed one of each problem lies."""
    found = regrets_of(_of_dog(archived))["best_start"]
    return f"{found.min():g} to {found.max():g}" if len(found) else NO_RUNS


def overtrained(archived: Archived) -> str:
    """Return the training loss and test score from the smallest and the largest start."""
    tried = [each for each in _of_dog(archived) if each.comparison.problem.task == OVERTRAINED]
    if not tried:
        return NO_RUNS
    longest = max((each.comparison for each in tried), key=lambda each: each.problem.steps)
    runs = varied(archived.runs.of(longest, DOG[0]), KEY)
    means = runs.groupby("value")[["train_loss", "test"]].mean().iloc[[0, -1]]
    said = (
        f"{loss:.3f} and {100 * score:.1f} % from {start:g}"
        for start, loss, score in means.itertuples()
    )
    return f"{longest.problem.steps:,} steps, {', '.join(said)}"


def _of_dog(archived: Archived) -> list[Tried]:
    return [each for each in archived.tried if each.optimizer == AUTO[0]]


def rules(archived: Archived) -> str:
    """Return how far each rule is behind the best fixed start, on the problems that have all."""
    found = table_of_rules(archived.regrets)
    return markdown(found, ["rule"]) if len(found) else NO_RUNS


def rules_moved(archived: Archived) -> str:
    """Return by how much the constants of the automatic start change a regret at most."""
    found = regrets_of_rules(archived.regrets)
    moved, own = found.filter(regex="^auto_", axis="index"), archived.labels.get(AUTO[0])
    if moved.empty or own not in found.index:
        return NO_RUNS
    return number(100 * (moved - found.loc[own]).abs().max(axis=None), ".1f")
