"""What a worker does, wherever it runs: train a group of planned runs and tell how each ended."""

import resource
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass

from runner.cores import wait_without_work
from runner.run_record import RunRecord
from sweeps.plan import PlannedRun
from tasks.errors import UserError, one_line, with_type

# Runs that one process trains: one, or several as replicas.
Group = tuple[PlannedRun, ...]


@dataclass(frozen=True)
class Outcome:
    """How a planned run ended."""

    run: PlannedRun
    status: str  # finished | diverged | failed | busy | stopped | full (the disk is)
    seconds: float
    score: float | None = None  # on validation, not test: who watches a sweep chooses
    detail: str = ""  # what went wrong


def work(group: Group, threads: int) -> list[Outcome]:
    """Train the runs of a group with so many CPU threads, and return an outcome for each.

    Several are trained together, as replicas; what cannot be is trained alone. A run that fails is
    an outcome, not an exception. After SIGTERM what was begun is saved, and what has no record is
    `stopped`.

    Raises:
        RuntimeError: if CUDA has failed for good in this process: another one may train the rest.
    """
    wait_without_work()
    import torch

    torch.set_num_threads(threads)
    outcomes = _train_together(group) if len(group) > 1 else []
    done = {outcome.run.run_id for outcome in outcomes}
    for run in group:
        if run.run_id in done:
            continue
        if outcomes and outcomes[-1].status == "stopped":
            outcomes.append(Outcome(run, "stopped", 0.0, detail="not begun"))
            continue
        _make_room_on_device()
        # Anew for each run: one that was resumed may have taken the number of its checkpoint.
        torch.set_num_threads(threads)
        outcomes.append(_train_alone(run))
    _make_room_on_device()
    return outcomes


def _make_room_on_device() -> None:
    """Give back a GPU's memory that runs have left: other processes may train on it."""
    import torch

    if _device_is_lost():
        raise RuntimeError("CUDA has failed in this process")
    torch.cuda.empty_cache()  # does nothing where no run has used CUDA


def _device_is_lost() -> bool:
    """Return whether CUDA fails whatever it is asked, as it does after an assertion on a GPU."""
    import torch

    try:
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False


def _train_together(group: Group) -> list[Outcome]:
    """Train runs as replicas; return the outcomes of those that came to an end so."""
    from runner.errors import DiskFull
    from sweeps.replicas import run_together

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each has a lock and metrics open
    ends: dict[int, RunRecord | BaseException] = {}
    began = time.monotonic()
    with suppress(UserError), _logged(group[0]):  # alone, each will say what is wrong
        try:
            with group[0].folder.full_disk_said():
                ends |= run_together([run.config for run in group])
        except (DiskFull, KeyboardInterrupt) as error:
            ends = dict.fromkeys(range(len(group)), error) | ends
        except Exception as error:  # no single run's fault; whose it is will show
            traceback.print_exc()
            line = f"{with_type(error)} (see {group[0].folder.log})"
            with suppress(OSError):  # nobody may read it any more
                print(
                    f"{len(group)} runs train one by one: {line}", file=sys.__stderr__, flush=True
                )
    share = (time.monotonic() - began) / len(group)
    return [outcome_of(group[place], end, share) for place, end in ends.items()]


def _train_alone(run: PlannedRun) -> Outcome:
    from runner.errors import Busy, Crash, Stopped
    from runner.run import run as train

    began = time.monotonic()
    try:
        with _logged(run), run.folder.logged():
            return outcome_of(run, train(run.config), time.monotonic() - began)
    except (UserError, Busy, Stopped, Crash, KeyboardInterrupt) as error:
        # Kept in a variable of this frame, the error would keep itself and the run's memory alive.
        return outcome_of(run, error, time.monotonic() - began)


@contextmanager
def _logged(run: PlannedRun) -> Iterator[None]:
    """Let what is printed go to the run's log."""
    folder = run.folder
    folder.make()
    with (
        folder.full_disk_said(),
        folder.log.open("a", encoding="utf-8") as log,
        redirect_stdout(log),
        redirect_stderr(log),
    ):
        yield


def outcome_of(run: PlannedRun, end: RunRecord | BaseException, seconds: float) -> Outcome:
    """Return the outcome that a record tells of, or what there is in place of one."""
    from runner.errors import Busy, DiskFull, Stopped

    match end:
        case RunRecord():
            return Outcome(run, end.status, seconds, score=end.validation_score)
        case Busy():
            status = "busy"
        case Stopped() | KeyboardInterrupt():
            status = "stopped"
        case DiskFull():
            status = "full"
        case _:
            status = "failed"
    return Outcome(run, status, seconds, detail=one_line(end))
