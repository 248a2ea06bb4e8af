"""Gathers how DoG's step size grew in each run in results/curves.csv: a few points a run."""

import logging
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.records import parse_json, read_files, write_if_changed
from tasks.errors import UserError

logger = logging.getLogger(__name__)

# The columns of curves.csv in their order, with their pandas types. Where an optimizer has several
# step sizes (L-DoG), eta and rbar are medians over its blocks.
COLUMNS = {
    "run_id": "str",
    "step": "int64",
    "eta": "float64",  # the step size η_t
    "rbar": "float64",  # the largest distance from x_0 so far, r̄_t
    "loss": "float64",  # of the step's batch
}
ORDER = ["run_id", "step"]
# A run's points: the first logged step from each of these on, and the last step.
MARKS = [digit * 10**decade for decade in range(7) for digit in (1, 2, 3, 5, 7)]
DIGITS = 6

_STEP = re.compile(rb'"step": *([0-9]+)')


def collect(runs_dir: Path, csv_path: Path, frame: pd.DataFrame) -> pd.DataFrame:
    """The curves of all runs known here: those under `runs_dir` and those `csv_path` brings along.

    `frame` is what `records.collect` returns: only its runs that have a result are read, and of
    these only those with telemetry (a learning rate's schedule is known without a curve). Returns
    one row a point, sorted, with `COLUMNS` and numbers of `DIGITS` significant digits; `csv_path`
    is brought up to date. A local run with a record replaces its points of the file.
    """
    done = frame[frame["status"] != "failed"]
    folders = f"{runs_dir}/" + done["task"] + "/" + done["run_id"]
    # What is not from here has no record: at most a part of a run that was finished elsewhere.
    here = [folder for folder in folders if os.path.exists(f"{folder}/record.json")]  # noqa: PTH110
    rows = []
    for path, content in read_files(here, ("metrics.jsonl",)):
        run_id = path.split("/")[-2]
        try:
            if isinstance(content, OSError):
                raise content
            rows += [{"run_id": run_id, **point} for point in _points(content)]
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("skipped the damaged curve %s (%s)", path, error)
    local = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    known = read_csv(csv_path)
    known = known[~known["run_id"].isin(set(local["run_id"]))]
    parts = [part for part in (local, known) if not part.empty]
    if not parts:
        return local
    curves = pd.concat(parts).sort_values(ORDER, ignore_index=True)
    text = curves.to_csv(index=False, lineterminator="\n", float_format=f"%.{DIGITS}g")
    write_if_changed(csv_path, text)
    return curves


def read_csv(path: Path) -> pd.DataFrame:
    """The frame that `collect` wrote to `path`, exactly; without a file an empty one."""
    if not path.exists():
        return pd.DataFrame(columns=list(COLUMNS)).astype(COLUMNS)
    try:
        frame = pd.read_csv(path, dtype=COLUMNS)
        return frame[list(COLUMNS)]
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        advice = "restore it with git or delete it"
        raise UserError(f"cannot read {path} ({reason}): {advice}") from error


def _points(content: bytes) -> Iterator[dict[str, float]]:
    """The points of a metrics.jsonl; none if its optimizer has no telemetry."""
    if b'"eta"' not in content:
        return
    logged = [line for line in content.splitlines() if b'"eta"' in line]
    # To find the lines that count before they are parsed: a run may have logged thousands.
    steps = [int(found[1]) for line in logged for found in [_STEP.search(line)] if found]
    if len(steps) < len(logged):
        raise ValueError("a line has no step")
    chosen = np.searchsorted(steps, MARKS)
    for index in sorted({*chosen[chosen < len(steps)], len(steps) - 1}):
        line = parse_json(logged[index])
        numbers = {name: line[name] for name in ("eta", "rbar", "loss")}
        # What was not finite is null there, as JSON has no other word for it.
        numbers = {name: math.nan if one is None else one for name, one in numbers.items()}
        point = {name: float(f"{one:.{DIGITS}g}") for name, one in numbers.items()}
        yield {"step": line["step"], **point}
