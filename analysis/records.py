"""Makes results/records.csv from the records of all runs, of every machine: one row a run."""

import csv
import json
import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from runner.archive import open_archive
from runner.identity import NOT_PROBLEM, hash_of, leaves
from runner.record import write_atomically
from runner.run_record import RunFailure, RunRecord
from tasks.errors import UserError

logger = logging.getLogger(__name__)

# A run that has ended: with a result, or with an error.
Run = RunRecord | RunFailure
T = TypeVar("T")

# Threads that read files, folders that one reads at a time, and such parts that are read ahead.
READERS, PART, AHEAD = 16, 16, 64

# The columns of records.csv in their order, with their pandas types. Scores are fractions in the
# task's own metric; "Int64", "boolean" and "float64" may be missing, "int64" and "bool" may not.
COLUMNS: dict[str, str] = {
    "run_id": "str",
    "status": "str",  # finished, diverged or failed
    "problem_id": "str",  # runs of one problem differ in optimizer, seed and data only
    "data_id": "str",  # hash of the examples and weights that were read; "" of a crash: unknown
    "task": "str",
    "task_version": "int64",
    "domain": "str",
    "budget": "str",
    "metric": "str",
    "higher_is_better": "bool",
    "model": "str",
    "protocol": "str",
    "protocol_version": "int64",
    "steps": "Int64",
    "batch_size": "Int64",
    "train_examples": "Int64",  # that there were; what was asked for is in problem_settings
    "optimizer": "str",
    "label": "str",  # the optimizer's name for readers
    "role": "str",  # reference, tuning_free or tuned; "" of a record of old (`analysis.roles`)
    "setting": "str",  # the grid's keys and whatever else was changed: "lr=0.01"
    "learning_rate": "float64",  # DoG has none
    "c": "float64",  # the factor of DoG's step sizes
    "reps_rel": "float64",  # DoG's initial step length, relative to 1 + ‖x_0‖
    "seed": "int64",
    "opt_default": "bool",
    "overrides": "str",  # JSON: what differs from the optimizer's defaults
    "grid": "str",  # JSON: the optimizer's own search grid
    "optimizer_id": "str",  # hash of what it sets: tells apart defaults that have changed
    "steps_done": "Int64",
    "train_loss": "float64",
    "validation_last": "float64",
    "validation_averaged": "float64",
    "validation_majority": "float64",
    "validation_examples": "Int64",
    "test_last": "float64",
    "test_averaged": "float64",
    "test_majority": "float64",
    "test_examples": "Int64",
    "seconds": "float64",
    "examples_per_second": "float64",
    "peak_memory_bytes": "Int64",
    "sessions": "Int64",
    "threads": "Int64",
    "replicas": "Int64",  # runs that trained together and share their time out
    "device": "str",
    "cpu": "str",
    "gpu": "str",
    "numerics": "str",  # what can change the last bits: "key=value; …"
    "started": "str",
    "code_version": "str",
    "code_commit": "str",
    "code_modified": "boolean",
    "problem_settings": "str",  # the problem's settings that have no column: "key=value; …"
}
TEXT = [name for name, kind in COLUMNS.items() if kind == "str"]
ORDER = ["task", "model", "protocol", "protocol_version", "problem_id", "optimizer"]
ORDER += ["learning_rate", "setting", "seed", "run_id"]

# Settings that have a column of their own.
_OWN_COLUMN = {f"task.{key}" for key in ("name", "version", "domain", "budget", "metric")}
_OWN_COLUMN |= {"task.higher_is_better", "model.name", "protocol.name", "protocol.version"}
_OWN_COLUMN |= {"train.steps", "train.batch_size"}

# Made once: json.dumps would make one for each of a million values.
_encode = json.JSONEncoder(sort_keys=True).encode
_encode_short = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def collect(runs_dir: Path, csv_path: Path) -> pd.DataFrame:
    """`gather` from the runs and the archive beside `csv_path`, which is brought up to date.

    Runs may end meanwhile, and others may collect: what is read and written is whole, and what one
    of two that collect at once did not see yet is there when the next one has collected.
    """
    archive = csv_path.with_name("archive")
    frame = gather(runs_dir, archive)
    if frame.empty:
        raise UserError(f"no runs in {runs_dir} and none in {archive}: run `make demo` first")
    if lost := _ids_in(csv_path) - set(frame["run_id"]):
        logger.warning(
            "%d runs of %s leave it, as no record of them is in %s or %s: %s",
            *(len(lost), csv_path, runs_dir, archive, " ".join(sorted(lost)[:3])),
        )
    write_if_changed(csv_path, frame.to_csv(index=False, lineterminator="\n"))
    return frame


