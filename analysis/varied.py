"""Selects the runs of an optimizer that differ in one setting of its own, as its start."""

import json

import numpy as np
import pandas as pd

from analysis.comparison import reported

# The columns of records.csv that hold the settings which are varied.
VARIED = {"reps_rel": "reps_rel", "lr": "c"}


def varied(runs: pd.DataFrame, key: str) -> pd.DataFrame:
    """The reported runs of one optimizer whose settings are the defaults but for `key`.

    Returns them with a column `value`, the key's (reps_rel or lr), sorted by value and seed: of the
    seeds that all values have, so that their means can be compared; without such seeds all.
    """
    lines = reported(runs)
    alone = [set(json.loads(overrides)) <= {key} for overrides in lines["overrides"]]
    lines = lines.assign(value=lines[VARIED[key]])
    lines = lines[(lines["value"] > 0).to_numpy(bool) & np.array(alone, bool)]
    lines = lines.sort_values(["value", "seed"])
    shared = lines[lines["seed"].isin(shared_seeds(lines))]
    return lines if shared.empty else shared


def shared_seeds(runs: pd.DataFrame) -> list[int]:
    """The seeds that all values of `varied` runs have, sorted."""
    values = runs.groupby("seed")["value"].nunique()
    return sorted(values.index[values == runs["value"].nunique()])
