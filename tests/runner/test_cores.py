"""A sweep takes the cores that it may use, and as many threads as it is asked to."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from runner import cores
from runner.cores import usable_cores
from sweeps import executors
from sweeps.executors.local import LocalEngine


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A function that puts this process on cores of a machine with 64, below cgroups' quotas."""
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    own, mounted = tmp_path / "cgroup", tmp_path / "sys"

    def make(affinity, group="0::/", **quotas):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(affinity)), raising=False)
        own.write_text(f"9:name=systemd:/\n{group}\n")
        for folder, content in quotas.items():
            path = mounted / folder.replace("__", "/")
            path.mkdir(parents=True, exist_ok=True)
            for name, text in content.items():
                (path / name).write_text(text)
        monkeypatch.setattr(cores.usable_cores, "__defaults__", (own, mounted))

    return make


V2 = {"cpu.max": "250000 100000\n"}
V1 = {"cpu.cfs_quota_us": "150000\n", "cpu.cfs_period_us": "100000\n"}
FREE_V1 = {"cpu.cfs_quota_us": "-1\n", "cpu.cfs_period_us": "100000\n"}


@pytest.mark.parametrize(
    ("affinity", "group", "quotas", "expected"),
    [
        (64, "0::/", {}, 64),
        (4, "0::/", {}, 4),  # 4 of 64 in an allocation of Slurm's
        (64, "0::/user/job", {"user__job": V2}, 2),
        (64, "0::/user/job", {"user": V2, "user__job": {"cpu.max": "max 100000\n"}}, 2),
        (64, "0::/not/mounted/here", {"": V2}, 2),  # as containers have it
        (1, "0::/user", {"user": V2}, 1),
        (64, "3:cpu,cpuacct:/docker/a", {"cpu,cpuacct__docker__a": V1}, 1),
        (64, "3:cpu:/", {"cpu": FREE_V1}, 64),
        (64, "3:memory:/a", {"a": V1}, 64),
    ],
)
def test_cores_are_those_that_the_process_may_use(machine, affinity, group, quotas, expected):
    machine(affinity, group, **quotas)
    assert usable_cores() == expected


def threads_and_workers(*words):
    """How many threads a worker of executor=local has, and how many workers there are."""
    settings = executors.settings(["executor.gpus=0", *words])
    engine = LocalEngine(settings, Path())  # which starts no worker before it has something to do
    assert engine.slots == executors.slots(settings)
    return engine.threads, engine.slots


def test_workers_are_as_many_as_cores_may_be_used(machine):
    machine(4)
    assert threads_and_workers() == (1, 4)
    assert threads_and_workers("executor.workers=1") == (4, 1)


@pytest.mark.parametrize(
    ("variable", "workers", "expected"),
    [
        ("1", "1", (1, 1)),
        ("2", "1", (2, 1)),
        ("2", "null", (2, 2)),
        ("3,2", "null", (3, 1)),
        ("", "2", (2, 2)),
        ("none", "2", (2, 2)),
    ],
)
def test_workers_have_the_threads_that_the_environment_asks_for(
    machine, monkeypatch, variable, workers, expected
):
    machine(4)
    monkeypatch.setenv("OMP_NUM_THREADS", variable)
    assert threads_and_workers(f"executor.workers={workers}") == expected


@pytest.mark.parametrize(("given", "found"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_that_wait_leave_their_cores_to_others(given, found, monkeypatch):
    """It is said before torch is imported, which reads it once."""
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment |= {"OMP_WAIT_POLICY": given} if given else {}
    script = (
        "import os, sys\nimport run, sweeps.worker\nfrom runner import cli\n"
        "cli.main(lambda: print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [found, "False"]
