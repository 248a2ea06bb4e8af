"""What a worker does, wherever it runs: train a group of planned runs and tell how each ended."""

import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any

from runner.plan import PlannedRun

# Runs that one process trains, together where they can be.
Group = tuple[PlannedRun, ...]


@dataclass(frozen=True)
class Outcome:
    """How a planned run ended."""

    run: PlannedRun
    status: str  # finished | diverged | failed | busy | stopped
    detail: str  # the score, or what went wrong
    seconds: float


def work(group: Sequence[PlannedRun], threads: int) -> list[Outcome]:
    """Train the runs of a group with so many CPU threads, and return an outcome for each.

    A run that fails is an outcome, not an exception. After SIGTERM what was begun is saved and
    `stopped`, and what was not begun is `stopped`, too.
    """
    import torch

    outcomes: list[Outcome] = []
    for run in group:
        if outcomes and outcomes[-1].status == "stopped":
            outcomes.append(Outcome(run, "stopped", "not begun", 0.0))
            continue
        # Anew for each run: one that was resumed may have taken the number of its checkpoint.
        torch.set_num_threads(threads)
        began = time.monotonic()
        status, detail = _train(run)
        outcomes.append(Outcome(run, status, detail, time.monotonic() - began))
    return outcomes


def _train(run: PlannedRun) -> tuple[str, str]:
    """Train one run; what it prints goes to its log."""
    from runner import cli
    from runner.errors import Busy, Crash, Stopped
    from runner.run import run as train
    from tasks.errors import UserError

    try:
        run.folder.make()
        with run.folder.log.open("a") as log, redirect_stdout(log), redirect_stderr(log):
            record = train(run.config)
    except (UserError, Crash) as error:
        return "failed", cli.one_line(error)
    except Busy as error:
        return "busy", cli.one_line(error)
    except (Stopped, KeyboardInterrupt) as error:
        return "stopped", cli.one_line(error)
    return ended_as(record)


def ended_as(record: Mapping[str, Any]) -> tuple[str, str]:
    """Return the status and the detail of the outcome that a record tells of."""
    scores, metric = record["results"]["validation"], record["settings"]["task"]["metric"]
    # Validation, not test: who watches a sweep chooses.
    return record["status"], f"validation {metric} {max(scores['last'], scores['averaged']):.3f}"