def gather(runs_dir: Path, archive: Path) -> pd.DataFrame:
    """All runs known here: those under `runs_dir` and those of the archive's files.

    Returns one row a run, sorted, with `COLUMNS`, and writes nothing. A local run replaces its
    archived record, except that a local crash never hides a result.
    """
    return _sorted(_known(runs_dir, archive, _row))


def known_runs(runs_dir: Path, archive: Path) -> list[Run]:
    """The whole records that `gather` makes rows of, in no order."""
    return list(_known(runs_dir, archive, lambda run: run).values())


def frame_of(runs: Iterable[Run]) -> pd.DataFrame:
    """The runs as `gather` has them: one row a run, sorted, with `COLUMNS`."""
    return _sorted({run.run_id: _row(run) for run in runs})


def _known(runs_dir: Path, archive: Path, made: Callable[[Run], T]) -> dict[str, T]:
    """What is made of each run that is known here, by run id."""
    found = {record.run_id: made(record) for record in open_archive(archive)}
    for run in read_runs(runs_dir):
        if isinstance(run, RunRecord) or run.run_id not in found:
            found[run.run_id] = made(run)
    return found


def read_runs(runs_dir: Path) -> Iterator[Run]:
    """What each <runs_dir>/<task>/<run_id> has, a record or a failure; others are running."""
    for path, content in read_files(run_folders(runs_dir), ("record.json", "failure.json")):
        run: Run
        try:
            if isinstance(content, OSError):
                raise content
            failed = path.endswith("failure.json")
            run = RunFailure.of_json(content) if failed else RunRecord.of_json(content)
            if run.run_id != (folder := path.split("/")[-2]):
                raise ValueError(f"it is of the run {run.run_id}, not of {folder}")
        except (OSError, ValueError) as error:
            logger.warning("skipped %s (%s)", path, error)
            continue
        if _is_real(run):
            yield run


def of_archive(folder: Path, tasks: Iterable[str] | None = None) -> pd.DataFrame:
    """The archived runs, all or those of some tasks, as `gather` has them."""
    archive = open_archive(folder)
    return frame_of(archive if tasks is None else archive.of_tasks(tasks))


def _is_real(run: Run) -> bool:
    """Whether a run is a result: made-up problems are for tests."""
    return not run.settings["task"].get("synthetic")


def _ids_in(csv_path: Path) -> set[str]:
    """The runs that a records.csv has a row of."""
    try:
        with csv_path.open(encoding="utf-8", newline="") as file:
            return {row["run_id"] for row in csv.DictReader(file)}
    except (OSError, ValueError, KeyError, csv.Error):
        return set()  # there is none, or git has left a conflict in it: it is made anew


def read_files(
    folders: Sequence[str], names: Sequence[str]
) -> Iterator[tuple[str, bytes | OSError]]:
    """The first of the named files that each folder has: its path and content, or why it has none.

    In the order of the folders; those without such a file are left out. Threads read ahead, as
    most of the time goes by waiting for the disk or the network; never far, so that memory stays.
    """
    parts = [folders[start : start + PART] for start in range(0, len(folders), PART)]
    with ThreadPoolExecutor(READERS) as pool:
        for start in range(0, len(parts), AHEAD):
            for found in pool.map(lambda part: _read(part, names), parts[start : start + AHEAD]):
                yield from found


def _read(folders: Sequence[str], names: Sequence[str]) -> list[tuple[str, bytes | OSError]]:
    found: list[tuple[str, bytes | OSError]] = []
    for folder in folders:
        for name in names:
            path = f"{folder}/{name}"  # pathlib doubles the time here
            try:
                with open(path, "rb") as file:  # noqa: PTH123
                    found.append((path, file.read()))
            except FileNotFoundError:
                continue
            except OSError as error:
                found.append((path, error))
            break
    return found


def run_folders(runs_dir: Path) -> list[str]:
    """The folders of all runs, sorted; those of locks and launchers begin with a dot."""
    if not runs_dir.is_dir():
        return []
    return [path for task in _subfolders(str(runs_dir)) for path in _subfolders(task)]


def _subfolders(folder: str) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(one.path for one in entries if one.name[0] != "." and one.is_dir())


def _row(run: Run) -> dict[str, Any]:
    return _result(run) if isinstance(run, RunRecord) else _description(run)


