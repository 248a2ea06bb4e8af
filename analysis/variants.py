"""Tells the variants of a problem apart: the protocol's own one, and those with other settings."""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import pandas as pd

from tasks.errors import UserError

# Problems of the same name are variants of each other.
NAME = ["task", "model", "protocol", "protocol_version"]
# How a setting is written that is null, which counts as absent.
NULL = "null"


def by_key(text: str) -> dict[str, str]:
    """The values of a text of records.csv, such as "train.lr=0.1; model.lora=8", by their keys."""
    parts = (part.partition("=") for part in text.split("; ") if part)
    return {key: value for key, _, value in parts}


def settings(problem: Mapping[Any, Any]) -> dict[str, str]:
    """The problem's settings beside those of `NAME`, as text by dotted key."""
    values = {f"train.{key}": str(problem[key]) for key in ("steps", "batch_size")}
    values |= by_key(problem["problem_settings"])
    if values.get("train.checkpoint") != "best":  # there it is what chooses the result
        values.pop("train.eval_every", None)
    return values


def departures(problem: Mapping[Any, Any]) -> list[str]:
    """The settings that are not the protocol's: "model.batch_norm=train", "model.lora=8".

    None of a problem that cannot be composed any more: its task or its version is not here.
    """
    default = _default(*(problem[key] for key in NAME))
    return [
        f"{key}={value}"
        for key, value in sorted(settings(problem).items())
        # A network's setting that is not set by default, as lora, is not among the defaults.
        if default.get(key, NULL if default and key.startswith("model.") else value) != value
    ]


def has_other_steps(problem: Mapping[Any, Any]) -> bool:
    """Whether a problem has other steps than its protocol's own."""
    return any(text.startswith("train.steps=") for text in departures(problem))


@cache
def _default(task: str, model: str, protocol: str, version: int) -> dict[str, str]:
    """The `settings` that the yaml files give a problem by default, {} if they do not know it."""
    # Here: they import what takes a second, and few tables need it.
    from analysis.records import problem_text
    from runner import config as configuration

    try:
        spec = configuration.load([f"task={task}", f"model={model}", f"protocol={protocol}"]).spec
    except UserError:
        return {}
    found = spec.settings
    if found["protocol"]["version"] != version:
        return {}
    columns = {key: found["train"].get(key) for key in ("steps", "batch_size")}
    return settings(columns | {"problem_settings": problem_text(found)})


def rank(frame: pd.DataFrame) -> pd.DataFrame:
    """What decides which of a problem's variants comes first, by problem id.

    `frame` has the comparable runs of all problems. Returns `departures` (how many; 0 of a problem
    without variants), `runs`, `steps`, `started` (of the last run) and their order as `rank`: of
    variants that nearest to the protocol's defaults comes first, and has the largest. So links to
    it stay right when another is run. Of equals that with the most runs, the most steps, or the
    latest run. (The id makes the order certain where all of these are equal.)
    """
    problems = frame.drop_duplicates("problem_id").set_index("problem_id")
    groups = frame.groupby("problem_id")
    found = problems[["steps"]].assign(runs=groups.size(), started=groups["started"].max())
    varied = problems.duplicated(NAME, keep=False)
    found["departures"] = [
        len(departures(problem)) if several else 0
        for problem, several in zip(problems.to_dict("records"), varied, strict=True)
    ]
    by = ["departures", "runs", "steps", "started", "problem_id"]
    order = found.reset_index().sort_values(by, ascending=[False, True, True, True, True])
    return order.assign(rank=range(len(order))).set_index("problem_id")


def labels(problems: Iterable[Mapping[Any, Any]]) -> list[str]:
    """What tells each of some problems of one name from the others: "batch_norm=train"."""
    all_settings = [settings(problem) for problem in problems]
    return [
        ", ".join(
            f"{key.rpartition('.')[2]}={value}"
            for key, value in sorted(chosen.items())
            if any(other.get(key, NULL) != value for other in all_settings)
        )
        for chosen in all_settings
    ]
