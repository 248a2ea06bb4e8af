"""Shows how much the settings of tuning-free optimizers matter: initial step length, factor c."""

import json

import pandas as pd

from analysis import text
from analysis.roles import TUNED
from analysis.selection import CHOICE_COLUMNS, DEFAULT, comparable, left_out
from analysis.tables import MARK, Table, compare, csv, numbers, reported, scored

# One of these was changed and nothing else.
KEYS = ("reps_rel", "lr")
ROW = "sensitivity"


def files(tables: list[Table], frame: pd.DataFrame) -> dict[str, str]:
    """Of each problem with such runs sensitivity-<stem>.md and .csv, by file name."""
    runs, others = comparable(frame), left_out(frame)
    runs = runs[runs["role"] != TUNED]
    runs = reported(runs[runs["opt_default"] | runs["overrides"].map(_key).isin(KEYS)])
    changed = set(runs["problem_id"][~runs["opt_default"]])
    made = {}
    for table in tables:
        if table.problem.problem_id in changed:
            own = scored(runs[runs["problem_id"] == table.problem.problem_id])
            cells, _ = compare(own, _choices(own))
            caveats = [
                *text.other_data(others.get(table.problem.problem_id, 0)),
                *text.numerics(own["numerics"][own["status"] != "failed"]),
            ]
            made[f"sensitivity-{table.stem}.md"] = _markdown(table, cells, caveats)
            made[f"sensitivity-{table.stem}.csv"] = csv(numbers(table.problem, cells))
    return made


def _key(overrides: str) -> str:
    """The one setting that was changed, or ""."""
    changed = list(json.loads(overrides))
    return changed[0] if len(changed) == 1 else ""


def _choices(runs: pd.DataFrame) -> pd.DataFrame:
    """Each setting that was run, as a choice that has cost nothing: the default, then by value."""
    settings = runs.drop_duplicates(["optimizer", "setting", "opt_default"])
    rows: list[tuple[tuple[int, float], dict]] = []
    for run in settings.to_dict("records"):
        changed = json.loads(run["overrides"])
        place = next(((KEYS.index(key), value) for key, value in changed.items()), (-1, 0.0))
        row = DEFAULT if run["opt_default"] else ROW
        free = {"edge": False, "tuning_runs": 0, "tuning_seconds": 0.0}
        rows.append((place, run | free | {"row": row}))
    rows.sort(key=lambda one: one[0])
    return pd.DataFrame([row for _, row in rows]).reindex(columns=CHOICE_COLUMNS)


def _markdown(table: Table, cells: pd.DataFrame, caveats: list[str]) -> str:
    shown = text.display(cells, table.problem).drop(columns=["row", "runs", "time"])
    settings = cells["setting"].where(cells["row"] != DEFAULT, "default")
    shown = shown.assign(**{"learning rate": settings.str.replace("lr=", "c=")})
    shown = shown.rename(columns={"learning rate": "setting"})
    notes = [
        *caveats,
        "default: what the other tables show. reps_rel: the initial step length relative to "
        "1 + ‖x_0‖; c: the factor of all step sizes. Nothing was chosen by these scores.",
        f"{table.problem.metric}: of the last or the averaged iterate, whichever is better on "
        "validation in that run; the next two columns show both.",
        "RED: against the default DoG, positive is better. diverged: reported runs.",
    ]
    lines = text.markdown(shown, ["optimizer", "setting"])
    head = f"{MARK}\n# Sensitivity: {table.title}\n\n{text.heading(table.problem)}"
    return f"{head}\n\n{lines}\n\n{text.bullets(notes)}\n"