def _description(run: Run) -> dict[str, Any]:
    """What there is to know of any run as a flat dictionary with keys of `COLUMNS`."""
    settings, train, optimizer = run.settings, run.settings["train"], run.settings["opt"]
    task, protocol = settings["task"], settings["protocol"]
    factor = _number(optimizer.get("lr"))
    is_dog = "reps_rel" in optimizer  # and its relatives: lr is the paper's c
    return {
        "run_id": run.run_id,
        "status": "failed",
        "problem_id": run.problem_id,
        "task": task["name"],
        "task_version": task["version"],
        "domain": task["domain"],
        "budget": task["budget"],
        "metric": task["metric"],
        "higher_is_better": task["higher_is_better"],
        "model": settings["model"]["name"],
        "protocol": protocol["name"],
        "protocol_version": protocol["version"],
        "steps": train.get("steps"),
        "batch_size": train.get("batch_size"),
        "optimizer": optimizer["name"],
        "label": run.opt_label or optimizer["name"],
        "role": run.opt_role,
        "setting": setting_text(optimizer, run.opt_changed, run.grid),
        "learning_rate": math.nan if is_dog else factor,
        "c": factor if is_dog else math.nan,
        "reps_rel": _number(optimizer.get("reps_rel")),
        "seed": settings["seed"],
        "opt_default": run.opt_default,
        "overrides": _encode(run.opt_changed),
        "grid": _encode(run.grid),
        "optimizer_id": hash_of({key: optimizer[key] for key in optimizer if key != "label"}),
        "problem_settings": problem_text(settings),
    }


def _result(record: RunRecord) -> dict[str, Any]:
    """One run with a result as a flat dictionary with the keys of `COLUMNS`."""
    results, measured = record.results, record.measured
    row = _description(record) | {
        "status": record.status,
        "data_id": record.data_id,
        "steps_done": results.steps,
        "train_loss": _number(results.train_loss),
        "train_examples": results.train_examples,
        "seconds": measured.seconds,
        "examples_per_second": _number(measured.examples_per_second),
        "peak_memory_bytes": measured.peak_memory_bytes,
        "sessions": measured.sessions,
        "threads": measured.threads,
        "replicas": measured.replicas,
        "device": record.hardware.device,
        "cpu": record.hardware.cpu,
        "gpu": record.hardware.gpu,
        "numerics": numerics_text(record.numerics or {}),
        "started": measured.started,
        "code_version": record.code.version,
        "code_commit": record.code.commit,
        "code_modified": record.code.modified,
    }
    for split, scores in (("validation", results.validation), ("test", results.test)):
        row[f"{split}_last"] = scores.last
        row[f"{split}_averaged"] = _number(scores.averaged)
        row[f"{split}_majority"] = _number(scores.majority)
        row[f"{split}_examples"] = scores.examples
    return row


def setting_text(optimizer: dict, changed: dict, grid: dict) -> str:
    """What identifies a setting among the optimizer's runs, such as "lr=0.01".

    The grid's keys are always named, so that the default is comparable with the grid's points;
    after them whatever else was changed.
    """
    values = dict(leaves(optimizer))
    others = sorted(key for key, _ in leaves(changed) if key not in grid)
    keys = [key for key in [*sorted(grid), *others] if key in values]
    return " ".join(f"{key}={_text(values[key])}" for key in keys)


def numerics_text(numerics: dict[str, Any]) -> str:
    """What can change a run's last bits, as the column numerics."""
    return "; ".join(f"{key}={_text(value)}" for key, value in sorted(numerics.items()))


def problem_text(settings: Mapping[str, Any]) -> str:
    """The problem's settings that have no column of their own, as the column problem_settings."""
    parts = {key: value for key, value in settings.items() if key not in NOT_PROBLEM}
    values = sorted((key, value) for key, value in leaves(parts) if key not in _OWN_COLUMN)
    return "; ".join(f"{key}={_text(value)}" for key, value in values)


def _text(value: Any) -> str:
    """Short, and the same for 1 and 1.0, which are the same setting."""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    return _encode_short(value)


def _number(value: Any) -> float:
    """The number, or NaN of nothing and of a word (reps_rel: auto)."""
    return math.nan if value is None or isinstance(value, str) else float(value)


def empty() -> pd.DataFrame:
    """The frame of no runs."""
    return _frame([])


def _sorted(rows: Mapping[str, dict[str, Any]]) -> pd.DataFrame:
    if not rows:
        return empty()
    return _frame(list(rows.values())).sort_values(ORDER, ignore_index=True)


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    # An option that is null counts as absent in a problem's id: of the texts that its runs have, by
    # whether they are older than an option, all get the one that names the most.
    texts: dict[str, str] = {}
    for row in rows:
        alike = (texts.get(row["problem_id"], ""), row["problem_settings"])
        texts[row["problem_id"]] = max(alike, key=lambda text: (len(text), text))
    rows = [row | {"problem_settings": texts[row["problem_id"]]} for row in rows]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return frame.fillna(dict.fromkeys(TEXT, "")).astype(COLUMNS)


def write_if_changed(path: Path, text: str) -> bool:
    """Writes `text` atomically unless the file holds it already; says whether it wrote."""
    data = text.encode()
    try:
        if path.exists() and path.read_bytes() == data:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data)
    except OSError as error:
        advice = "free some space or choose another folder"
        raise UserError(f"cannot write {path} ({error.strerror}): {advice}") from error
    return True
