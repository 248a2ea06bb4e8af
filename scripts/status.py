"""Shows how far runs are: python scripts/status.py [SWEEP] [runs_dir=...] [key=value ...]

Without a sweep, all runs of the folder, by task and optimizer; with one (configs/sweep, or a path),
what of its plan is done, running, failed and missing, and how long it will still take.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the suite is not installed

from runner import cli
from sweeps import status


def main() -> None:
    """Print it."""
    words = sys.argv[1:]
    print(__doc__ if {"-h", "--help"} & set(words) else status.of_command(words))


if __name__ == "__main__":
    cli.main(main)
