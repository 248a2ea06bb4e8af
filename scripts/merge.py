"""Takes the runs of another archive into results/archive: python scripts/merge.py FROM

FROM is a file *.jsonl.gz, a folder of such files, or a folder of runs (of another machine). A run
that is here already stays as it is; where the other one differs, a line says so.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the suite is not installed

from runner import ROOT, cli
from sweeps.packing import merge

ARCHIVE = ROOT / "results" / "archive"


def main() -> None:
    """Merge and say what came of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, metavar="FROM")
    parser.add_argument("--archive", type=Path, default=ARCHIVE, help="default: results/archive")
    options = parser.parse_args()
    print("\n".join(merge(options.source, options.archive)))


if __name__ == "__main__":
    cli.main(main)
