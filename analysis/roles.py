"""What part an optimizer has in a comparison; its role decides what tables and figures do."""

from collections.abc import Iterable
from functools import cache
from typing import Any

import pandas as pd

from runner import CONFIGS
from runner.yamls import read_yaml
from tasks.errors import UserError

# What all others are compared with; what needs no tuning, either; what has a rate to tune.
REFERENCE, TUNING_FREE, TUNED = ROLES = ("reference", "tuning_free", "tuned")

_YAMLS = CONFIGS / "opt"


def with_roles(frame: pd.DataFrame) -> pd.DataFrame:
    """The runs with one role and label an optimizer, and the factor of tuning-free ones as `c`.

    Both are of the optimizer's last record; the role, of the last that has one. Where none has
    (records of old, a yaml without `role`) it is that of the yaml of this name, else `TUNED` if
    there is a grid.

    Raises:
        UserError: if two optimizers are the reference.
    """
    ordered = frame.sort_values(["started", "run_id"])
    labels = ordered.groupby("optimizer")["label"].last()
    recorded = ordered[ordered["role"] != ""].groupby("optimizer")["role"].last()
    with_grid = set(frame["optimizer"][~frame["grid"].isin(["", "{}"])])
    roles = {
        name: recorded.get(name)
        or in_yaml(name, "role")
        or (TUNED if name in with_grid else TUNING_FREE)
        for name in frame["optimizer"].unique()
    }
    references = sorted(name for name, role in roles.items() if role == REFERENCE)
    if len(references) > 1:
        raise UserError(
            f"{' and '.join(references)} have the role {REFERENCE}: in configs/opt give it to one "
            f"and {TUNING_FREE} to the others, and run one of each of these anew"
        )
    role = frame["optimizer"].map(roles).astype(frame["role"].dtype)
    label = frame["optimizer"].map(labels).astype(frame["label"].dtype)
    factor = frame["c"].fillna(frame["learning_rate"].where(role != TUNED))
    rate = frame["learning_rate"].where(role == TUNED)
    return frame.assign(role=role, label=label, c=factor, learning_rate=rate)


def start_of(optimizer: str) -> str | None:
    """The argument that sets the length of an optimizer's first steps, by its yaml; or None."""
    return in_yaml(optimizer, "start")


def default_of(optimizer: str, key: str, reps_rel: float) -> Any:
    """The default of an argument, by its yaml; of `reps_rel` the protocol's, which is given."""
    if key == "reps_rel":
        return reps_rel
    value = in_yaml(optimizer, key)
    is_start = value is None and key == start_of(optimizer)
    return in_yaml(optimizer, "start_default") if is_start else value


@cache
def in_yaml(optimizer: str, key: str) -> Any:
    """What the yaml of this name says of a key; None: nothing, or there is no such yaml."""
    path = _YAMLS / f"{optimizer}.yaml"
    return read_yaml(path).get(key) if path.exists() else None


def is_reference_run(runs: pd.DataFrame) -> pd.Series:
    """Whether each run is the reference's with its default settings."""
    return (runs["role"] == REFERENCE) & runs["opt_default"]


def is_untuned_default(runs: pd.DataFrame) -> pd.Series:
    """Whether each run is that of an optimizer which needs no tuning, with default settings."""
    return (runs["role"] != TUNED) & runs["opt_default"]


def in_order(labels: Iterable[str]) -> list[str]:
    """The different labels of optimizers of one role in the order of their looks.

    The plain methods have the shorter names: SGD and Adam come before their variants.
    """
    return sorted(set(labels), key=lambda label: (len(label), label))


def untuned(runs: pd.DataFrame) -> dict[str, str]:
    """The labels of the optimizers that need no tuning, by name: the reference first."""
    kinds = runs.loc[runs["role"] != TUNED, ["role", "label", "optimizer"]].drop_duplicates()
    order = sorted(
        (ROLES.index(role), len(label), label, optimizer)
        for role, label, optimizer in kinds.itertuples(index=False)
    )
    return {optimizer: label for *_, label, optimizer in order}
