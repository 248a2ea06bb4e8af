"""What a worker does, wherever it runs: train a group of planned runs and tell how each ended."""

import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from typing import Any

from runner.cores import wait_without_work
from sweeps.plan import PlannedRun

# Runs that one process trains: one, or several as replicas.
Group = tuple[PlannedRun, ...]


@dataclass(frozen=True)
class Outcome:
    """How a planned run ended."""

    run: PlannedRun
    status: str  # finished | diverged | failed | busy | stopped | full (the disk is)
    detail: str  # the score, or what went wrong
    seconds: float


def work(group: Group, threads: int) -> list[Outcome]:
    """Train the runs of a group with so many CPU threads, and return an outcome for each.

    Several are trained together, as replicas; what cannot be is trained alone. A run that fails is
    an outcome, not an exception. After SIGTERM what was begun is saved, and what has no record is
    `stopped`.
    """
    wait_without_work()
    import torch

    torch.set_num_threads(threads)
    outcomes = _together(group) if len(group) > 1 else []
    done = {outcome.run.run_id for outcome in outcomes}
    for run in group:
        if run.run_id in done:
            continue
        if outcomes and outcomes[-1].status == "stopped":
            outcomes.append(Outcome(run, "stopped", "not begun", 0.0))
            continue
        # Anew for each run: one that was resumed may have taken the number of its checkpoint.
        torch.set_num_threads(threads)
        outcomes.append(_alone(run))
    return outcomes


def _together(group: Group) -> list[Outcome]:
    """Train runs as replicas; return the outcomes of those that came to an end so."""
    from runner import cli
    from runner.errors import DiskFull
    from sweeps.replicas import run_together
    from tasks.errors import UserError

    ends: dict[int, Mapping[str, Any] | BaseException] = {}
    began = time.monotonic()
    with suppress(UserError), _logged(group[0]):  # alone, each will say what is wrong
        try:
            with group[0].folder.full_disk_said():
                ends |= run_together([run.config for run in group])
        except (DiskFull, KeyboardInterrupt) as error:
            ends = dict.fromkeys(range(len(group)), error) | ends
        except Exception as error:  # no single run's fault; whose it is will show
            traceback.print_exc()
            line = f"{type(error).__name__}: {cli.one_line(error)} (see {group[0].folder.log})"
            with suppress(OSError):  # nobody may read it any more
                print(
                    f"{len(group)} runs train one by one: {line}", file=sys.__stderr__, flush=True
                )
    share = (time.monotonic() - began) / len(group)
    return [Outcome(group[place], *_told(end), share) for place, end in ends.items()]


def _alone(run: PlannedRun) -> Outcome:
    from runner.errors import Busy, Crash, Stopped
    from runner.run import run as train
    from tasks.errors import UserError

    began = time.monotonic()
    end: Mapping[str, Any] | BaseException
    try:
        with _logged(run), run.folder.logged():
            end = train(run.config)
    except (UserError, Busy, Stopped, Crash, KeyboardInterrupt) as error:
        end = error
    return Outcome(run, *_told(end), time.monotonic() - began)


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


def _told(end: Mapping[str, Any] | BaseException) -> tuple[str, str]:
    """Return the status and detail of a record, or of what there is in place of one."""
    from runner import cli
    from runner.errors import Busy, DiskFull, Stopped

    match end:
        case Busy():
            return "busy", cli.one_line(end)
        case Stopped() | KeyboardInterrupt():
            return "stopped", cli.one_line(end)
        case DiskFull():
            return "full", cli.one_line(end)
        case BaseException():
            return "failed", cli.one_line(end)
    return ended_as(end)


def ended_as(record: Mapping[str, Any]) -> tuple[str, str]:
    """Return the status and the detail of the outcome that a record tells of."""
    scores, metric = record["results"]["validation"], record["settings"]["task"]["metric"]
    # Validation, not test: who watches a sweep chooses.
    return record["status"], f"validation {metric} {max(scores['last'], scores['averaged']):.3f}"
