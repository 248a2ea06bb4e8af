"""Groups as jobs of Slurm, by submitit: array jobs that save and queue again when stopped."""

import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import submitit
from submitit.helpers import Checkpointable

from sweeps.executors.base import python_path
from sweeps.executors.specs import SlurmSpec
from sweeps.worker import Group, Outcome, work
from tasks.errors import UserError

FOLDER = ".slurm-"  # of submitit's files, in the folder of the runs


class SlurmEngine:
    """Arrays of jobs. One array at a time, so that no more of them run than is allowed."""

    def __init__(self, settings: SlurmSpec, runs_dir: Path) -> None:
        self.slots = self.slots_of(settings)
        self._settings = settings
        # submitit's local jobs all begin at once.
        self._size = settings.array_size if settings.cluster == "slurm" else self.slots
        self._training: list[tuple[submitit.Job[list[Outcome]], Group]] = []
        if settings.cluster == "slurm" and shutil.which("srun") is None:
            raise UserError("executor=slurm: there is no Slurm here (no srun on the PATH)")
        # Numbers of jobs come again: a job must not find the result of an earlier one.
        name = f"{FOLDER}{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(4)}"
        self._submitit = submitit.AutoExecutor(
            runs_dir / name, settings.cluster, slurm_max_num_timeout=settings.timeouts
        )
        self._submitit.update_parameters(**_parameters(settings))

    @staticmethod
    def slots_of(settings: SlurmSpec) -> int:
        """Return how many jobs run at once."""
        return settings.array_parallelism

    @property
    def room(self) -> int:
        """A whole array, once all jobs of the one before have ended."""
        return 0 if self._training else self._size

    def start(self, groups: Sequence[Group]) -> None:
        """Submit the groups as one array."""
        os.environ["PYTHONPATH"] = python_path()  # jobs begin with the environment that is here
        threads = [self._settings.cpus] * len(groups)
        jobs = self._submitit.map_array(GroupJob(), groups, threads)
        self._training = list(zip(jobs, groups, strict=True))

    def ended(self) -> list[tuple[Group, list[Outcome] | str]]:
        """Wait until it is time to look; with all its records there a group has ended."""
        time.sleep(self._settings.poll_seconds)
        if self._settings.cluster == "slurm":
            submitit.SlurmJob.watcher.update()  # left alone, it asks every ten minutes
        over = [
            (job, group)
            for job, group in self._training
            if job.done() or all(run.done for run in group)
        ]
        self._training = [pair for pair in self._training if pair not in over]
        return [(group, _end(job)) for job, group in over]

    def stop(self) -> None:
        """Cancel the jobs: those that train get SIGTERM, and save their state."""
        numbers = {job.job_id.partition("_")[0] for job, _ in self._training}
        if self._settings.cluster == "slurm":
            subprocess.run(["scancel", *numbers], check=False)
            return
        for number in numbers:  # of processes; submitit's own way kills a second after SIGINT
            with suppress(ProcessLookupError):
                os.kill(int(number), signal.SIGTERM)

    def close(self) -> None:
        """Nothing is held."""


class GroupJob(Checkpointable):
    """What a job does: train a group; when its time is up, save, and be queued again.

    submitit's handler of the signal queues the job again and exits at once, in the middle of a
    step. Ours comes before it: it lets the runs save their state, and calls it when they have.
    """

    def __call__(self, group: Group, threads: int) -> list[Outcome]:
        number = submitit.JobEnvironment()._usr_sig()
        queue_again: Any = signal.getsignal(number)
        received: list[int] = []

        def handle(signum: int, frame: FrameType | None) -> None:
            received.append(signum)
            signal.raise_signal(signal.SIGTERM)

        # SIGTERM: outside of the training loop, which has a handler of its own.
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        signal.signal(number, handle)
        try:
            outcomes = work(group, threads)
        except KeyboardInterrupt:
            outcomes = [Outcome(run, "stopped", 0.0, detail="between two runs") for run in group]
        finally:
            signal.signal(number, queue_again)
            signal.signal(signal.SIGTERM, before)
        if received and any(outcome.status == "stopped" for outcome in outcomes):
            queue_again(received[0], None)
        return outcomes


def _end(job: "submitit.Job[list[Outcome]]") -> list[Outcome] | str:
    """Return what a job gave back, or what is known of its death."""
    if not job.paths.result_pickle.exists():
        return f"job {job.job_id} ended without a result, {job.state}"
    try:
        return job.result()
    except submitit.core.utils.UncompletedJobError as error:
        return f"job {job.job_id}: {type(error).__name__}, see {job.paths.stderr}"


def _parameters(settings: SlurmSpec) -> dict[str, Any]:
    """Return the settings under submitit's names."""
    slurm = {
        "partition": settings.partition,
        "account": settings.account,
        "qos": settings.qos,
        "constraint": settings.constraint,
        "setup": settings.setup,
        "array_parallelism": settings.array_parallelism,
        "signal_delay_s": settings.signal_seconds,
        "additional_parameters": {"requeue": True},  # Slurm may be set up not to
    }
    return {
        "name": "dog-bench",
        "timeout_min": settings.minutes,
        "cpus_per_task": settings.cpus,
        "gpus_per_node": settings.gpus or None,
        "mem_gb": settings.memory_gb,
        **{f"slurm_{name}": value for name, value in slurm.items()},
    }
