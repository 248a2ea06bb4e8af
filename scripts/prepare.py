"""Fetches data and weights: python scripts/prepare.py [task ...]

Without a task, those of all tasks, and the package that tests and benchmarks compare ours with.
"""

import sys
from pathlib import Path

from omegaconf import OmegaConf

from runner import cli
from runner.config import CONFIGS, ROOT, did_you_mean
from tasks.errors import UserError
from tasks.sources import Source, default_data_dir, fetch, source_from


def main() -> None:
    """Fetch what is not there yet."""
    data_dir = default_data_dir()
    for source in sources(sys.argv[1:]):
        print(f"{fetch(source, data_dir)}")


def sources(tasks: list[str]) -> list[Source]:
    """Return the archives of the named tasks' data (of all, if none is named) and of all models."""
    known = sorted(path.stem for path in (CONFIGS / "task").glob("*.yaml"))
    for task in tasks:
        if task not in known:
            raise UserError(f"there is no task={task}: {did_you_mean(task, known)}")
    files = [CONFIGS / "task" / f"{task}.yaml" for task in tasks or known]
    files += sorted((CONFIGS / "model").glob("*.yaml"))
    files += [] if tasks else [ROOT / "benchmarks" / "dog_optimizer.yaml"]
    return list(dict.fromkeys(source for file in files for source in _in(file)))


def _in(file: Path) -> list[Source]:
    content = OmegaConf.load(file)
    blocks = [content, content.get("data"), content.get("weights")]
    return [
        source_from(OmegaConf.to_container(block.source))
        for block in blocks
        if block and "registry" in block.get("source", {})
    ]


if __name__ == "__main__":
    cli.main(main)
