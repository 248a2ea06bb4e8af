"""How far runs are: done, running, stopped, failed, and how long a sweep will still take.

It is read off their folders and the archive; nothing is written.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from analysis import records
from runner import config, overrides
from runner.archive import archive_beside, open_archive
from runner.cores import usable_cores
from runner.identity import optimizer_of
from runner.lock import held
from runner.run_record import RunFailure, RunHead
from sweeps import cost, plan
from sweeps.estimate import RuntimeEstimator
from sweeps.plan import PlannedRun
from sweeps.progress import SUCCESSES, last_step, plain
from tasks.errors import UserError
from tasks.format import plural

STATES = (*SUCCESSES, "running", "stopped", "failed")
# How many failures are shown, and how many lines of their logs.
FAILURES, LOG_LINES = 5, 3


@dataclass(frozen=True, slots=True)
class RunStatus:
    """A run as its folder shows it."""

    task: str
    run_id: str
    state: str  # one of STATES, or missing
    step: int | None = None  # that it has reached, of one that is running or stopped
    process: str = ""  # that trains it, as its lock names it
    error: str = ""  # of one that failed

    @property
    def optimizer(self) -> str:
        """The optimizer's name."""
        return optimizer_of(self.task, self.run_id)


def of_command(words: Iterable[str]) -> str:
    """Return the status that the words of a command line ask for: a sweep's, or a folder's.

    Raises:
        UserError: for words that do not go together, or name what there is not.
    """
    names, settings = overrides.split(words)
    if len(names) > 1:
        raise UserError(f"name one sweep or none, not {' and '.join(names)}")
    if names:
        return of_sweep(names[0], settings)
    if unknown := [word for word in settings if not word.startswith("runs_dir=")]:
        raise UserError(f"{unknown[0]}: without a sweep there is nothing to give but runs_dir=...")
    folder = overrides.path_in(settings[-1]) if settings else "results/runs"
    return of_folder(config.in_project(folder))


def look(folder: str) -> RunStatus:
    """See how far the run in a folder is; one that is neither there nor archived is missing."""
    names = _names(folder)
    if (ended := _ended(folder)) is not None:
        return ended
    archive = open_archive(archive_beside(Path(folder).parents[1]))
    if (archived := archive.get(names[1])) is not None:
        return RunStatus(*names, archived.status)
    if not Path(folder).is_dir():
        return RunStatus(*names, "missing")
    lock, step = Path(folder, "lock"), last_step(Path(folder, "metrics.jsonl"))
    if held(lock):
        process = _read(str(lock)) or b""
        return RunStatus(*names, "running", step, process.decode(errors="replace"))
    if (ended := _ended(folder)) is not None:  # since we looked first
        return ended
    if (failure := _failure(folder)) is not None:
        return failure
    return RunStatus(*names, "stopped", step)


def look_at_all(folders: Sequence[str]) -> list[RunStatus]:
    """See how far many runs are, as `look` does; threads read their records ahead."""
    states = {}
    for path, content in records.read_files(folders, ("record.json",)):
        with suppress(ValueError):  # look() says what is wrong
            if isinstance(content, bytes):
                head = RunHead.model_validate_json(content)
                states[path.removesuffix("/record.json")] = head.status
    return [
        RunStatus(*_names(folder), states[folder]) if folder in states else look(folder)
        for folder in folders
    ]


def table(runs: Iterable[RunStatus], states: Sequence[str] = STATES) -> list[str]:
    """Return how many runs of each task and optimizer are in each state, as lines."""
    counts: dict[tuple[str, str], Counter[str]] = {}
    for run in runs:
        counts.setdefault((run.task, run.optimizer), Counter())[run.state] += 1
    lines = [f"{'task':20}{'optimizer':15}" + "".join(f"{state:>10}" for state in states)]
    for (task, optimizer), count in counts.items():
        cells = "".join(f"{count[state]:>10,}" for state in states)
        lines.append(f"{task:20}{optimizer:15}{cells}")
    return lines


def running(runs: Iterable[RunStatus], steps: dict[str, int]) -> Iterator[str]:
    """Yield for each task and optimizer how far its running runs are; `steps` by run id."""
    groups: dict[tuple[str, str], list[RunStatus]] = {}
    for run in runs:
        if run.state == "running":
            groups.setdefault((run.task, run.optimizer), []).append(run)
    for (task, optimizer), group in groups.items():
        last = min(group, key=lambda run: run.step or 0)
        total = f"/{steps[last.run_id]}" if last.run_id in steps else ""
        which = "1 run" if len(group) == 1 else f"{len(group)} runs, the last"
        yield f"running {task} {optimizer}: {which} at step {last.step or 0}{total}"


