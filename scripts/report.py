"""Makes results/report.html, one page that works offline, from the records of all runs."""

import argparse
import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the suite is not installed

from runner import ROOT, cli

RESULTS = ROOT / "results"


def main() -> None:
    """Make it and say where it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the archive lies")
    parser.add_argument("--runs", type=Path, help="folder of the records (default: RESULTS/runs)")
    parser.add_argument("--output", type=Path, help="the file (default: RESULTS/report.html)")
    parser.add_argument("--picture", type=Path, help="also take a picture of its top (Chromium)")
    options = parser.parse_args()
    logging.basicConfig(format="warning: %(message)s", force=True)
    from analysis import report  # here, so that --help is answered at once

    output = options.output or options.results / "report.html"
    print(report.write_report(options.runs or options.results / "runs", options.results, output))
    if options.picture:
        from analysis.html.picture import take_picture

        take_picture(output, options.picture)
        print(f"its picture: {options.picture}")


if __name__ == "__main__":
    cli.main(main)
