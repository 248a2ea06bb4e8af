"""Shows how much the settings of tuning-free optimizers matter: initial step length, factor c."""

import json
from collections.abc import Iterable

import pandas as pd

from analysis.choice import DEFAULT, Choice, comparable
from analysis.comparison import Cell, Comparison, cells_of, reported, scored
from analysis.roles import TUNED
from analysis.tables.notes import differing_numerics, other_data
from analysis.tables.page import Page
from analysis.tables.problems import exact_cells, heading, shown_cells
from analysis.varied import VARIED

ROW = "sensitivity"


def tables_of_sensitivity(
    comparisons: Iterable[Comparison], frame: pd.DataFrame
) -> dict[str, Page]:
    """A table of each problem with such runs, by the problem's stem.

    Of the default settings the exact numbers are in the problem's own table.
    """
    runs = comparable(frame)
    runs = runs[runs["role"] != TUNED]
    runs = reported(runs[runs["opt_default"] | runs["overrides"].map(_changed_key).isin(VARIED)])
    changed = set(runs["problem_id"][~runs["opt_default"]])
    tables = {}
    for comparison in comparisons:
        problem = comparison.problem
        if problem.problem_id not in changed:
            continue
        of_problem = scored(runs[runs["problem_id"] == problem.problem_id])
        cells = cells_of(of_problem, _choices(of_problem))
        caveats = [
            *other_data(comparison.other_data),
            *differing_numerics(of_problem["numerics"][of_problem["status"] != "failed"]),
        ]
        tables[comparison.stem] = Page(
            stem=f"sensitivity-{comparison.stem}",
            exact=exact_cells(comparison, [cell for cell in cells if cell.row == ROW]),
            title=f"Sensitivity: {comparison.title}",
            head=heading(problem),
            shown=_shown(problem, cells),
            left=["optimizer", "setting"],
            notes=[*caveats, *_explanations(problem)],
        )
    return tables


def _changed_key(overrides: str) -> str:
    """The one setting that was changed, or ""."""
    changed = list(json.loads(overrides))
    return changed[0] if len(changed) == 1 else ""


def _choices(runs: pd.DataFrame) -> list[Choice]:
    """Each setting that was run, as a choice that has cost nothing: the default, then by value."""
    settings = runs.drop_duplicates(["optimizer", "setting", "opt_default"])
    order = list(VARIED)
    choices: list[tuple[tuple[int, float], Choice]] = []
    for run in settings.to_dict("records"):
        changed = json.loads(run["overrides"])
        place = next(((order.index(key), value) for key, value in changed.items()), (-1, 0.0))
        row = DEFAULT if run["opt_default"] else ROW
        problem_id, task, optimizer = (run[key] for key in ("problem_id", "task", "optimizer"))
        choices.append((place, Choice(problem_id, task, optimizer, row, run["setting"], changed)))
    return [choice for _, choice in sorted(choices, key=lambda pair: pair[0])]


def _shown(problem: pd.Series, cells: list[Cell]) -> pd.DataFrame:
    shown = shown_cells(problem, cells).drop(columns=["row", "runs", "time"])
    settings = [
        "default" if cell.row == DEFAULT else cell.setting.replace("lr=", "c=") for cell in cells
    ]
    return shown.assign(**{"learning rate": settings}).rename(columns={"learning rate": "setting"})


def _explanations(problem: pd.Series) -> list[str]:
    return [
        "default: what the other tables show. reps_rel: the initial step length relative to "
        "1 + ‖x_0‖; c: the factor of all step sizes. Nothing was chosen by these scores.",
        f"{problem.metric}: of the last or the averaged iterate, whichever is better on "
        "validation in that run; the next two columns show both.",
        "RED: against the default DoG, positive is better. diverged: reported runs.",
    ]
