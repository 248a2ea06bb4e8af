"""Which runs there are, and which of the planned ones there are not."""

from collections.abc import Iterable

import pandas as pd

from analysis.choice import MAIN_ROW
from analysis.findings.archived import Archived
from analysis.findings.problems import SWEEP, planned
from analysis.findings.texts import NO_RUNS, span
from analysis.tables.page import bullets, markdown
from analysis.tables.problems import short_table

# What is trained for docs/start.md.
OF_STARTS = ("start", "start_networks", "start_rivals")
# So many optimizers are named.
MANY = 6


def demo(archived: Archived) -> str:
    """Return the demo's tables, in the order in which they are trained."""
    by_stem = {each.stem: each for each in archived.comparisons}
    stems = [f"{plan.task}-{plan.model}-smoke" for plan in planned("demo")]
    shown = [by_stem[stem] for stem in stems if stem in by_stem]
    return "\n\n".join(
        f"{short_table(each)}\n\n[whole table](results/tables/{each.address})" for each in shown
    )


def table(archived: Archived) -> str:
    """Return the problems of each kind, and their steps, examples and seeds."""
    rows = []
    for kind, comparisons in archived.by_kind.items():
        ran = [each for each in comparisons if each.reference and each.reference.errors]
        problems = [each.problem for each in ran]
        row = {
            "": kind,
            "problems": str(len(ran)),
            "tasks": ", ".join(dict.fromkeys(each.task for each in problems)) or NO_RUNS,
            "networks": ", ".join(dict.fromkeys(each.model for each in problems)),
            "steps": span(each.steps for each in problems),
            "training examples": span(each.train_examples for each in problems),
            "seeds of DoG": span(len(each.reference.errors) for each in ran if each.reference),
        }
        rows.append(row)
    return markdown(pd.DataFrame(rows), ["", "tasks", "networks"])


def missing(archived: Archived, sweeps: Iterable[str] = (SWEEP,)) -> str:
    """Return which problems of sweeps have no runs yet, and which lack settings or seeds."""
    absent, lines = [], []
    for plan in planned(*sweeps):
        mine = [each for each in archived.comparisons if plan.is_of(each)]
        have = {
            cell.optimizer
            for each in mine
            for cell in each.cells
            if cell.row == MAIN_ROW[cell.role]
            and plan.seeds.get(cell.optimizer, set()) <= cell.errors.keys()
        }
        for (name, argument), values in plan.varied.items():
            found = [archived.runs.varied(each, name, argument)[1] for each in mine]
            for value, seeds in values.items():
                if not any(seeds <= errors.get(value, {}).keys() for errors in found):
                    have.discard(name)
        lacking = [archived.labels.get(name, name) for name in plan.seeds if name not in have]
        if not any(cell.seeds for each in mine for cell in each.cells):
            absent.append(plan.name)
        elif lacking:
            number = f"{len(lacking)} of {len(plan.seeds)} optimizers"
            names = number if len(lacking) > MANY else ", ".join(lacking)
            lines.append(f"{plan.name}: {names}")
    if absent:
        lines.insert(0, f"all optimizers on {'; '.join(absent)}")
    return bullets(lines) or "- nothing of what is planned"
