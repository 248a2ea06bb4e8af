"""Fetches data and weights: python scripts/prepare.py [task ...]

Without a task, those of all tasks and all models, and the package that tests and benchmarks compare
ours with.
"""

import sys

from benchmarks import published
from runner import cli, config
from runner.downloads import sources
from tasks.sources import Source, default_data_dir, fetch


def main() -> None:
    """Fetch what is not there yet."""
    data_dir = default_data_dir()
    for source in _needed(sys.argv[1:]):
        print(fetch(source, data_dir))


def _needed(tasks: list[str]) -> list[Source]:
    if tasks:
        return sources(config.load([f"task={task}"]) for task in tasks)
    commands = [[f"task={path.stem}"] for path in sorted((config.CONFIGS / "task").glob("*.yaml"))]
    for path in sorted((config.CONFIGS / "model").glob("*.yaml")):
        task = "movies" if "language" in path.read_text() else "cifar"
        commands.append([f"task={task}", f"model={path.stem}"])
    return [*sources(map(config.load, commands)), published.source()]


if __name__ == "__main__":
    sys.path.insert(0, str(config.ROOT))
    cli.main(main)
