"""Makes results/records.csv, the tables and the figures from the records of all runs.

Of the project's own results also docs/findings.md and the README's tables, from the archive alone.
"""

import argparse
import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the suite is not installed

from analysis import report
from runner import ROOT, cli

RESULTS = ROOT / "results"


def main() -> None:
    """Make them and say where they are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, help="where tables are written")
    parser.add_argument("--runs", type=Path, help="folder of the records (default: RESULTS/runs)")
    parser.add_argument("--problems", help="print the tables of these problem ids, comma-separated")
    options = parser.parse_args()
    logging.basicConfig(format="warning: %(message)s", force=True)
    problem_ids = [one for one in (options.problems or "").split(",") if one]
    runs = options.runs or options.results / "runs"
    print(report.write_results(runs, options.results, problem_ids))
    if options.results == RESULTS:
        from analysis.findings.values import write_pages  # here, as `--help` needs none of it

        paths = (str(path.relative_to(RESULTS.parent)) for path in write_pages(RESULTS.parent))
        print(f"from the archive: {', '.join(paths)}")


if __name__ == "__main__":
    cli.main(main)
