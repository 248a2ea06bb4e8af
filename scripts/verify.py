"""Trains archived runs again and says whether they agree: python scripts/verify.py [key=value ...]

Some runs of results/archive are drawn by chance, those of a GPU only where one is used, and trained
in a scratch folder. On a CPU, where all is equal that can change a run's last digits, it must agree
to the last digit; else its test scores may differ by as much as the seeds of its problem and
optimizer do. key=value holds for every run
(device=, threads=, data_dir=). Exit status 1 if a run does not agree, or none can be compared.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the suite is not installed

from runner import ROOT, cli
from sweeps.verify import report

ARCHIVE = ROOT / "results" / "archive"


def main() -> int:
    """Print a line for each run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--number", type=_count, default=5, help="how many runs (default 5)")
    parser.add_argument("--draw", type=int, help="draws the same runs again (default: by chance)")
    parser.add_argument("--archive", type=Path, default=ARCHIVE, help="default: results/archive")
    options = parser.parse_args()
    return report(options.archive, options.number, options.draw, options.overrides)


def _count(text: str) -> int:
    """Return a number of runs, which must be above 0."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be above 0")
    return number


if __name__ == "__main__":
    cli.main(main)
