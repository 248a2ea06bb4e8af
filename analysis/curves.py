"""Makes results/curves.csv: how the step size grew in each run, a few points a run."""

import logging
import math
import os
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.records import read_files, write_if_changed
from runner.archive import open_archive
from runner.run_record import RunRecord, parse_json

logger = logging.getLogger(__name__)

# The columns of curves.csv in their order, with their pandas types. Where an optimizer has several
# step sizes (L-DoG), eta and rbar are medians over its blocks.
COLUMNS = {
    "run_id": "str",
    "step": "int64",
    "eta": "float64",  # the step size η_t
    "rbar": "float64",  # the largest distance from x_0 so far, r̄_t; empty where it is not logged
    "loss": "float64",  # of the step's batch
}
ORDER = ["run_id", "step"]
# A run's points: the first logged step from each of these on, and the last step.
MARKS = [digit * 10**decade for decade in range(7) for digit in (1, 2, 3, 5, 7)]
DIGITS = 6
# Of an archived curve, besides these points: so many other lines, and so many validations.
LINES, VALIDATIONS = 40, 25

_STEP = re.compile(rb'"step": *([0-9]+)')


def collect(runs_dir: Path, csv_path: Path, frame: pd.DataFrame) -> pd.DataFrame:
    """The curves of all runs known here: those under `runs_dir`, and of the archive those missing.

    `frame` is what `records.collect` returns: only its runs that have a result are read, and of
    these only those with telemetry (a learning rate's schedule is known without a curve). Returns
    one row a point, sorted, with `COLUMNS` and numbers of `DIGITS` significant digits; `csv_path`
    is brought up to date.
    """
    done = frame[frame["status"] != "failed"]
    folders = f"{runs_dir}/" + done["task"] + "/" + done["run_id"]
    # What is not from here has no record: at most a part of a run that was finished elsewhere.
    here = [folder for folder in folders if os.path.exists(f"{folder}/record.json")]  # noqa: PTH110
    points: dict[str, list[dict[str, float]]] = {}
    for path, content in read_files(here, ("metrics.jsonl",)):
        try:
            if isinstance(content, OSError):
                raise content
            points[path.split("/")[-2]] = list(_of_metrics(content))
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("skipped the damaged curve %s (%s)", path, error)
    archive = open_archive(csv_path.with_name("archive"))
    for run_id in set(done["run_id"]) - points.keys():
        if (record := archive.get(run_id)) is not None:
            points[run_id] = list(_of_archive(record.curve or ()))
    curves = _frame(points)
    if len(curves) or csv_path.exists():
        text = curves.to_csv(index=False, lineterminator="\n", float_format=f"%.{DIGITS}g")
        write_if_changed(csv_path, text)
    return curves


def of_records(records: Iterable[RunRecord]) -> pd.DataFrame:
    """The curves of records that have theirs, as `collect` returns them."""
    return _frame({record.run_id: list(_of_archive(record.curve or ())) for record in records})


def _frame(points: Mapping[str, Sequence[Mapping[str, float]]]) -> pd.DataFrame:
    rows = [{"run_id": run_id, **point} for run_id in points for point in points[run_id]]
    curves = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    return curves.sort_values(ORDER, ignore_index=True)


def marked(steps: Sequence[int]) -> list[int]:
    """The places, among these steps, of the first from each mark on, and of the last."""
    found = {bisect_left(steps, mark) for mark in MARKS}
    return sorted({place for place in found if place < len(steps)} | {len(steps) - 1})


def thinned(metrics: bytes) -> list[dict[str, Any]]:
    """Return about a hundred lines of a metrics.jsonl at most, with six digits.

    Raises:
        ValueError: if it is damaged.
    """
    lines = [parse_json(line) for line in metrics.splitlines()]
    if not all(isinstance(line, Mapping) and isinstance(line.get("step"), int) for line in lines):
        raise ValueError("a line has no step")
    training = [line for line in lines if "loss" in line]
    drawn = [line for line in training if "eta" in line]
    kept = [drawn[place] for place in marked([line["step"] for line in drawn])] if drawn else []
    kept += spread(training, LINES)
    kept += spread([line for line in lines if "loss" not in line], VALIDATIONS)
    chosen = set(map(id, kept))
    return [
        {name: _short(value) for name, value in line.items()}
        for line in lines
        if id(line) in chosen
    ]


def spread(lines: Sequence[Any], count: int) -> list[Any]:
    """Return so many of the lines at most, evenly spread from the first to the last."""
    if len(lines) <= count:
        return list(lines)
    return [lines[place * (len(lines) - 1) // (count - 1)] for place in range(count)]


def _short(value: Any) -> Any:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _of_metrics(content: bytes) -> Iterator[dict[str, float]]:
    """The points of a metrics.jsonl; none if its optimizer has no telemetry."""
    if b'"eta"' not in content:
        return
    logged = [line for line in content.splitlines() if b'"eta"' in line]
    # To find the lines that count before they are parsed: a run may have logged thousands.
    steps = [int(found[1]) for line in logged for found in [_STEP.search(line)] if found]
    if len(steps) < len(logged):
        raise ValueError("a line has no step")
    for place in marked(steps):
        yield _point(parse_json(logged[place]))


def _of_archive(curve: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, float]]:
    """The points of an archived curve."""
    logged = [line for line in curve if "eta" in line]
    if logged:
        yield from (_point(logged[place]) for place in marked([line["step"] for line in logged]))


def _point(line: Mapping[str, Any]) -> dict[str, float]:
    numbers = {"eta": line["eta"], "rbar": line.get("rbar"), "loss": line["loss"]}
    # What was not finite is null there, as JSON has no other word for it.
    numbers = {name: math.nan if one is None else one for name, one in numbers.items()}
    return {"step": line["step"], **{k: float(f"{v:.{DIGITS}g}") for k, v in numbers.items()}}
