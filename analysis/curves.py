"""Gathers how DoG's step size grew in each run in results/curves.csv: a few points a run."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.records import write_if_changed
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


def collect(runs_dir: Path, csv_path: Path, frame: pd.DataFrame) -> pd.DataFrame:
    """The curves of all runs known here: those under `runs_dir` and those `csv_path` brings along.

    `frame` is what `records.collect` returns: only its runs that have a result are read, and of
    these only those with telemetry (a learning rate's schedule is known without a curve). Returns
    one row a point, sorted, with `COLUMNS` and numbers of `DIGITS` significant digits; `csv_path`
    is brought up to date. A local run with a record replaces its points of the file.
    """
    done = frame[frame["status"] != "failed"]
    rows = []
    for task, run_id in zip(done["task"], done["run_id"], strict=True):
        folder = runs_dir / task / run_id
        path = folder / "metrics.jsonl"
        if not (folder / "record.json").exists():
            continue  # no result is from here: at most a part of a run that was finished elsewhere
        try:
            rows += [{"run_id": run_id, **point} for point in _points(path)]
        except FileNotFoundError:
            continue
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


def _points(path: Path) -> Iterator[dict[str, float]]:
    """The points of a metrics.jsonl; none if its optimizer has no telemetry."""
    with path.open(encoding="utf-8") as file:
        lines = (json.loads(line) for line in file)
        logged = [line for line in lines if "eta" in line]
    if not logged:
        return
    steps = [line["step"] for line in logged]
    chosen = np.searchsorted(steps, MARKS)
    for index in sorted({*chosen[chosen < len(steps)], len(steps) - 1}):
        line = logged[index]
        point = {name: float(f"{line[name]:.{DIGITS}g}") for name in ("eta", "rbar", "loss")}
        yield {"step": line["step"], **point}
