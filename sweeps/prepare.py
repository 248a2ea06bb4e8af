"""Fetches data and weights before anything is trained: of tasks, of sweeps, or all there are."""

import sys
from collections.abc import Iterator, Sequence

from runner import config
from runner.downloads import everything, fetch_all
from sweeps import plan
from tasks.data.sources import fetch


def fetched(words: Sequence[str]) -> Iterator[str]:
    """Fetch what the words of a command line ask for; yield what is here now, and where.

    The words are tasks, sweeps (``sweep=NAME``) and overrides. Without a task or a sweep, it is all
    that package registries have.

    Raises:
        UserError: for words that name what there is not; if anything that is needed is missing.
    """
    tasks = [word.removeprefix("task=") for word in words if _is_task(word)]
    sweeps = [word.removeprefix("sweep=") for word in words if word.startswith("sweep=")]
    options = [word for word in words if not _is_task(word) and not word.startswith("sweep=")]
    if tasks or sweeps:
        configs = [config.load([f"task={task}", *options]) for task in tasks]
        configs += [cell.config for name in sweeps for cell in plan.load(name, options).cells]
        yield from fetch_all(configs) or ["nothing is needed"]
        return
    archives, others = everything()
    data_dir = config.load(options).execution.data
    for archive in archives:
        yield str(fetch(archive, data_dir))
    print(
        f"not fetched, as they come from elsewhere: {', '.join(others)} (scripts/prepare.py "
        "TASK fetches those of a task)",
        file=sys.stderr,
    )


def _is_task(word: str) -> bool:
    return "=" not in word or word.startswith("task=")
