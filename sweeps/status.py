"""How far runs are: done, running, stopped, failed, and how fast it goes.

It is read off their folders and the archive; nothing is written. Times are those that the file
system gives to files, which has one clock; from a record only the length of its run is taken, which
is by the clock of one machine.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path

from analysis import records
from runner.archive import archive_beside, open_archive
from runner.identity import optimizer_of
from runner.lock import held
from runner.run_record import RunFailure, RunHead
from sweeps.plan import PlannedRun
from sweeps.progress import duration, last_step, plain
from tasks.errors import UserError

STATES = ("finished", "diverged", "running", "stopped", "failed")
DONE = ("finished", "diverged")
HOUR = 3600.0
# Seconds without any run after which another session has begun.
PAUSE = 600.0
# How many failures are shown, and how many lines of their logs.
FAILURES, LOG_LINES = 5, 3


@dataclass(frozen=True, slots=True)
class Seen:
    """A run as its folder shows it."""

    task: str
    run_id: str
    state: str  # one of STATES, or missing
    at: float = 0.0  # of the file system's clock: when it ended, or was last heard of
    seconds: float = 0.0  # of a run with a record: how long ago it had begun then
    step: int | None = None  # that it has reached, of one that is running
    error: str = ""  # of one that failed

    @property
    def optimizer(self) -> str:
        """The optimizer's name."""
        return optimizer_of(self.task, self.run_id)


@dataclass(frozen=True)
class Pace:
    """How many runs end in which time."""

    last_hour: int
    session: int
    session_seconds: float

    @property
    def seconds_each(self) -> float:
        """The time from one end to the next: of the last hour if the session is longer."""
        if self.session_seconds > HOUR and self.last_hour:
            return HOUR / self.last_hour
        return self.session_seconds / self.session


def look(folder: str) -> Seen:
    """See how far the run in a folder is; one that is neither there nor archived is missing."""
    whose = _names(folder)
    if (ended := _ended(folder)) is not None:
        return ended
    archive = open_archive(archive_beside(Path(folder).parents[1]))
    if (archived := archive.get(whose[1])) is not None:
        return Seen(*whose, archived.status)
    if not Path(folder).is_dir():
        return Seen(*whose, "missing")
    if held(Path(folder, "lock")):
        metrics = Path(folder, "metrics.jsonl")
        at = metrics.stat().st_mtime if metrics.exists() else 0.0
        return Seen(*whose, "running", at, step=last_step(metrics))
    if (ended := _ended(folder)) is not None:  # since we looked first
        return ended
    if (failure := _failure(folder)) is not None:
        return failure
    return Seen(*whose, "stopped")


def look_at_all(folders: Sequence[str]) -> list[Seen]:
    """See how far many runs are: as `look`, but without the times of those that are done.

    Threads read their records ahead.
    """
    states = {}
    for path, content in records.read_files(folders, ("record.json",)):
        with suppress(ValueError):  # look() says what is wrong
            if isinstance(content, bytes):
                head = RunHead.model_validate_json(content)
                states[path.removesuffix("/record.json")] = head.status
    return [Seen(*_names(one), states[one]) if one in states else look(one) for one in folders]


def pace(runs: Iterable[Seen]) -> Pace | None:
    """Return how fast runs end, in the session of the last one; None if none has ended in it.

    A session is a time without a pause of ten minutes. A run that is training may be as long as the
    longest so far without news.
    """
    runs = list(runs)
    done = sorted(((one.at, one.seconds) for one in runs if one.state in DONE), reverse=True)
    if not done:
        return None
    active = [one.at for one in runs if one.state == "running"]
    now = max(done[0][0], *active) if active else done[0][0]
    began = now - (max(seconds for _, seconds in done) if active else 0)
    session = 0
    for ended, seconds in done:
        if ended < began - PAUSE:
            break
        session += 1
        began = min(began, ended - seconds)
    if not session or now == began:  # or all records are without times
        return None
    last_hour = sum(ended > now - HOUR for ended, _ in done[:session])
    return Pace(last_hour, session, now - began)


def table(runs: Iterable[Seen], states: Sequence[str] = STATES) -> list[str]:
    """Return how many runs of each task and optimizer are in each state, as lines."""
    counts: dict[tuple[str, str], Counter[str]] = {}
    for one in runs:
        counts.setdefault((one.task, one.optimizer), Counter())[one.state] += 1
    lines = [f"{'task':20}{'optimizer':15}" + "".join(f"{state:>10}" for state in states)]
    for (task, optimizer), count in counts.items():
        cells = "".join(f"{count[state]:>10,}" for state in states)
        lines.append(f"{task:20}{optimizer:15}{cells}")
    return lines


