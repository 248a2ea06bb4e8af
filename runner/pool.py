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
from contextlib import contextmanager

from runner.plan import PlannedRun
from runner.worker import Outcome, work


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
            (outcome,) = pool.submit(work, (run,), threads).result()
            status, detail = outcome.status, outcome.detail
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
