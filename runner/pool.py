"""Many runs on one machine: a few worker processes, each with its share of the cores."""

import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass

from runner.plan import PlannedRun


@dataclass(frozen=True)
class Outcome:
    """How a planned run ended."""

    run: PlannedRun
    status: str  # finished | diverged | failed | busy | stopped
    detail: str  # the score, or what went wrong
    seconds: float


def run_all(runs: Iterable[PlannedRun], jobs: int, threads: int) -> Iterator[Outcome]:
    """Train the runs, so many at a time, and yield each outcome as it comes.

    A worker that dies takes one run with it and is replaced. SIGINT and SIGTERM let the workers
    save their state; what was not begun is not yielded.
    """
    waiting: queue.SimpleQueue[PlannedRun] = queue.SimpleQueue()
    for run in runs:
        waiting.put(run)
    outcomes: queue.SimpleQueue[Outcome | None] = queue.SimpleQueue()
    stop = threading.Event()
    slots = [
        threading.Thread(target=_slot, args=(waiting, outcomes, stop, threads)) for _ in range(jobs)
    ]
    with _stopping(stop):
        for slot in slots:
            slot.start()
        busy = jobs
        try:
            while busy:
                outcome = outcomes.get()
                if outcome is None:
                    busy -= 1
                else:
                    yield outcome
            if stop.is_set():
                raise KeyboardInterrupt
        finally:  # whoever reads the outcomes may give up, too
            stop.set()


def _slot(
    waiting: "queue.SimpleQueue[PlannedRun]",
    outcomes: "queue.SimpleQueue[Outcome | None]",
    stop: threading.Event,
    threads: int,
) -> None:
    """Feed one worker process until there is nothing left, then say None."""
    pool = _worker(threads)
    while not stop.is_set():
        try:
            run = waiting.get_nowait()
        except queue.Empty:
            break
        began = time.monotonic()
        try:
            status, detail = pool.submit(_train, run).result()
        except BrokenProcessPool:
            if stop.is_set():
                status, detail = "stopped", "between two checkpoints"
            else:  # the system killed it (memory?); a checkpoint may be there for the next try
                status, detail = "failed", f"the worker process died (see {run.folder.log})"
            pool = _worker(threads)
        except Exception as error:
            status, detail = "failed", f"{type(error).__name__}: {error}"
        outcomes.put(Outcome(run, status, detail, time.monotonic() - began))
    pool.shutdown()
    outcomes.put(None)


def _worker(threads: int) -> ProcessPoolExecutor:
    # A fresh interpreter: a fork would copy this one's threads and locks in mid-flight.
    return ProcessPoolExecutor(
        1, multiprocessing.get_context("spawn"), initializer=_set_up_worker, initargs=(threads,)
    )


def _set_up_worker(threads: int) -> None:
    """Take the share of the cores, leave Ctrl-C to the driver, and do not outlive it."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_driver, daemon=True).start()


def _follow_driver() -> None:
    driver = multiprocessing.parent_process()
    assert driver is not None
    driver.join()
    while True:  # the first signal lets a run save its state, the next ends the process
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(2)


def _train(run: PlannedRun) -> tuple[str, str]:
    """Train one run inside a worker; what it prints goes to its log."""
    import torch

    from runner import cli
    from runner.errors import Busy, Crash, Stopped
    from runner.run import run as train
    from tasks.errors import UserError

    # Anew for each run: one that was resumed may have taken the number of its checkpoint.
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
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
    scores, metric = record["results"]["validation"], record["settings"]["task"]["metric"]
    # Validation, not test: who watches a sweep chooses.
    return record["status"], f"validation {metric} {max(scores['last'], scores['averaged']):.3f}"


@contextmanager
def _stopping(stop: threading.Event) -> Iterator[None]:
    """On SIGINT or SIGTERM begin nothing new and ask the workers to save and stop."""

    def handle(signum: int, frame: object) -> None:
        stop.set()
        for child in multiprocessing.active_children():
            assert child.pid is not None
            os.kill(child.pid, signal.SIGTERM)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
