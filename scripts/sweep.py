"""Runs a sweep: python scripts/sweep.py demo [jobs=2] [executor=ray] [dry_run=true] [key=value ...]

A sweep is a yaml of configs/sweep, or of the path that is given. Every optimizer's grid is tuned
on the tuning seed, settings are chosen by validation, and what was chosen is run on the reported
seeds. What is done is not done again: a sweep that was stopped goes on with the same command.
executor=local, ray or slurm says what trains, executor.key= how (configs/executor); jobs= is short
for executor.workers=. key=value holds for every run (configs/config.yaml).
"""

import sys
import time
from pathlib import Path

from omegaconf import DictConfig
from tqdm import tqdm

from analysis import report
from runner import cli, executors, plan
from runner.downloads import sources
from runner.executors import Executor
from runner.plan import PlannedRun, Sweep
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
    chosen = _executor(options)
    if options.get("dry_run", "false").lower() == "true":
        _announce("tuning", sweep.tuning())
        _announce("reporting, as chosen so far", sweep.reporting(_choices(sweep)))
        return 0
    began = time.monotonic()
    _fetch(sweep)
    with executors.start(chosen, _runs_dir(sweep)) as executor:
        unfinished = _run("tuning", sweep.tuning(), executor)
        if any(outcome.status == "stopped" for outcome in unfinished):
            raise UserError(
                "runs of the tuning were stopped by others: give the same command again"
            )
        unfinished += _run("reporting", sweep.reporting(_choices(sweep)), executor)
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


def _run(stage: str, runs: list[PlannedRun], executor: Executor) -> list[Outcome]:
    """Run what is not done of a stage, a line for each as it ends; return what has no record."""
    missing = _announce(stage, runs)
    for group in plan.grouped(missing, executor.slots):
        executor.submit(group)
    unfinished = []
    with (
        tqdm(total=len(missing), desc=stage, unit="run", disable=not missing) as bar,
        executors.cancelled_by_signals(executor),
    ):
        for outcome in executor.results():
            line = f"{outcome.status:9} {outcome.run.label}: {outcome.detail}"
            bar.write(f"{line} ({outcome.seconds:.0f} s)", file=sys.stderr)
            bar.update()
            if outcome.status not in ("finished", "diverged"):
                unfinished.append(outcome)
    return unfinished


def _announce(stage: str, runs: list[PlannedRun]) -> list[PlannedRun]:
    missing = [run for run in runs if not run.done]
    print(f"{stage}: {len(runs)} runs, {len(runs) - len(missing)} done before", file=sys.stderr)
    return missing


def _choices(sweep: Sweep) -> dict[tuple[str, str], list[dict]]:
    """Return the settings to report for each problem and optimizer, from the runs so far."""
    from analysis.records import collect
    from analysis.selection import choose

    runs_dir = _runs_dir(sweep)
    try:
        chosen = choose(collect(runs_dir, runs_dir.parent / "records.csv"))
    except UserError:  # no runs yet
        return {}
    settings: dict[tuple[str, str], list[dict]] = {}
    for row in chosen.itertuples():
        settings.setdefault((row.problem_id, row.optimizer), []).append(row.overrides)
    return settings


def _runs_dir(sweep: Sweep) -> Path:
    return sweep.tuning()[0].folder.path.parents[1]


def _arguments(words: list[str]) -> tuple[str, dict[str, str], list[str]]:
    """Split the command line into the sweep's name, our own options and the runs' overrides."""
    names = [word.removeprefix("sweep=") for word in words if "=" not in word or "sweep=" in word]
    if len(names) != 1:
        raise UserError(f"name one sweep: {(__doc__ or '').splitlines()[0].split(': ')[1]}")
    ours = ("jobs=", "dry_run=", "executor=", "executor.")
    options = dict(word.split("=", 1) for word in words if "=" in word and word.startswith(ours))
    rest = [w for w in words if "=" in w and not w.startswith((*ours, "sweep="))]
    return names[0], options, rest


def _executor(options: dict[str, str]) -> DictConfig:
    """Return the settings of the executor that our options choose."""
    words = [f"{key}={value}" for key, value in options.items() if key.startswith("executor")]
    if "jobs" in options:
        if not options["jobs"].isdecimal() or int(options["jobs"]) < 1:
            raise UserError(f"jobs={options['jobs']}: must be a whole number above 0")
        if options.get("executor", "local") != "local":
            raise UserError(
                f"jobs= is for executor=local; see configs/executor/{options['executor']}.yaml"
            )
        words.append(f"executor.workers={options['jobs']}")
    return executors.settings(words)


if __name__ == "__main__":
    cli.main(main)
