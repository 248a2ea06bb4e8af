"""Makes the paper's tables and figures again from what it published, results/paper."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the suite is not installed

from analysis.paper.reproduction import write_reproduction
from runner import ROOT, cli

RESULTS = ROOT / "results"


def main() -> None:
    """Make them and say where they are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, help="where they are written")
    results = parser.parse_args().results
    for path in write_reproduction(RESULTS / "paper", results / "tables", results / "figures"):
        print(path.relative_to(results))


if __name__ == "__main__":
    cli.main(main)
