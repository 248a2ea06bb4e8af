"""Fetches data and weights: python scripts/prepare.py [task ...]

Without a task, those of all tasks and all models, and the package that tests and benchmarks compare
ours with.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the suite is not installed

from runner import cli, config
from runner.downloads import everything, sources
from tasks.sources import default_data_dir, fetch


def main() -> None:
    """Fetch what is not there yet."""
    tasks = sys.argv[1:]
    needed = sources(config.load([f"task={task}"]) for task in tasks) if tasks else everything()
    for source in needed:
        print(fetch(source, default_data_dir()))


if __name__ == "__main__":
    cli.main(main)
