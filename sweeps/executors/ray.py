"""Groups as tasks of a Ray cluster: one that is there, or one of this machine for the while."""

import logging
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, TaskCancelledError

from sweeps.executors.base import PATIENCE, python_path
from sweeps.executors.specs import RaySpec
from sweeps.worker import Group, Outcome, work
from tasks.errors import UserError, reason

logger = logging.getLogger(__name__)

# Groups that Ray knows of at a time; it keeps their arguments in memory.
IN_FLIGHT = 1000
# What a worker elsewhere must have as this process has it, to find data and weights.
PASSED_ON = ("DOG_BENCH_DATA", "XDG_CACHE_HOME", "HF_HOME", "HF_HUB_OFFLINE")
# Least that Ray allows, nearly: configurations and outcomes are small.
OBJECT_STORE_BYTES = 100 * 2**20


class RayEngine:
    """Tasks of Ray with the resources of the settings; Ray queues and places them."""

    def __init__(self, settings: RaySpec, runs_dir: Path) -> None:
        self._address = settings.address or os.environ.get("RAY_ADDRESS") or "local"
        self._resources = {"CPU": settings.cpus, "GPU": settings.gpus}
        self._threads = max(1, int(settings.cpus))
        if ":" in self._address:
            _check_reachable(self._address)
        _connect(self._address, self._threads)
        # The executor tries again what has no record; for want of memory Ray would without end.
        self._train = ray.remote(num_cpus=settings.cpus, num_gpus=settings.gpus, max_retries=0)(
            _train
        )
        self._training: dict[Any, Group] = {}
        if not self._capacity():
            wanted = f"executor.cpus={settings.cpus} and executor.gpus={settings.gpus}"
            if self._address == "local":
                ray.shutdown()
                raise UserError(f"this machine has not {wanted}: ask for less")
            logger.warning("no node of the Ray cluster has %s: waiting for one", wanted)

    @staticmethod
    def slots_of(settings: RaySpec) -> int:
        """Return one, as the cluster is not asked."""
        return 1

    @property
    def slots(self) -> int:
        """How many groups the cluster has the resources for, at least one."""
        return max(1, self._capacity())

    @property
    def room(self) -> int:
        """How many more groups Ray may be told of."""
        return IN_FLIGHT - len(self._training)

    def start(self, groups: Sequence[Group]) -> None:
        """Hand the groups to Ray."""
        for group in groups:
            task = self._train.remote(group, self._threads, str(Path.cwd()))
            self._training[task] = group

    def ended(self) -> Iterator[tuple[Group, list[Outcome] | str]]:
        """Wait for a moment for a task to end."""
        done, _ = ray.wait(list(self._training), num_returns=1, timeout=PATIENCE)
        for task in done:
            group = self._training.pop(task)
            try:
                yield group, ray.get(task)
            except TaskCancelledError:
                yield group, "between two checkpoints"
            except RayError as error:
                yield group, f"Ray: {type(error).__name__}: {str(error).strip().splitlines()[-1]}"

    def stop(self) -> None:
        """Cancel the tasks: those that train get SIGINT, and save their state."""
        for task in self._training:
            ray.cancel(task)

    def close(self) -> None:
        """Leave the cluster; end it if it was only ours."""
        ray.shutdown()

    def _capacity(self) -> int:
        wanted = {name: amount for name, amount in self._resources.items() if amount}
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        return sum(
            min(int(node.get(name, 0) / amount) for name, amount in wanted.items())
            for node in nodes
        )


def _check_reachable(address: str) -> None:
    """Refuse an address where nothing listens; Ray would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        raise UserError(f"cannot reach the Ray cluster {address}: {error}") from error


def _connect(address: str, threads: int) -> None:
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    environment |= {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    # The checkout lies on a shared file system: nothing is uploaded.
    environment["PYTHONPATH"] = python_path()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    local: dict[str, Any] = {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
    try:
        ray.init(
            address,
            runtime_env={"env_vars": environment},
            log_to_driver=False,
            logging_level=logging.ERROR,
            **(local if address == "local" else {}),
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(f"cannot reach the Ray cluster {address}: {reason(error)}") from error


def _train(group: Group, threads: int, folder: str) -> list[Outcome]:
    os.chdir(folder)  # data_dir and the like may be relative to it
    return work(group, threads)
