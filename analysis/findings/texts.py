"""How evidence is written: intervals with their verdicts, counts, tables and lists."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from analysis.findings.pairs import NO_VERDICT, VERDICTS, Evidence, Pair, judged
from analysis.findings.problems import COMMAND, name_of
from analysis.tables.page import bounds, bullets, markdown, signed
from tasks.format import NONE, plural

NO_RUNS = f"no runs yet: {COMMAND}"


def span(numbers: Iterable[int]) -> str:
    """Return some numbers in short: "3", or "3 to 5"."""
    found = sorted(set(numbers))
    return " to ".join(map(str, dict.fromkeys([found[0], found[-1]]))) if found else NONE


def said(interval: tuple[float, float]) -> str:
    """Return an interval's verdict and bounds: "**non-inferior** (−1.0 to +2.0)"."""
    verdict = judged(interval)
    return verdict if verdict == NO_VERDICT else f"**{verdict}** ({bounds(*interval)})"


def counted(verdicts: Iterable[str]) -> str:
    """Return how often each verdict is given: "2 better, 1 worse"."""
    found = Counter(verdicts)
    return ", ".join(f"{found[name]} {name}" for name in VERDICTS if found[name]) or NONE


def of_tasks(found: Evidence) -> str:
    """Return the verdict for other tasks; of too few tasks, that they are."""
    if found.is_for_other_tasks:
        return said(found.for_other_tasks)
    return f"{NO_VERDICT}: {plural(len(found.of_tasks), 'task')}"


def weighed(lines: Sequence[tuple[str, str, Evidence]]) -> str:
    """Return a table with a row for each evidence: what it is of, of which problems, and it."""
    rows = []
    for name, kind, found in lines:
        row = {"": name, "problems": f"{kind}: {NO_RUNS}"}
        if found.pairs:
            number = f"{len(found.pairs)} ({plural(len(found.of_tasks), 'task')})"
            over = found.over_problems
            row = {
                "": name,
                "problems": f"{kind}: {number}",
                "seeds": span(pair.seeds for pair in found.pairs),
                "median RED %": signed(over.estimate),
                "for other seeds": said(over.on_these_tasks),
                "for other tasks": of_tasks(found),
                "by problem": counted(pair.verdict for pair in found.pairs),
            }
        elif found.of_one_seed:
            row["problems"] = f"{kind}: {found.of_one_seed} of one seed alone, {NO_VERDICT}"
        rows.append(row)
    left = ["", "problems", "for other seeds", "for other tasks", "by problem"]
    return markdown(pd.DataFrame(rows).fillna(""), left)


def listed(pairs: Iterable[tuple[str, Pair]]) -> str:
    """Return the problems with the verdict "worse", a line for each method; or that there is none.

    And how many have no verdict, as one seed gives none: of these it is not known.
    """
    lines: dict[str, list[str]] = {}
    unknown = 0
    for what, pair in pairs:
        unknown += pair.verdict == NO_VERDICT
        if pair.verdict == "worse":
            problem = f"{name_of(pair.comparison)} ({bounds(*pair.red.interval())})"
            lines.setdefault(what, []).append(problem)
    return named(lines, unknown)


def named(lines: Mapping[str, Sequence[str]], unknown: int) -> str:
    """Return a list of what is so, by what it is said of; and how often that is not known."""
    said = [f"{what}: {'; '.join(names)}" for what, names in lines.items() if names] or ["none"]
    if unknown:
        said.append(f"not known, for lack of seeds: {plural(unknown, 'comparison')}")
    return bullets(said)
