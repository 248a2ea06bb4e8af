"""Hydra's multirun, with an error line for each job that failed and not for the first alone."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher

from runner import cli
from tasks.data.storage import RUNS_DIR, translate_os_errors


def report_all_errors() -> None:
    """Have each launcher that Hydra makes in this process report the errors of all its jobs."""
    plugins: Any = Plugins.instance()
    make: Callable[..., Launcher] = plugins.instantiate_launcher

    def make_and_wrap(**arguments: Any) -> Launcher:
        _check_folder(Path(arguments["config"].hydra.sweep.dir))
        launcher: Any = make(**arguments)
        launch = launcher.launch

        def launch_and_report(jobs: Sequence[Sequence[str]], **where: Any) -> Sequence[JobReturn]:
            results = launch(jobs, **where)
            _report(jobs, results)
            return results

        launcher.launch = launch_and_report
        return launcher

    plugins.instantiate_launcher = make_and_wrap


def _report(jobs: Sequence[Sequence[str]], results: Sequence[JobReturn]) -> None:
    """Print a line for each job that failed, with its overrides that not all jobs have; exit then.

    The exit status is the lowest of theirs: a crash is the worst.
    """
    common = set.intersection(*map(set, jobs))
    statuses = []
    for words, result in zip(jobs, results, strict=True):
        if result.status == JobStatus.FAILED:
            where = " ".join(word for word in words if word not in common)
            # The public `return_value` raises the error, and prints lines of its own.
            statuses.append(cli.report(result._return_value, f"{where}: " if where else ""))
    if statuses:
        sys.exit(min(statuses))


def _check_folder(folder: Path) -> None:
    """Make the folder of Hydra's own files, or say why that cannot be."""
    with translate_os_errors(folder, RUNS_DIR):
        folder.mkdir(parents=True, exist_ok=True)