def failures(runs: Iterable[RunStatus], runs_dir: Path) -> Iterator[str]:
    """Yield the errors of runs that failed, with the last lines of their logs."""
    failed = [run for run in runs if run.state == "failed"]
    for run in failed[:FAILURES]:
        yield f"failed  {run.run_id}: {plain(run.error)}"
        yield from (f"    {line}" for line in tail(runs_dir / run.task / run.run_id / "log.txt"))
    if len(failed) > FAILURES:
        yield f"and {len(failed) - FAILURES} more failed"


def tail(log: Path) -> list[str]:
    """Return the last lines of a log that are not empty; none if there is no log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [plain(line) for line in text.splitlines() if line.strip()][-LOG_LINES:]


def of_folder(runs_dir: Path) -> str:
    """Return the status of all runs in a folder, and of those in the archive beside it."""
    archived = (
        f"{runs_dir}/{record.settings['task']['name']}/{record.run_id}"
        for record in open_archive(archive_beside(runs_dir))
    )
    runs = look_at_all(sorted({*records.run_folders(runs_dir), *archived}))
    if not runs:
        raise UserError(f"no runs in {runs_dir}: run `make demo` or `python run.py` first")
    return "\n".join([*table(runs), *running(runs, {}), *failures(runs, runs_dir)])


def of_sweep(name: str, settings: Iterable[str]) -> str:
    """Return the status of a sweep (`plan.load`)."""
    sweep = plan.load(name, settings)
    frame = cost.known(sweep.runs_dir)
    reporting = sweep.reporting(cost.chosen(sweep, frame))
    estimator = cost.runtime_estimator(sweep, frame, cost.this_processor(sweep))
    stages = {"tuning": sweep.tuning(), "reporting, as chosen so far": reporting}
    return of_plan(stages, sweep.runs_dir, estimator)


def of_plan(
    stages: dict[str, list[PlannedRun]], runs_dir: Path, estimator: RuntimeEstimator
) -> str:
    """Return the status of a sweep's stages."""
    every = [run for planned in stages.values() for run in planned]
    folders = [str(run.folder.path) for run in every]
    seen = list(map(look, folders))
    lines: list[str] = []
    rest = iter(seen)
    for name, planned in stages.items():
        runs = list(islice(rest, len(planned)))
        done = sum(run.state in SUCCESSES for run in runs)
        lines += [
            f"{name}: {done} of {len(runs)} runs done",
            *table(runs, (*STATES, "missing")),
            "",
        ]
    steps = {run.run_id: run.steps for run in every}
    lines.append(time_left(every, seen, estimator))
    return "\n".join([*lines, *running(seen, steps), *failures(seen, runs_dir)])


def time_left(
    planned: Sequence[PlannedRun], seen: Sequence[RunStatus], estimator: RuntimeEstimator
) -> str:
    """Return the line about the time left of planned runs, which were seen in this order."""
    pairs = list(zip(planned, seen, strict=True))
    to_do = [run for run, found in pairs if found.state not in SUCCESSES]
    if not to_do:
        return "time left: none, all is done"
    done = (run for run, found in pairs if found.state in SUCCESSES)
    ended = [(run, took) for run in done if (took := estimator.took(run)) is not None]
    steps_done = {run.run_id: run.step for run in seen if run.step}
    # One process trains all runs of a group of replicas.
    training = len({run.process for run in seen if run.state == "running"})
    left = estimator.time_left(to_do, training or usable_cores(), ended, steps_done)
    where = f"{training} at once" if training else f"if {usable_cores()} train at once"
    return f"time left: {left} for {plural(len(to_do), 'run')}, {where}"


def _names(folder: str) -> tuple[str, str]:
    task, run_id = folder.rsplit("/", 2)[-2:]
    return task, run_id


def _ended(folder: str) -> RunStatus | None:
    """Return a run that has a record, which may be damaged; None if it has none."""
    if (content := _read(f"{folder}/record.json")) is None:
        return None
    try:
        return RunStatus(*_names(folder), RunHead.model_validate_json(content).status)
    except ValueError:
        return RunStatus(*_names(folder), "failed", error="record.json is damaged")


def _failure(folder: str) -> RunStatus | None:
    """Return a run that has crashed; None if it has not."""
    if (content := _read(f"{folder}/failure.json")) is None:
        return None
    try:
        error = RunFailure.of_json(content).error
    except ValueError:
        error = "failure.json is damaged"
    return RunStatus(*_names(folder), "failed", error=error)


def _read(path: str) -> bytes | None:
    """Return what a file holds; None if there is no such file."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123  (faster, and there may be 100,000 of them)
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return b""
