"""Runs a sweep: python scripts/sweep.py demo [executor=ray] [--dry-run] [key=value ...]

A sweep is a yaml of configs/sweep, or of the path that is given. Part by part, every optimizer's
grid is tuned on the tuning seed, settings are chosen by validation, and what was chosen is run on
the reported seeds. What is done is not done again: a sweep that was stopped goes on with the same
command.
--dry-run (or dry_run=true) only shows what would be run, and what it is estimated to cost.
executor=local, ray or slurm says what trains, executor.key= how (configs/executor); jobs= is short
for executor.workers=. replicas= is how many runs of a small task may train together in a process;
1: each by itself. key=value holds for every run (configs/config.yaml).
"""

import sys
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from analysis import report
from runner import overrides
from runner.archive import archive_beside
from runner.downloads import fetch_all
from sweeps import executors, plan
from sweeps.executors import Executor
from sweeps.executors.specs import ExecutorSpec
from sweeps.options import boolean, executor_of, number
from sweeps.packing import pack
from sweeps.plan import PlannedRun, Sweep
from sweeps.progress import SUCCESSES, Progress, plain
from sweeps.worker import Outcome
from tasks.errors import UserError

if TYPE_CHECKING:
    from analysis.choice import Chosen
    from sweeps.cost import CostEstimate
    from sweeps.estimate import RuntimeEstimator


def main() -> int:
    """Run the sweep; return 1 if any run has no record."""
    if {"-h", "--help"} & set(sys.argv):
        print(__doc__)
        return 0
    name, options, settings = _arguments(sys.argv[1:])
    sweep = plan.load(name, ["progress=false", *settings])
    on_cpu = all(cell.config.execution.device == "cpu" for cell in sweep.cells)
    chosen, dry = executor_of(options, on_cpu), boolean("dry_run", options)
    largest = number("replicas", options, int) or plan.LARGEST
    cost = _show_cost(sweep, chosen, dry)
    if dry:
        return 0
    began = time.monotonic()
    if cost.to_do:  # here, where the user sees it, not in workers
        fetch_all(cell.config for cell in sweep.cells)
    planned = sweep.tuning()

    def keep(runs: Iterable[PlannedRun]) -> bool:
        """Pack what is done; return whether any of it is new."""
        folders = (run.folder.path for run in runs)
        told = pack(Path(name).stem, folders, archive_beside(sweep.runs_dir))
        print("".join(f"{line}\n" for line in told), end="", file=sys.stderr)
        return bool(told)

    def part_done(title: str, runs: Collection[PlannedRun]) -> None:
        if keep(runs):
            table = report.short(sweep.runs_dir, {run.run_id for run in runs})
            print(f"\n{title} is done\n\n{table}\n", file=sys.stderr, flush=True)

    try:
        with executors.running(chosen, sweep.runs_dir) as executor:
            unfinished = train(sweep, executor, largest, cost, planned, part_done)
    finally:  # what was stopped can go on elsewhere, from the repository alone
        keep(planned)
    # What was refused (a folder is read-only, an argument wrong) has left nothing for tables.
    ended = (run for run in planned if run.done or run.folder.failure.exists())
    run_ids = {run.run_id for run in planned}
    if problems := sorted({run.problem_id for run in ended}):
        print(report.write_results(sweep.runs_dir, sweep.runs_dir.parent, problems, run_ids))
    took = (time.monotonic() - began) / 60
    print(f"sweep {name} took {took:.1f} minutes", file=sys.stderr)
    return report_unfinished(unfinished)


def report_unfinished(unfinished: Sequence[Outcome]) -> int:
    """Print a line for each run that has no record; return the exit status."""
    for outcome in unfinished:
        print(f"{outcome.status}: {outcome.run.label}: {plain(outcome.detail)}", file=sys.stderr)
    return 1 if unfinished else 0


