"""How many CPU cores this process may use, which may be fewer than the machine has."""

import os
from contextlib import suppress
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def usable_cores(own_groups: Path = Path("/proc/self/cgroup"), mounted: Path = CGROUPS) -> int:
    """Return the number of cores that affinity, as Slurm sets it, and containers' quotas leave.

    Of a quota of 1.5 cores it is 1: a second thread would wait half of the time.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:  # not on macOS
        cores = os.cpu_count() or 1
    return max(1, min([cores, *map(int, _quotas(own_groups, mounted))]))


def asked_threads() -> int | None:
    """Return the number of threads that OMP_NUM_THREADS asks for, None if it asks for none."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) > 0 else None


def wait_without_work() -> None:
    """Let threads of torch that wait for each other sleep; to be called before torch is imported.

    By default they keep their cores busy. Where another process has one of two cores, a step waits
    until both threads run at once: beside others it is several times slower (docs/sweeps.md).
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _quotas(own_groups: Path, mounted: Path) -> list[float]:
    """Return the quotas of this process's cgroups and of those that they are in, in cores."""
    with suppress(OSError):
        quotas = []
        for line in own_groups.read_text().splitlines():
            _, controllers, name = line.split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            # In a container its own group may be mounted as the root.
            groups = [mounted / controllers / name.lstrip("/"), mounted / controllers]
            for group in {group: None for start in groups for group in (start, *start.parents)}:
                if group.is_relative_to(mounted):
                    quotas += _quota(group)
        return quotas
    return []


def _quota(group: Path) -> list[float]:
    """Return the quota of one cgroup, of version 2 or 1, in cores; nothing if it has none."""
    with suppress(OSError, ValueError):
        limit, period = (group / "cpu.max").read_text().split()
        return [] if limit == "max" else [int(limit) / int(period)]
    with suppress(OSError, ValueError):
        limit = (group / "cpu.cfs_quota_us").read_text()
        period = (group / "cpu.cfs_period_us").read_text()
        return [int(limit) / int(period)] if int(limit) > 0 else []
    return []
