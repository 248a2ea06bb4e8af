"""Runs a sweep: python scripts/sweep.py demo [jobs=2] [--dry-run] [key=value ...]

A sweep is a yaml of configs/sweep, or of the path that is given. Every optimizer's grid is tuned
on the tuning seed, settings are chosen by validation, and what was chosen is run on the reported
seeds. What is done is not done again: a sweep that was stopped goes on with the same command.
--dry-run (or dry_run=true) only shows what would be run, and its price. key=value holds for every
run (configs/config.yaml).
"""

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from analysis import report
from runner import cli, plan
from runner.downloads import sources
from runner.plan import PlannedRun, Sweep
from runner.pool import run_all
from runner.progress import SUCCESSES, Progress
from runner.run import data_dir
from runner.worker import Outcome
from tasks.errors import UserError
from tasks.sources import fetch


def main() -> int:
    """Run both stages; return 1 if any run has no record."""
    if {"-h", "--help"} & set(sys.argv):
        print(__doc__)
        return 0
    name, options, overrides = _arguments(sys.argv[1:])
    sweep = plan.load(name, ["progress=false", *overrides])
    jobs = _whole("jobs", options.get("jobs", os.cpu_count() or 1))
    threads = max(1, (os.cpu_count() or 1) // jobs)
    dry = options.get("dry_run", "false").lower() == "true"
    _show_price(sweep, threads, jobs, dry)
    if dry:
        return 0
    began = time.monotonic()
    _fetch(sweep)
    unfinished = _run("tuning", sweep.tuning(), jobs, threads)
    if any(outcome.status in ("busy", "stopped") for outcome in unfinished):
        raise UserError("runs of the tuning are under way elsewhere: give the same command later")
    unfinished += _run("reporting", sweep.reporting(_choices(sweep)), jobs, threads)
    runs_dir = _runs_dir(sweep)
    problems = sorted({run.problem_id for run in sweep.tuning()})
    print(report.make(runs_dir, runs_dir.parent, problems))
    took = (time.monotonic() - began) / 60
    print(f"sweep {name} took {took:.1f} minutes", file=sys.stderr)
    for outcome in unfinished:
        print(f"{outcome.status}: {outcome.run.label}: {outcome.detail}", file=sys.stderr)
    return 1 if unfinished else 0


def _fetch(sweep: Sweep) -> None:
    """Fetch data and weights here, where the user sees it, and not in each worker."""
    for cell in sweep.cells:
        for source in sources([cell.config]):
            fetch(source, data_dir(cell.config))


def _run(stage: str, runs: list[PlannedRun], jobs: int, threads: int) -> list[Outcome]:
    """Run what is not done of a stage and show how it goes; return what has no record."""
    missing = [run for run in runs if not run.done]
    unfinished = []
    with Progress(stage, runs) as progress:
        for outcome in run_all(missing, min(jobs, len(missing)), threads):
            progress.tell(outcome)
            if outcome.status not in SUCCESSES:
                unfinished.append(outcome)
    return unfinished


def _show_price(sweep: Sweep, threads: int, slots: int, whole: bool) -> None:
    """Print what the sweep will cost: in a few lines, or the whole of it."""
    from analysis import price, price_text, selection

    frame = price.known(_runs_dir(sweep))
    machine = price.this_machine(sweep, threads, slots)
    found = price.price(sweep, selection.settings_to_report(frame), frame, machine)
    if whole:
        print(price_text.whole(found))
    else:
        print(price_text.short(found), file=sys.stderr)


def _choices(sweep: Sweep) -> dict[tuple[str, str], list[Mapping[str, Any]]]:
    """Return the settings to report for each problem and optimizer, from the runs so far."""
    from analysis import price, selection

    return selection.settings_to_report(price.known(_runs_dir(sweep)))


def _runs_dir(sweep: Sweep) -> Path:
    return sweep.tuning()[0].folder.path.parents[1]


def _arguments(words: list[str]) -> tuple[str, dict[str, str], list[str]]:
    """Split the command line into the sweep's name, our own options and the runs' overrides."""
    words = ["dry_run=true" if word == "--dry-run" else word for word in words]
    names = [word.removeprefix("sweep=") for word in words if "=" not in word or "sweep=" in word]
    if len(names) != 1:
        raise UserError(f"name one sweep: {(__doc__ or '').splitlines()[0].split(': ')[1]}")
    options = dict(word.split("=", 1) for word in words if word.startswith(("jobs=", "dry_run=")))
    rest = [w for w in words if "=" in w and not w.startswith(("jobs=", "dry_run=", "sweep="))]
    return names[0], options, rest


def _whole(key: str, value: str | int) -> int:
    try:
        number = int(value)
    except ValueError:
        number = 0
    if number < 1:
        raise UserError(f"{key}={value}: must be a whole number above 0")
    return number


if __name__ == "__main__":
    cli.main(main)