def running(runs: Iterable[Seen], steps: dict[str, int]) -> Iterator[str]:
    """Yield for each task and optimizer how far its running runs are; `steps` by run id."""
    groups: dict[tuple[str, str], list[Seen]] = {}
    for one in runs:
        if one.state == "running":
            groups.setdefault((one.task, one.optimizer), []).append(one)
    for (task, optimizer), some in groups.items():
        last = min(some, key=lambda one: one.step or 0)
        whole = f"/{steps[last.run_id]}" if last.run_id in steps else ""
        which = "1 run" if len(some) == 1 else f"{len(some)} runs, the last"
        yield f"running {task} {optimizer}: {which} at step {last.step or 0}{whole}"


def failures(runs: Iterable[Seen], runs_dir: Path) -> Iterator[str]:
    """Yield the errors of runs that failed, with the last lines of their logs."""
    failed = [one for one in runs if one.state == "failed"]
    for one in failed[:FAILURES]:
        yield f"failed  {one.run_id}: {plain(one.error)}"
        yield from (f"    {line}" for line in tail(runs_dir / one.task / one.run_id / "log.txt"))
    if len(failed) > FAILURES:
        yield f"and {len(failed) - FAILURES} more failed"


def tail(log: Path, lines: int = LOG_LINES) -> list[str]:
    """Return the last lines of a log that are not empty; none if there is no log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [plain(line) for line in text.splitlines() if line.strip()][-lines:]


def time_left(to_do: int, found: Pace | None, priced: str) -> str:
    """Return the line about the time left; `priced` says it where no run has ended yet."""
    if not to_do:
        return "time left: none, all is done"
    if found is None:
        return f"time left: {priced}, by the price"
    left = duration(to_do * found.seconds_each)
    return f"time left: about {left} for {to_do} runs, at that pace"


def throughput(found: Pace | None) -> str:
    """Return the line about the pace."""
    if found is None:
        return "throughput: not known yet in this session"
    each = f"one in {duration(found.seconds_each)}"
    return (
        f"throughput: {found.session} runs in this session of {duration(found.session_seconds)}, "
        f"{found.last_hour} in its last hour: {each}"
    )


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


def of_plan(stages: dict[str, list[PlannedRun]], runs_dir: Path, priced: Callable[[], str]) -> str:
    """Return the status of a sweep's stages; `priced()` says how long it takes by the price."""
    lines: list[str] = []
    every = [run for planned in stages.values() for run in planned]
    folders = [str(run.folder.path) for run in every]
    seen = list(map(look, folders))
    pairs = zip(every, seen, strict=True)
    steps = {run.run_id: run.steps for run, one in pairs if one.state == "running"}
    rest = iter(seen)
    for name, planned in stages.items():
        runs = list(islice(rest, len(planned)))
        done = sum(one.state in DONE for one in runs)
        lines += [
            f"{name}: {done} of {len(runs)} runs done",
            *table(runs, (*STATES, "missing")),
            "",
        ]
    to_do = sum(one.state not in DONE for one in seen)
    found = pace(seen)
    lines += [throughput(found), time_left(to_do, found, "" if found else priced())]
    return "\n".join([*lines, *running(seen, steps), *failures(seen, runs_dir)])


def _names(folder: str) -> tuple[str, str]:
    task, run_id = folder.rsplit("/", 2)[-2:]
    return task, run_id


def _ended(folder: str) -> Seen | None:
    """Return a run that has a record, which may be damaged; None if it has none."""
    if (found := _read(f"{folder}/record.json")) is None:
        return None
    content, at = found
    try:
        head = RunHead.model_validate_json(content)
    except ValueError:
        return Seen(*_names(folder), "failed", at, error="record.json is damaged")
    return Seen(*_names(folder), head.status, at, _length(head))


def _failure(folder: str) -> Seen | None:
    """Return a run that has crashed; None if it has not."""
    if (found := _read(f"{folder}/failure.json")) is None:
        return None
    content, at = found
    try:
        error = RunFailure.of_json(content).error
    except ValueError:
        error = "failure.json is damaged"
    return Seen(*_names(folder), "failed", at, error=error)


def _read(path: str) -> tuple[bytes, float] | None:
    """Return what a file holds and when it was written; None if there is no such file."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123  (faster, and there may be 100,000 of them)
            return file.read(), os.fstat(file.fileno()).st_mtime
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return b"", 0.0


def _length(head: RunHead) -> float:
    """Return the seconds from the start of a run's last session to its end; 0 if it is not told."""
    try:
        times = (head.measured.started or "", head.measured.finished or "")
        started, finished = map(datetime.fromisoformat, times)
        return max(0.0, (finished - started).total_seconds())
    except (TypeError, ValueError):
        return 0.0
