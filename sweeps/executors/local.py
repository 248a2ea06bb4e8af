"""Groups in processes of this machine, each with its share of the cores or of a GPU."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from runner import config as configuration
from runner.cores import asked_threads, usable_cores
from sweeps.executors.base import PATIENCE
from sweeps.executors.specs import LocalSpec
from sweeps.worker import Group, Outcome, work
from tasks.errors import UserError

# What CUDA_VISIBLE_DEVICES may hold in place of a GPU's name; the last is Slurm's.
NO_GPU = ("", "-1", "NoDevFiles")


class LocalEngine:
    """A few worker processes; one that dies takes its group with it and is replaced."""

    def __init__(self, settings: LocalSpec, runs_dir: Path) -> None:
        devices = _devices(settings.gpus, settings.gpu_share)
        self.slots = self.slots_of(settings)
        self.threads = asked_threads() or max(1, usable_cores() // self.slots)
        # Where GPUs are not asked for, workers see what this process sees.
        by_slot = islice(cycle(devices or [None if settings.gpus is None else ""]), self.slots)
        self._idle = [_Slot(self.threads, device) for device in by_slot]
        self._training: dict[Future[list[Outcome]], tuple[_Slot, Group]] = {}

    @staticmethod
    def slots_of(settings: LocalSpec) -> int:
        """Return how many workers there will be."""
        devices = _devices(settings.gpus, settings.gpu_share)
        return settings.workers or len(devices) or max(1, usable_cores() // (asked_threads() or 1))

    @property
    def room(self) -> int:
        """How many workers have nothing to do."""
        return len(self._idle)

    def start(self, groups: Sequence[Group]) -> None:
        """Give each group to a worker."""
        for group in groups:
            slot = self._idle.pop()  # the latest, whose process is running
            self._training[slot.train(group)] = slot, group

    def ended(self) -> Iterator[tuple[Group, list[Outcome] | str]]:
        """Wait for a moment for workers to end their groups."""
        done, _ = wait(self._training, PATIENCE, return_when=FIRST_COMPLETED)
        for future in done:
            slot, group = self._training.pop(future)
            self._idle.append(slot)
            try:
                yield group, future.result()
            except BrokenProcessPool:  # the system killed it (memory?), or we did
                slot.renew()
                yield group, "the worker process died"
            except Exception as error:  # such as CUDA's, which every later run would meet
                slot.renew()
                yield group, f"{type(error).__name__}: {error}"

    def stop(self) -> None:
        """Send SIGTERM to the workers."""
        for child in multiprocessing.active_children():
            assert child.pid is not None
            with suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGTERM)

    def close(self) -> None:
        """End the workers, once they have ended their groups."""
        for slot in [*self._idle, *(slot for slot, _ in self._training.values())]:
            slot.pool.shutdown()


class _Slot:
    """A worker process, started when there is something to do."""

    def __init__(self, threads: int, device: str | None) -> None:
        self._arguments = threads, device
        self.pool = self._new_pool()

    def renew(self) -> None:
        """Put a new process in the place of one that is dead or of no more use."""
        self.pool.shutdown(wait=False)
        self.pool = self._new_pool()

    def _new_pool(self) -> ProcessPoolExecutor:
        # A fresh interpreter: a fork would copy this one's threads and locks in mid-flight.
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(
            1,
            context,
            initializer=_set_up_worker,
            initargs=(*self._arguments, configuration.what_was_composed()),
        )

    def train(self, group: Group) -> "Future[list[Outcome]]":
        """Start to train a group."""
        threads, _ = self._arguments
        try:
            return self.pool.submit(work, group, threads)
        except BrokenProcessPool:  # it died while it had nothing to do
            self.renew()
            return self.pool.submit(work, group, threads)


def _devices(count: int | None, share: float) -> list[str]:
    """Return a GPU's name for each worker, GPUs in turn."""
    visible = [] if count == 0 else _visible_gpus()
    if count is not None and count > len(visible):
        raise UserError(f"executor.gpus={count}: there are {len(visible)} here")
    return visible[:count] * int(1 / share)


def _visible_gpus() -> list[str]:
    """Return the names of the GPUs that CUDA would see, without starting CUDA in this process."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name for name in chosen.split(",") if name.strip() not in NO_GPU]
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    # Without a working driver it fails, and there are no GPUs to use.
    found = subprocess.run(query, capture_output=True, text=True, check=False)
    return found.stdout.split() if found.returncode == 0 else []


def _set_up_worker(threads: int, device: str | None, composed: Any) -> None:
    """Take the share of the machine, leave Ctrl-C to the driver, and do not outlive it.

    What the driver has composed, the worker need not compose again: seconds in all.
    """
    configuration.take_over(composed)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_driver, daemon=True).start()


def _follow_driver() -> None:
    driver = multiprocessing.parent_process()
    assert driver is not None
    driver.join()
    while True:  # the first signal lets a run save its state, the next ends the process
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(2)
