"""Draws the figures of our own records, from records.csv and curves.csv alone."""

from pathlib import Path

import pandas as pd

from analysis.figures import (
    batch_norm,
    break_even,
    budget,
    distance,
    rates,
    red,
    sensitivity,
    step_size,
)
from analysis.figures.data import Data
from analysis.figures.style import svg
from analysis.records import write_if_changed
from analysis.tables import MARK, Table, remove_stale

KINDS = (rates, step_size, sensitivity, batch_norm, distance, red, break_even, budget)


def write(
    tables: list[Table], frame: pd.DataFrame, curves: pd.DataFrame, folder: Path
) -> dict[str, Path]:
    """Draws every figure for which there are runs; returns their paths by stem.

    `tables` is from `tables.build`, `frame` from `records.collect`, `curves` from
    `curves.collect`. The same records give the same bytes. Figures of ours that are no longer made
    are removed.
    """
    data = Data.gather(tables, frame, curves)
    paths = {}
    for kind in KINDS:
        for stem, figure in kind.make(data):
            paths[stem] = folder / f"{stem}.svg"
            write_if_changed(paths[stem], svg(figure))
    remove_stale(folder.glob("*.svg"), {path.name for path in paths.values()}, MARK)
    return paths