def train(
    sweep: Sweep,
    executor: Executor,
    largest: int,
    cost: "CostEstimate",
    planned: list[PlannedRun],
    part_done: Callable[[str, Collection[PlannedRun]], None] = lambda *_: None,
) -> list[Outcome]:
    """Run a sweep part by part, each tuned and then reported; return what has no record.

    A part reports what its own tuning says, so that it is whole if the sweep is stopped later; the
    last part all that is left, such as settings chosen over several tasks. `planned` are the runs
    that tune; those that report are added when they are known. `part_done` is called after each
    part but the last with its name and runs. At most `largest` replicas train together.

    Raises:
        UserError: where the disk is full, others stop what tuning needs, or all was cancelled.
    """
    count = len(sweep.by_part)
    later = {run.run_id: run for stage in cost.stages for run in stage.to_do}
    seen: dict[str, PlannedRun] = {}

    def stage(name: str, runs: Iterable[PlannedRun]) -> list[Outcome]:
        new = [run for run in runs if run.run_id not in seen]
        for run in new:
            seen[run.run_id] = run
            later.pop(run.run_id, None)
        rest = list(later.values())
        return run_stage(name, new, executor, largest, cost.estimator, rest)

    unfinished = []
    for place, part in enumerate(sweep.parts, 1):
        title = f"part {place} of {count}"
        prefix = f"{title}, " if count > 1 else ""
        tuning = part.tuning()
        failed = stage(f"{prefix}tuning", tuning)
        if any(outcome.status == "stopped" for outcome in failed):
            line = "runs of the tuning were stopped by others: give the same command again"
            raise UserError(line)
        is_last = place == count
        choices = _choices(sweep, None if is_last else seen)
        reporting = part.reporting(choices)
        if is_last:
            mine = {run.run_id for run in reporting}
            reporting += [run for run in sweep.reporting(choices) if run.run_id not in mine]
        planned += [run for run in reporting if run.run_id not in seen]
        failed += stage(f"{prefix}reporting", reporting)
        unfinished += failed
        if not is_last and not any(outcome.status == "stopped" for outcome in failed):
            part_done(title, [*tuning, *reporting])
    return unfinished


def run_stage(
    stage: str,
    runs: list[PlannedRun],
    executor: Executor,
    largest: int,
    estimator: "RuntimeEstimator",
    later: Sequence[PlannedRun] = (),
) -> list[Outcome]:
    """Run what is not done of a stage and show how it goes; return what has no record.

    `later` are the runs to do of the stages after it.

    Raises:
        UserError: where the disk is full, or all was cancelled, once all that trained has ended.
    """
    missing = [run for run in runs if run.folder.result() is None]
    for group in plan.grouped(missing, executor.slots, largest):
        executor.submit(group)
    unfinished = []
    ended = 0
    full = ""
    with Progress(stage, runs, estimator, executor.slots, later) as progress:
        for outcome in executor.results():
            ended += 1
            if outcome.status == "full":  # for all others, too
                full = outcome.detail
                executor.cancel()
                continue
            progress.report(outcome)
            if outcome.status not in SUCCESSES:
                unfinished.append(outcome)
    if full:
        raise UserError(full)
    if ended < len(missing):  # what waited was given up
        raise UserError("cancelled: give the same command again")
    return unfinished


def _show_cost(sweep: Sweep, chosen: ExecutorSpec, in_full: bool) -> "CostEstimate":
    """Print and return what the sweep will cost with this executor."""
    from sweeps import cost, cost_text

    frame = cost.known(sweep.runs_dir)
    choices = cost.chosen(sweep, frame)
    processor, slots = cost.this_processor(sweep, chosen), executors.slots(chosen)
    estimate = cost.estimate_cost(sweep, choices, frame, processor, slots)
    if in_full:
        print(cost_text.full(estimate))
    else:
        print(cost_text.short(estimate), file=sys.stderr)
    return estimate


def _choices(sweep: Sweep, tried: Collection[str] | None) -> "Chosen":
    """Return the settings to report for each problem and optimizer, from the runs so far.

    Of all that was tried; given the ids of the runs so far, what no later one changes.
    """
    from sweeps import cost

    frame = cost.known(sweep.runs_dir)
    return cost.chosen(sweep, frame) if tried is None else cost.chosen_for_good(sweep, frame, tried)


def _arguments(words: list[str]) -> tuple[str, dict[str, str], list[str]]:
    """Split the command line into the sweep's name, our own options and the runs' overrides."""
    words = ["dry_run=true" if word == "--dry-run" else word for word in words]
    names, settings = overrides.split(words)
    if len(names) != 1:
        raise UserError(f"name one sweep: {(__doc__ or '').splitlines()[0].split(': ')[1]}")
    ours = ("jobs=", "replicas=", "dry_run=", "executor=", "executor.")
    options = dict(word.split("=", 1) for word in settings if word.startswith(ours))
    return names[0], options, [word for word in settings if not word.startswith(ours)]
