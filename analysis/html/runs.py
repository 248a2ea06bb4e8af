"""The runs that a page is made from, and what of each of them the page holds."""

import json
import math
import shlex
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from analysis import curves, records
from analysis.records import Run
from runner.command import words_of
from runner.identity import leaves
from runner.run_record import RunRecord
from tasks.format import duration

# Of a run's curve: so many points, each of so many significant digits.
POINTS, DIGITS = 12, 3
CURVE = ("rate_name", "curve_step", "curve_loss", "curve_rate", "curve_validation")


@dataclass(frozen=True)
class KnownRuns:
    """All that is known of some runs."""

    records: Sequence[Run]

    @classmethod
    def gather(cls, runs_dir: Path, archive: Path) -> "KnownRuns":
        """All runs known here, as `records.gather` has them, each with its curve."""
        return cls([_with_curve(run, runs_dir) for run in records.known_runs(runs_dir, archive)])

    def only(self, run_ids: Collection[str]) -> "KnownRuns":
        """Those of these ids."""
        return KnownRuns([run for run in self.records if run.run_id in run_ids])

    @cached_property
    def frame(self) -> pd.DataFrame:
        """A row for each, as in records.csv."""
        return records.frame_of(self.records)

    @cached_property
    def curves(self) -> pd.DataFrame:
        """The points of their curves, as in curves.csv."""
        return curves.of_records(run for run in self.records if isinstance(run, RunRecord))


def _with_curve(run: Run, runs_dir: Path) -> Run:
    """The run with the curve of its folder, where it has none yet and there is one."""
    if isinstance(run, RunRecord) and run.curve is None:
        metrics = runs_dir / run.settings["task"]["name"] / run.run_id / "metrics.jsonl"
        with suppress(OSError, ValueError):
            return run.model_copy(update={"curve": curves.thinned(metrics.read_bytes())})
    return run


def run_columns(runs: KnownRuns, problem_places: dict[str, int]) -> dict[str, Any]:
    """What the page holds of each run, a column a fact, in the order of their frame.

    `problem_places` says where the page has a problem, by its id. A column is a list, or where few
    values are different `{"values": [...], "index": [...]}`.
    """
    by_id = {run.run_id: run for run in runs.records}
    rows = [
        {**_of_frame(row), **_of_record(by_id[row["run_id"]]), "problem": place}
        for row in runs.frame.to_dict("records")
        for place in [problem_places.get(row["problem_id"], -1)]
    ]
    names = rows[0] if rows else {}
    return {name: _coded([row[name] for row in rows]) for name in names}


_FRAME = ["run_id", "status", "optimizer", "label", "setting", "seed"]
_NUMBERS = ["validation_last", "validation_averaged", "test_last", "test_averaged", "train_loss"]
_NUMBERS += ["steps_done"]


def _of_frame(row: dict[Any, Any]) -> dict[str, Any]:
    numbers = {name: _short(row[name], 6) for name in _NUMBERS}
    return {name: row[name] for name in _FRAME} | {"time": duration(row["seconds"])} | numbers


def _of_record(run: Run) -> dict[str, Any]:
    known = {
        "command": shlex.join(["python", "run.py", *words_of(run), "runs_dir=mine/runs"]),
        "settings": _text(leaves(run.settings["opt"])),
        "problem_settings": _text(
            (key, value)
            for key, value in leaves(run.settings)
            if key.partition(".")[0] not in ("opt", "seed")
        ),
    }
    if not isinstance(run, RunRecord):
        unknown = dict.fromkeys(("threads", "started", "code", *CURVE))
        texts = {"machine": "", "packages": "", "numerics": "", "data": ""}
        return {**known, **unknown, **texts, "trouble": run.error}
    hardware, measured = run.hardware, run.measured
    return {
        **known,
        "threads": measured.threads,
        "started": (measured.started or "")[:16].replace("T", " "),
        "code": " ".join(
            filter(
                None,
                [run.code.version, run.code.commit, "modified" if run.code.modified else None],
            )
        ),
        **curve_of(run),
        "machine": ", ".join(filter(None, [hardware.device, hardware.cpu, hardware.gpu])),
        "packages": _text((run.packages or {}).items()),
        "numerics": _text((run.numerics or {}).items()),
        "data": _text([*(run.fingerprints or {}).items(), *(run.sources or {}).items()]),
        "trouble": "; ".join(run.results.trouble or ()),
    }


def curve_of(record: RunRecord) -> dict[str, Any]:
    """A run's loss, step size and validation scores by step, thinned and rounded: `CURVE`.

    The step size is the one that was really used (eta), or the learning rate (lr).
    """
    lines = [line for line in record.curve or () if "loss" in line]
    if not lines:
        return dict.fromkeys(CURVE)
    lines = curves.spread(lines, POINTS)
    key = "eta" if any("eta" in line for line in lines) else "lr"
    scores = [line for line in record.curve or () if "validation_last" in line][-POINTS:]
    of_scores = [
        [line["step"], *(_short(line.get(f"validation_{end}"), 4) for end in ("last", "averaged"))]
        for line in scores
    ]
    points = [[line["step"] for line in lines], [_short(line["loss"]) for line in lines]]
    points += [[_short(line.get(key)) for line in lines]]
    return dict(zip(CURVE, (key, *points, of_scores), strict=True))


def _short(value: Any, digits: int = DIGITS) -> Any:
    """With so many significant digits; None of what is no number."""
    if value is None or pd.isna(value) or not math.isfinite(value):
        return None
    if isinstance(value, int) or float(value).is_integer():
        return int(value)
    return float(f"{float(value):.{digits}g}")


def _text(pairs: Iterable[tuple[Any, Any]]) -> str:
    return "\n".join(f"{key}={_value(value)}" for key, value in pairs)


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _coded(values: list[Any]) -> Any:
    """The values, or where few are different these and the place of each."""
    texts = [json.dumps(value) for value in values]
    places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    if 2 * len(places) > len(values):
        return values
    return {"values": [json.loads(text) for text in places], "index": [places[t] for t in texts]}
