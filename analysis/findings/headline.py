"""The README's table and what it is over, and what tuning costs until it catches up with DoG."""

import numpy as np
import pandas as pd

from analysis.choice import INSTANCE_TUNED
from analysis.comparison import LineKey
from analysis.findings.archived import ADAMW, AUTO, DOG, LAUTO, LDOG, SGD, Archived
from analysis.findings.pairs import Evidence, judged
from analysis.findings.problems import name_of as problem_name
from analysis.findings.texts import NO_RUNS, span
from analysis.kinds import KINDS, PROBES
from analysis.tables.page import bounds, bullets, markdown, signed
from tasks.format import plural

# So many rivals are in the table.
BEST = 2


def lines(archived: Archived) -> list[LineKey]:
    """Return the methods of the table beside DoG."""
    return [LDOG, AUTO, LAUTO, *best_rivals(archived), SGD, ADAMW]


def best_rivals(archived: Archived) -> list[LineKey]:
    """Return the rivals with the highest median RED on the probes, of those run on most."""
    found = {line: archived.evidence(PROBES, (DOG, line)) for line in archived.rivals}
    most = max((len(evidence.pairs) for evidence in found.values()), default=0)
    medians = {
        line: evidence.over_problems.estimate
        for line, evidence in found.items()
        if len(evidence.pairs) == most > 0
    }
    return sorted(medians, key=lambda line: -medians[line])[:BEST]


def table(archived: Archived) -> str:
    """Return each method against DoG, in short."""
    columns = ["optimizer"]
    columns += [f"{kind}: {what}" for kind in KINDS for what in ("RED %", "DoG is")]
    reference = dict.fromkeys((f"{kind}: RED %" for kind in KINDS), "reference")
    rows = [{"optimizer": name_of(archived, DOG), "runs": "1", **reference}]
    for line in lines(archived):
        row = {
            "optimizer": name_of(archived, line),
            "runs": _runs_of(archived, line),
        }
        for kind in KINDS:
            cells = _cells(archived.evidence(kind, (DOG, line)))
            row[f"{kind}: RED %"], row[f"{kind}: DoG is"] = cells
        rows.append(row)
    shown = pd.DataFrame(rows, columns=[*columns, "runs"]).fillna("")
    return markdown(shown, [name for name in columns if "RED" not in name])


def _cells(found: Evidence) -> tuple[str, str]:
    """The median with its interval, and the verdict: for other tasks, of too few for other seeds.

    ¹ marks the latter.
    """
    if not found.pairs:
        return "no runs yet", ""
    mark = "" if found.is_for_other_tasks else " ¹"
    red = f"{signed(found.red)} ({bounds(*found.interval)}), n = {len(found.judged_pairs)}{mark}"
    return red, f"**{judged(found.interval)}**{mark}"


def name_of(archived: Archived, line: LineKey) -> str:
    """Return a method's name, with what its user has to tune."""
    name = archived.labels.get(line[0], line[0])
    return f"{name}, tuned" if line[1] == INSTANCE_TUNED else name


def edges(archived: Archived) -> str:
    """Return on which problems a tuned rate is the lowest or the highest of those tried."""
    found = []
    for line in (SGD, ADAMW):
        for kind, comparisons in archived.by_kind.items():
            pairs = [
                (each, cell) for each in comparisons for cell in each.cells if cell.key == line
            ]
            names = [problem_name(each) for each, cell in pairs if cell.edge]
            where = f": {'; '.join(names)}" if names else ""
            number = f"{len(names)} of {plural(len(pairs), 'problem')}"
            found.append(f"{archived.label(line)}, {kind}: {number}{where}")
    return bullets(found)


def _runs_of(archived: Archived, line: LineKey) -> str:
    """The runs that a result of the line needs on a problem."""
    cells = (
        cell
        for comparisons in archived.by_kind.values()
        for each in comparisons
        for cell in each.cells
    )
    return span(cell.runs for cell in cells if cell.key == line and cell.errors)


def what_it_is_over(archived: Archived) -> str:
    """Return the problems, steps and seeds of each kind, by those of DoG against tuned SGD."""
    parts = []
    for kind in KINDS:
        pairs = archived.evidence(kind, (DOG, SGD)).pairs
        if not pairs:
            parts.append(f"{kind}, {NO_RUNS}")
            continue
        problems = [pair.comparison.problem for pair in pairs]
        names = ", ".join(dict.fromkeys(each.task for each in problems))
        steps, seeds = span(each.steps for each in problems), span(pair.seeds for pair in pairs)
        number = plural(len(pairs), "problem")
        parts.append(f"{kind}, {number} ({names}) of {steps} steps, {seeds} seeds")
    return "; ".join(parts)


def break_even(archived: Archived) -> str:
    """Return after how many runs tuning catches up with DoG."""
    rows = []
    for line in (SGD, ADAMW):
        for kind, comparisons in archived.by_kind.items():
            curves = [
                each.break_even[line[0]] for each in comparisons if line[0] in each.break_even
            ]
            curves = [curve for curve in curves if len(curve.errors) > 1]
            row = {"": archived.labels.get(line[0], line[0]), "problems": f"{kind}: {NO_RUNS}"}
            if curves:
                after = [curve.runs or np.inf for curve in curves]
                median = np.median(after)
                row |= {
                    "problems": f"{kind}: {len(curves)}",
                    "rates tried": span(len(curve.errors) for curve in curves),
                    "runs until it catches up, median": "never"
                    if np.isinf(median)
                    else f"{median:g}",
                    "after 1 run": str(sum(runs == 1 for runs in after)),
                    "never": str(sum(np.isinf(runs) for runs in after)),
                }
            rows.append(row)
    return markdown(pd.DataFrame(rows).fillna(""), ["", "problems"])
